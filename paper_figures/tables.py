"""Tables 1 to 3 of [Z]: certified accuracy at each radius, of the paper, of published logs and of our models.

Rows, by the names that they have here, each under two protocols where there is a choice (module ``accuracy``):

* ``[Z], baseline`` and ``[Z], family``: what [Z] prints.
* ``logs, n = 100 000`` and ``logs, at most 25 000``: the baseline from published logs, and as it would be had their
  draws been stopped early, as ours are (module ``logs``).
* ``ours, baseline``: our models under the paper's baseline, Laplace or Gaussian noise at the scale of the training.
* ``ours, re-tuned``: the same noise at all scales at which the family is tried.
* ``ours, dual`` and ``ours, exact``: our models under the paper's family, by its Monte-Carlo dual and by the exact
  certificate.

The votes are those of module ``votes``: another certificate needs no new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rs_plugin as rs
from paper_figures import dual, logs, printed
from paper_figures.accuracy import CHOSEN, PROTOCOLS, Held, Menu, cell
from paper_figures.drawing import TEXT_WIDTH, lines, styled
from paper_figures.profiles import DIMS, Candidate, Profile, profile
from paper_figures.votes import load
from rs_plugin.distributions import SmoothingDistribution
from rs_plugin.estimation import AlphaBudget, exceeds

EXACT, DUAL = "exact certificate", "Monte-Carlo dual"
NOT_COMPUTED: Final = "not computed"


class Row(NamedTuple):
    """A row that is computed from votes: its name, which candidates it chooses from, and its certificate."""

    name: str
    roles: tuple[str, ...]
    method: str


BASELINE = Row("ours, baseline", ("trained",), EXACT)
RETUNED = Row("ours, re-tuned", ("trained", "retuned"), EXACT)
FAMILY = Row("ours, exact", ("family",), EXACT)
FAMILY_DUAL = Row("ours, dual", ("family",), DUAL)
ROWS: Final = (BASELINE, RETUNED, FAMILY_DUAL, FAMILY)

PAPER_BASELINE, PAPER_FAMILY = "[Z], baseline", "[Z], family"
PRINTED = "as printed"


def compute(table: int, chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a table of [Z] in long form, one row per data set, row, protocol and radius.

    Args:
        table: 1, 2 or 3.
        chosen: the profile; that of ``RS_PROFILE`` if None.
        votes: those of the profile if None.

    Returns:
        Columns table, dataset, threat, radius (input units), shown (as printed), row, protocol, certified, low, high
        (percent, the interval 95 % over images; NaN where not computed or not known), images, chosen (what was best),
        note.
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    parts = [part for part in printed.PRINTED if part.table == table]
    rows = [row for part in parts for row in _of_part(part, chosen, votes)]
    return pd.DataFrame(rows)


def menu(row: Row, part: printed.Printed, chosen: Profile, votes: pd.DataFrame) -> Menu | None:
    """Return what the candidates of a row certify on a data set; None where the profile has none."""
    found = [c for c in chosen.menus.get((part.table, part.dataset), ()) if c.role in row.roles]
    if not found:
        return None
    radii = np.array(part.radii)
    held = [_held(c, part, radii, row.method, chosen, votes) for c in found]
    return Menu(tuple(f"{_short(c.model)}, {c.noise}" for c in found), np.stack(held))


def certified(
    votes: pd.DataFrame, noise: SmoothingDistribution, threat: str, radii: np.ndarray[Any, Any], method: str, dim: int,
    alpha: float, dual_draws: int = 100_000,
) -> Held:  # fmt: skip
    """Return whether the label of each image is certified at each radius, shape (images, radii).

    Args:
        votes: one row per image, columns label, selected, votes, draws.
        noise: that they were counted under.
        threat: ``"L1"``, ``"L2"`` or ``"Linf"``.
        radii: in input units.
        method: ``EXACT``, or ``DUAL``, which leaves a tenth of alpha to its own draws.
        dim: ``d``.
        alpha: failure probability per image.
        dual_draws: of the dual.
    """
    deterministic = method == EXACT
    budget = AlphaBudget.split(alpha, deterministic=deterministic)
    if deterministic:
        required = rs.certificate(noise, threat, dim).required_probability(radii)
    else:
        required = dual.required(noise, threat, dim, radii, budget.certificate, dual_draws)
    counts = votes[["votes", "draws"]].to_numpy()
    shown = exceeds(counts[:, :1], counts[:, 1:], required, budget.votes)
    return np.asarray(shown & (votes["selected"] == votes["label"]).to_numpy()[:, None])


def by_radius(frame: pd.DataFrame, dataset: str, protocol: str, *, intervals: bool = True) -> pd.DataFrame:
    """Return a table as it is read: a line per radius, a column per row, percentages as text.

    Args:
        frame: in long form.
        dataset: printed name.
        protocol: of the rows that have a choice; [Z]'s stand beside them as printed.
        intervals: whether they are shown.
    """

    def text(line: Any) -> str:
        if np.isnan(line.certified):
            return str(line.note)
        if not line.images:
            return f"{line.certified:.0f}"
        return f"{line.certified:.1f}" + (f" [{line.low:.0f}–{line.high:.0f}]" if intervals else "")

    part = frame[(frame["dataset"] == dataset) & frame["protocol"].isin([protocol, PRINTED])]
    cells = part.assign(text=[text(line) for line in part.itertuples()])
    table = cells.pivot(index="radius", columns="row", values="text")[list(dict.fromkeys(part["row"]))]
    table.insert(0, "radius", part.drop_duplicates("radius").set_index("radius")["shown"])
    table.columns.name = None
    return table.reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per data set: certified accuracy against radius, a mark per row at each, with its interval.

    Rows with a choice are drawn as chosen on other images; [Z]'s have no interval and are as [Z] chose them.
    """
    sets = list(dict.fromkeys(frame["dataset"]))
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 0.9 + 2.9 * len(sets)), layout="constrained")
        panels = figure.subplots(len(sets), 1, squeeze=False)[:, 0]
        for axes, dataset in zip(panels, sets, strict=True):
            _draw_panel(axes, frame[frame["dataset"] == dataset])
            axes.set_title(f"Table {frame['table'].iloc[0]}, {dataset}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return figure


def _draw_panel(axes: Any, part: pd.DataFrame) -> None:
    drawn = (PAPER_BASELINE, PAPER_FAMILY, BASELINE.name, RETUNED.name, FAMILY_DUAL.name, FAMILY.name)
    radii = {radius: place for place, radius in enumerate(sorted(part["radius"].unique()))}
    for number, (name, line) in enumerate(zip(drawn, lines(len(drawn)), strict=True)):
        row = part[(part["row"] == name) & (part["protocol"].isin([CHOSEN, PRINTED]))]
        row = row[row["certified"].notna()]
        if row.empty:
            continue
        x = row["radius"].map(radii) + 0.13 * (number - 2.5)
        spread = np.nan_to_num([row["certified"] - row["low"], row["high"] - row["certified"]])
        axes.errorbar(
            x, row["certified"], yerr=spread, color=line.color, marker=line.marker or "x", linestyle="none",
            markersize=4, elinewidth=0.8, label=name,
        )  # fmt: skip
    axes.set_xticks(list(radii.values()), part.drop_duplicates("radius").sort_values("radius")["shown"])
    axes.set_xlabel(f"{part['threat'].iloc[0]} radius (input units)")
    axes.set_ylabel("certified accuracy (%)")
    axes.set_ylim(bottom=-1.0)  # marks at 0 stay whole


def _of_part(part: printed.Printed, chosen: Profile, votes: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of one data set of a table, in their order."""
    nothing = {"low": np.nan, "high": np.nan, "images": 0, "chosen": "", "note": ""}
    common = {"table": part.table, "dataset": part.dataset, "threat": part.threat}
    places = [{**common, "radius": r, "shown": text} for r, text in zip(part.radii, part.shown, strict=True)]
    for name, values in ((PAPER_BASELINE, part.baseline), (PAPER_FAMILY, part.family)):
        for place, value in zip(places, values, strict=True):
            note = "unreadable in print" if np.isnan(value) else ""
            yield {**place, "row": name, "protocol": PRINTED, "certified": float(value), **nothing, "note": note}
    known = logs.load()
    known = known[(known["table"] == part.table) & (known["dataset"] == part.dataset)]
    for (stopping, protocol), group in known.groupby(["stopping", "protocol"], sort=False):
        row = f"logs, {stopping}"
        for place, line in zip(places, group.to_dict("records"), strict=True):
            cells = {key: line[key] for key in ("certified", "low", "high", "images", "chosen")}
            yield {**place, "row": row, "protocol": protocol, **cells, "note": ""}
    for each in ROWS:
        options = menu(each, part, chosen, votes)
        for protocol in PROTOCOLS:
            if options is None:
                for place in places:
                    empty = {**nothing, "note": NOT_COMPUTED}
                    yield {**place, "row": each.name, "protocol": protocol, "certified": np.nan, **empty}
                continue
            held, names = options.by(protocol)
            for place, column, best in zip(places, held.T, names, strict=True):
                yield {**place, "row": each.name, "protocol": protocol, **cell(column), "chosen": best, "note": ""}


def _held(
    candidate: Candidate, part: printed.Printed, radii: np.ndarray[Any, Any], method: str, chosen: Profile,
    votes: pd.DataFrame,
) -> Held:  # fmt: skip
    mine = votes[
        (votes["dataset"] == part.dataset)
        & (votes["model"] == candidate.model)
        & (votes["noise"] == candidate.noise)
    ].sort_values("index")
    if mine.empty:
        raise rs.InputError(
            f"there are no votes of {candidate.model} under {candidate.noise}; `python -m paper_figures.votes` counts "
            f"them"
        )
    noise = rs.parse_noise(candidate.noise)
    return certified(mine, noise, part.threat, radii, method, DIMS[part.dataset], chosen.alpha, chosen.dual_draws)


def _short(model: str) -> str:
    """Return a model's name without what all of them share."""
    return model.removeprefix("cifar10_jpeg_") if "/" not in model else model.split("/checkpoints/models/")[-1]
