"""Tables 1 to 3 of [Z]: certified accuracy at each radius, of the paper, of published logs and of our models.

Rows, by the names that they have here, each under two protocols where there is a choice (module ``accuracy``):

* ``[Z], baseline`` and ``[Z], family``: what [Z] prints.
* ``logs, n = 100 000`` and ``logs, stopped early``: the baseline from published logs, and as it would be had their
  draws been stopped early, with limits like ours (module ``logs``).
* ``ours, baseline``: our models under the paper's baseline, Laplace or Gaussian noise at the scale of the training.
* ``ours, re-tuned``: the same noise at all scales at which the family is tried; in Table 3 also for the model that was
  trained under Eq. 13.
* ``ours, dual`` and ``ours, exact``: our models under the paper's family, by a Monte-Carlo dual that holds for all
  radii and λ at once (module ``dual``), and by the exact certificate.

The votes are those of module ``votes``: another certificate needs no new ones. Where not even unanimous votes would be
certified by any candidate, with as many draws as there may be, a cell is 0 and says that it is out of reach.
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
from rs_plugin.estimation import AlphaBudget, exceeds
from rs_plugin.threats import Threat

EXACT, DUAL, SINGLE = "exact certificate", "Monte-Carlo dual", "Monte-Carlo dual of one λ, on average"
NOT_COMPUTED, OUT_OF_REACH = "not computed", "out of reach"


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
        (percent, the interval 95 % over images; NaN where not computed, not known or out of reach), images, chosen
        (what was best), note.
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    parts = [part for part in printed.PRINTED if part.table == table]
    rows = [row for part in parts for row in _of_part(part, chosen, votes)]
    return pd.DataFrame(rows)


def menu(row: Row, part: printed.Printed, chosen: Profile, votes: pd.DataFrame) -> Menu:
    """Return what the candidates of a row certify on a data set.

    Raises:
        InputError: the profile has no candidates, or votes are missing.
    """
    found = [c for c in chosen.menus.get((part.table, part.dataset), ()) if c.role in row.roles]
    if not found:
        where = f"Table {part.table}, {part.dataset}"
        raise rs.InputError(f"profile {chosen.name!r} has nothing for {row.name!r} of {where}")
    names, held, reach = [], [], []
    for candidate in found:
        asked = Asked.of(candidate.noise, part.threat, np.array(part.radii), row.method, DIMS[part.dataset], chosen)
        held.append(certified(votes_of(candidate, part.dataset, votes), asked))
        reach.append(in_reach(asked, chosen.limit(candidate.model)))
        names.append(f"{_short(candidate.model)}, {candidate.noise}")
    return Menu(tuple(names), np.stack(held), np.stack(reach))


class Asked(NamedTuple):
    """What a certificate asks of votes: ``required``, p* at each radius, shown with failure probability ``alpha``."""

    required: np.ndarray[Any, Any]
    alpha: float

    @classmethod
    def of(
        cls, noise: str, threat: Threat, radii: np.ndarray[Any, Any], method: str, dim: int, chosen: Profile
    ) -> Asked:  # fmt: skip
        """Return what a method asks.

        Args:
            noise: as text.
            threat: ``"L1"``, ``"L2"`` or ``"Linf"``.
            radii: in input units.
            method: ``EXACT``, or ``DUAL``, which leaves a tenth of alpha to its own draws. ``SINGLE`` is no
                certificate: what [Z]'s inequality for one λ and one radius would ask on average (``dual.single``).
            dim: ``d``.
            chosen: has alpha and the number of the dual's draws.
        """
        smoothing = rs.parse_noise(noise)
        budget = AlphaBudget.split(chosen.alpha, deterministic=method == EXACT)
        if method == DUAL:
            required = dual.required(smoothing, threat, dim, radii, budget.certificate, chosen.dual_draws)
            return cls(required, budget.votes)
        required = np.atleast_1d(rs.certificate(smoothing, threat, dim).required_probability(radii))
        if method == SINGLE:
            required = required + dual.single(budget.certificate, chosen.dual_draws)
        return cls(required, budget.votes)


def votes_of(candidate: Candidate, dataset: str, votes: pd.DataFrame) -> pd.DataFrame:
    """Return the votes of a candidate, by the images' numbers.

    Raises:
        InputError: there are none.
    """
    same = (votes["model"] == candidate.model) & (votes["noise"] == candidate.noise)
    mine = votes[(votes["dataset"] == dataset) & same].sort_values("index")
    if mine.empty:
        raise rs.InputError(
            f"there are no votes of {candidate.model} under {candidate.noise}; `python -m paper_figures.votes` counts "
            f"them"
        )
    return mine


def certified(votes: pd.DataFrame, asked: Asked) -> Held:
    """Return whether the label of each image is certified at each radius, shape (images, radii).

    Args:
        votes: one row per image, columns label, selected, votes, draws.
        asked: of them.
    """
    counts = votes[["votes", "draws"]].to_numpy()
    shown = exceeds(counts[:, :1], counts[:, 1:], asked.required.clip(max=1.0), asked.alpha)
    return np.asarray(shown & (votes["selected"] == votes["label"]).to_numpy()[:, None])


def in_reach(asked: Asked, limit: int) -> Held:
    """Return whether ``limit`` unanimous votes would do, shape (radii,)."""
    return np.asarray(exceeds(limit, limit, asked.required.clip(max=1.0), asked.alpha))


def by_radius(frame: pd.DataFrame, dataset: str, protocol: str, *, intervals: bool = True) -> pd.DataFrame:
    """Return a table as it is read: a line per radius, a column per row, percentages as text; 0* is out of reach.

    Args:
        frame: in long form.
        dataset: printed name.
        protocol: of the rows that have a choice; [Z]'s stand beside them as printed.
        intervals: whether they are shown.
    """

    def text(line: Any) -> str:
        if np.isnan(line.certified):
            return str(line.note)
        if line.note == OUT_OF_REACH:
            return "0*"
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

    What is out of reach has no mark. Rows with a choice are drawn as chosen on other images; [Z]'s have no interval and
    are as [Z] chose them.
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
        row = row[row["certified"].notna() & (row["note"] != OUT_OF_REACH)]
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
        if (part.table, part.dataset) not in chosen.menus:
            empty = {**nothing, "note": NOT_COMPUTED, "certified": np.nan}
            for protocol in PROTOCOLS:
                yield from ({**place, "row": each.name, "protocol": protocol, **empty} for place in places)
            continue
        options = menu(each, part, chosen, votes)
        for protocol in PROTOCOLS:
            held, names = options.by(protocol)
            for place, column, best, reached in zip(places, held.T, names, options.in_reach, strict=True):
                cells = {**cell(column), "chosen": best, "note": ""}
                if not reached:
                    cells |= {"low": np.nan, "high": np.nan, "note": OUT_OF_REACH}
                yield {**place, "row": each.name, "protocol": protocol, **cells}


def _short(model: str) -> str:
    """Return a model's name without what all of them share."""
    return model.removeprefix("cifar10_jpeg_").removeprefix("models/").removesuffix("/checkpoint.pth.tar")
