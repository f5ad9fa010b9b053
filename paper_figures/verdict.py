"""The verdict: each claim of [Z], what was found, by how much, and where a difference comes from.

Every sentence is put together from the data frames of the other modules; which words are taken is decided by rules.
Those on what is found, not shown and excluded were fixed before any table was published; those on rows, on shares of
the baseline and on flipped signs were added later:

* Rows are compared as *chosen on other images*, at the radii that both can reach with the draws that they have.
* A difference is *found* at a radius where McNemar's exact test, after Holm's correction over the radii of its table,
  is below 0.05; otherwise it is *not shown*, which is not the same as being 0: the intervals say how large it may be.
* A printed gain is *excluded* at a radius where the whole 95 % interval of ours lies below it; as a share of the
  baseline, where the interval in percent of our baseline's figure does. [Z]'s gains are taken as printed, in whole
  percents; their rounding alone can be a point. What is excluded on these networks is not refuted for [Z]'s.
* A case of a statement agrees where it does not contradict it by more than its stated error: one that is too small to
  tell counts as agreement.
* A change of probability is *shown* where its 95 % interval excludes 0; one interval in twenty does by chance. More
  than chance would show is found where a test that flips the signs of all changes image by image is below 0.05.

Each question is asked at 0.05 for itself, each interval holds for one radius: among so many, one or two will err.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pandas as pd

from paper_figures import ablation, comparison, tables
from paper_figures.accuracy import BEST, CHOSEN
from paper_figures.profiles import Profile, profile
from paper_figures.theory.statements import OWN
from paper_figures.votes import load

SIGNIFICANT: Final = 0.05
STATEMENTS: Final = "Statements of [Z], tried by computation"
OWN_STATEMENTS: Final = "Statements of this project beside them, tried by computation"
NAMES: Final = {1: "Table 1, L1, Eq. 10", 2: "Table 2, L2, Eq. 11", 3: "Table 3, Linf, Eq. 13"}


class Evidence(NamedTuple):
    """What the verdict rests on.

    Attributes:
        tables: long form, all three.
        comparisons: of module ``comparison``, all three.
        certificates: of ``ablation.certificate``, all three, with a column table.
        exponent: of ``ablation.exponent``.
        chance: of ``ablation.chance``.
        profile: how all of it was made.
        statements: of ``theory.claims.summary``: statement, cases, agree, verdict; None leaves the theory out.
    """

    tables: pd.DataFrame
    comparisons: pd.DataFrame
    certificates: pd.DataFrame
    exponent: pd.DataFrame
    chance: pd.DataFrame
    profile: Profile
    statements: pd.DataFrame | None = None


def evidence(
    chosen: Profile | None = None, votes: pd.DataFrame | None = None, screened: pd.DataFrame | None = None,
    statements: pd.DataFrame | None = None,
) -> Evidence:  # fmt: skip
    """Return what the verdict rests on, from the committed votes unless others are given."""
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    return Evidence(
        tables=pd.concat([tables.compute(n, chosen, votes) for n in NAMES], ignore_index=True),
        comparisons=pd.concat([comparison.compute(n, chosen, votes) for n in NAMES], ignore_index=True),
        certificates=pd.concat([ablation.certificate(n, chosen, votes).assign(table=n) for n in NAMES]),
        exponent=ablation.exponent(screened),
        chance=ablation.chance(screened),
        profile=chosen,
        statements=statements,
    )


def compute(found: Evidence) -> pd.DataFrame:
    """Return the verdict, one row per question.

    Returns:
        Columns topic, question, answer (a few words), figures (sentences with the numbers).
    """
    rows: list[dict[str, str]] = []
    for (number, dataset), part in found.comparisons.groupby(["table", "dataset"], sort=False):
        topic = f"{NAMES[number]}, {dataset}"
        table, certificates = (
            frame[(frame["table"] == number) & (frame["dataset"] == dataset)]
            for frame in (found.tables, found.certificates)
        )
        rows += [
            _against(topic, part, tables.BASELINE.name, "Does the family certify more than the paper's baseline?"),
            _against(topic, part, tables.RETUNED.name, "Does it certify more than a re-tuned baseline?"),
            _retuning(topic, part),
            _selecting(topic, table),
            _certifying(topic, certificates),
        ]
    for family, table in (("l1_exponential", 1), ("l2_exponential", 2), ("mixed_norm", 3)):
        chance = found.chance[found.chance["family"] == family].iloc[0]
        pairs = found.exponent[found.exponent["family"] == family]
        rows.append(_exponent(f"{NAMES[table]}: the exponent alone", pairs, chance))
    if found.statements is not None:
        rows += [_statement(line) for line in found.statements.to_dict("records")]
    return pd.DataFrame(rows)


def page(rows: pd.DataFrame, found: Evidence) -> str:
    """Return the verdict as Markdown: what was measured, the questions by topic, the tables."""
    images = int(found.tables.loc[found.tables["row"] == tables.FAMILY.name, "images"].max())
    alpha = found.profile.alpha
    lines = [
        "# What holds",
        "",
        "Written by `python -m paper_figures verdict`. [Z] is Zhang et al., *Black-Box Certification with Randomized "
        "Smoothing: A Functional Optimization Based Framework* (NeurIPS 2020).",
        "",
        f"Measured with {found.profile.described}; {images} images a table. Votes stop early. A certificate that was "
        f"chosen on other images is wrong with a probability of at most {alpha:g} for each image; what is best on the "
        "test images was chosen by the votes that certify it, and has no such guarantee. Where the Monte-Carlo dual is "
        f"used, {alpha / 10.0:g} of this belong to it, for all images together. Scales were picked on other images "
        "than those of the tables.",
        "",
        _headline(found),
        "",
        *(__doc__ or "").split("\n\n", 1)[1].strip().splitlines(),
    ]
    for topic, group in rows.groupby("topic", sort=False):
        lines += ["", f"## {topic}", ""]
        for line in group.to_dict("records"):
            lines.append(f"* **{line['question']}** {line['answer']} {line['figures']}")
    for number, dataset in found.comparisons[["table", "dataset"]].drop_duplicates().itertuples(index=False):
        title = f"## Table {number}, {dataset}: certified accuracy in percent, with 95 % intervals over images"
        lines += ["", title, *_markdown(found.tables, number, dataset)]
    lines += ["", f"0* says that a radius is {tables.OUT_OF_REACH} of the draws, whatever the votes."]
    return "\n".join(lines) + "\n"


def _headline(found: Evidence) -> str:
    """Return the verdict on the tables in a few sentences."""
    said = []
    for against, name in ((tables.BASELINE, "the paper's baseline"), (tables.RETUNED, "a re-tuned one")):
        part = found.comparisons
        part = part[(part["row"] == tables.FAMILY.name) & (part["against"] == against.name) & part["in_reach"]]
        more, less = _found(part)
        said.append(f"against {name} at {more} of {len(part)} radii, and less at {less}")
    gain = found.certificates["gain"]
    changed = found.chance["p_value"].min()
    return (
        f"**In short.** The families of [Z] are found to certify more {'; '.join(said)}. At one second moment the "
        f"exponent k is {'' if changed < SIGNIFICANT else 'not '}found to change how often a network is right. On the "
        f"same votes the exact certificate certifies {gain.mean():.1f} points more than a Monte-Carlo dual of "
        f"{found.profile.dual_draws} draws, on average over noises and radii. [Z]'s own votes are not published."
    )


def _against(topic: str, part: pd.DataFrame, against: str, question: str) -> dict[str, str]:
    """Judge the family's exact certificate against a row, at the radii of a table that both reach."""
    whole = part[(part["row"] == tables.FAMILY.name) & (part["against"] == against)]
    group = whole[whole["in_reach"]]
    more, less = _found(group)
    beyond = f", {len(whole) - len(group)} more are out of reach" if len(whole) > len(group) else ""
    figures = (
        f"Differences over {len(group)} radii{beyond}: {_range(group['difference'])} points, mean "
        f"{_signed(group['difference'].mean())}; found to be more at {more}, less at {less} of them."
    )
    if group["printed"].notna().any():
        excluded = int((group["high"] < group["printed"]).sum())
        as_share = int((100.0 * group["high"] / group["of_against"] < group["printed_share"]).sum())
        figures += (
            f" [Z] prints {_range(group['printed'])}; a gain of as many points is excluded at {excluded} of them, one "
            f"of as large a share of the baseline at {as_share}."
        )
    reach = f"{group['low'].min():+.1f} to {group['high'].max():+.1f}"
    return _row(topic, question, _answer(more, less, len(group)), f"{figures} The intervals span {reach}.")


def _retuning(topic: str, part: pd.DataFrame) -> dict[str, str]:
    group = part[(part["row"] == tables.RETUNED.name) & (part["against"] == tables.BASELINE.name) & part["in_reach"]]
    more, less = _found(group)
    figures = f"Differences: {_range(group['difference'])} points, mean {_signed(group['difference'].mean())}."
    question = "What do other scales, and in Table 3 the model trained under Eq. 13, add to the baseline?"
    return _row(topic, question, _answer(more, less, len(group)), figures)


def _selecting(topic: str, part: pd.DataFrame) -> dict[str, str]:
    gain = ablation.selection(part).set_index("row")
    rows = {"the baseline": tables.BASELINE, "re-tuned": tables.RETUNED, "the family": tables.FAMILY}
    said = [
        f"{label} {gain.loc[row.name, 'mean']:+.1f} on average, {gain.loc[row.name, 'max']:+.1f} at most"
        for label, row in rows.items()
    ]
    question = "What does choosing on the test images add, against choosing on others?"
    return _row(topic, question, "In points, never below 0:", "; ".join(said) + ".")


def _certifying(topic: str, part: pd.DataFrame) -> dict[str, str]:
    gain, single = part["gain"], part["exact"] - part["single"]
    answer = "Nothing here." if not (gain > 0).any() else "Yes."
    some = part[part["dual"] > 0]
    alike = some["gain"].mean() if len(some) else 0.0
    figures = (
        f"Of {len(gain)} cells of one noise and radius, {int((gain > 0).sum())} gain; {gain.mean():.1f} points on "
        f"average, {gain.max():.1f} at most, and {int((gain < 0).sum())} lose. In the {len(some)} cells in which the "
        f"dual certifies anything, it is {alike:.1f} points on average. Of the whole, {single.mean():.1f} on average "
        f"and {single.max():.1f} at most is what Hoeffding's inequality costs for one λ and one radius; the rest is "
        f"the price of holding for all at once."
    )
    question = "Does the exact certificate certify more than the Monte-Carlo dual, on the same votes?"
    return _row(topic, question, answer, figures)


def _exponent(topic: str, part: pd.DataFrame, chance: pd.Series[Any]) -> dict[str, str]:
    shown_up, shown_down = int((part["low"] > 0).sum()), int((part["high"] < 0).sum())
    figures = (
        f"Over {len(part)} pairs of models and noises, k from {part['k'].min():g} to {part['k'].max():g}, the label's "
        f"probability changes by {_range(part['change'], 2)} points, {part['change'].mean():+.2f} on average; shown "
        f"upwards in {shown_up}, downwards in {shown_down}; by chance {chance['expected']:.1f} would be shown "
        f"(p = {chance['p_value']:.3f}). Where the baseline requires 90 %, the family requires "
        f"{part['required'].min():.3f} to {part['required'].max():.3f} %."
    )
    if chance["p_value"] > SIGNIFICANT:
        answer = "No more than chance would show."
    else:
        answer = f"Shown in {shown_up + shown_down} of {len(part)} pairs, more than chance would."
    question = "Does k > 0, at the same second moment, change the probability of the label?"
    return _row(topic, question, answer, figures)


def _statement(line: dict[str, Any]) -> dict[str, str]:
    words = {"holds": "Agrees.", "fails": "Does not agree.", "in part": "Agrees in part."}
    figures = f"{line['agree']} of {line['cases']} cases."
    own = line["statement"] in OWN
    return _row(OWN_STATEMENTS if own else STATEMENTS, f"{line['statement']}.", words[str(line["verdict"])], figures)


def _found(group: pd.DataFrame) -> tuple[int, int]:
    """Return at how many radii more, and less, is found."""
    sure = group["p_holm"] < SIGNIFICANT
    return int((sure & (group["difference"] > 0)).sum()), int((sure & (group["difference"] < 0)).sum())


def _answer(more: int, less: int, radii: int) -> str:
    if more and less:
        return f"More at {more} and less at {less} of {radii} radii."
    if more:
        return f"Yes, at {more} of {radii} radii."
    if less:
        return f"No: less at {less} of {radii} radii."
    return "Not shown."


def _range(values: pd.Series[float], digits: int = 1) -> str:
    known = values.dropna()
    return f"{_signed(known.min(), digits)} to {_signed(known.max(), digits)}"


def _signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign; 0 has none that could be taken for one."""
    return f"{0.0 if abs(value) < 0.5 * 10.0**-digits else value:+.{digits}f}"


def _row(topic: str, question: str, answer: str, figures: str) -> dict[str, str]:
    return {"topic": topic, "question": question, "answer": answer, "figures": figures}


def _markdown(long: pd.DataFrame, number: int, dataset: str) -> list[str]:
    """Return a table of the page, once for each protocol."""
    lines: list[str] = []
    for protocol in (CHOSEN, BEST):
        table = tables.by_radius(long[long["table"] == number], dataset, protocol)
        rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        lines += ["", f"Rows with a choice: {protocol}.", "", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return lines
