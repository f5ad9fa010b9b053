"""What is published of [Z], each under a name: how it is computed, drawn, written and compared.

``python -m paper_figures`` writes all of it into ``paper_figures/published/``: for a name, ``name.csv`` with the
numbers, ``name.pdf`` and ``name.png`` where it is drawn, and ``name.md`` where it is told.
``tests/paper_figures/test_published.py`` computes it anew and compares.

To add a table or a figure, append an ``Artefact`` to ``ARTEFACTS`` below:

* ``compute`` takes no argument and returns the whole data frame; wrap it in ``functools.partial`` or a function of this
  module to choose arguments. It reads nothing but what is committed.
* ``draw`` turns that frame into a figure, ``tell`` into a page of Markdown; leave them out for a table.
* ``numbers`` reduces the frame to what is worth storing, where the whole would be large.
* ``keys`` name the columns that tell a reader which row is meant; they are compared like all others.
* ``tolerances`` say how far a column of floats may be off, each with its reason as a comment. Every other column,
  counts and text and truth, must be the same.

The test and the command line know it from then on. Write its files with ``python -m paper_figures NAME`` and commit
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from paper_figures import ablation, comparison, figure1, figure2, figure3, figure4, table1, table2, table3, verdict
from paper_figures.drawing import save
from paper_figures.theory import statements

PUBLISHED: Final = Path(__file__).parent / "published"

#: Of numbers as stored; the smallest tolerance of a number of size 1 is above what it drops.
_DIGITS = "%.12g"


def _unchanged(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


@dataclass(frozen=True)
class Artefact:
    """A figure or a table; the module says how to add one.

    Attributes:
        name: of its files.
        title: what it is, in one line.
        compute: returns the whole data frame.
        keys: columns that name a row.
        tolerances: absolute, by column.
        draw: returns the figure of what ``compute`` returns; None for a table.
        tell: returns a page of it, as Markdown; None for none.
        numbers: reduces what ``compute`` returns to what is stored.
    """

    name: str
    title: str
    compute: Callable[[], pd.DataFrame]
    keys: tuple[str, ...]
    tolerances: Mapping[str, float] = field(default_factory=dict)
    draw: Callable[[pd.DataFrame], Figure] | None = None
    tell: Callable[[pd.DataFrame], str] | None = None
    numbers: Callable[[pd.DataFrame], pd.DataFrame] = _unchanged

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what is written."""
        ends = ("csv", *(("pdf", "png") if self.draw else ()), *(("md",) if self.tell else ()))
        return tuple(f"{self.name}.{end}" for end in ends)

    def write(self, folder: Path) -> list[Path]:
        """Compute and write it; return the files."""
        frame = self.compute()
        folder.mkdir(parents=True, exist_ok=True)
        self.numbers(frame).to_csv(
            folder / f"{self.name}.csv", index=False, float_format=_DIGITS, lineterminator="\n"
        )
        if self.draw:
            save(self.draw(frame), folder, self.name)
        if self.tell:
            (folder / f"{self.name}.md").write_text(self.tell(frame), encoding="utf-8", newline="\n")
        return [folder / name for name in self.files]


def _every_tenth_point(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every tenth point of each curve of Figure 1."""
    place = frame.groupby(["panel", "k", "sigma"], sort=False).cumcount()
    return frame[place % 10 == 0].reset_index(drop=True)


def _discrepancies(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per family of Figure 2, without the grid."""
    columns = ["family", "k", "sigma", "radius", "lam", "discrepancy", "integral", "error"]
    return frame[columns].drop_duplicates(ignore_index=True)


@cache
def _trade_off() -> pd.DataFrame:
    """Return Figure 3's frame, which takes half a minute, once; nobody changes it."""
    return figure3.compute()


@cache
def _evidence() -> verdict.Evidence:
    """Return what the verdict rests on, once; the theory as it is published."""
    return verdict.evidence(statements=published("statements"))


def _certificates() -> pd.DataFrame:
    """Return exact against dual of all three tables."""
    return _evidence().certificates


def _no_blanks(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a dash for empty text, which a file would not tell from a missing number."""
    return frame.replace({"": "–"})


#: The curves of Figure 1 are closed forms of log-Gamma functions of size 100, good to 13 digits.
_CLOSED = 1e-10
#: Certificates add the estimated error of their quadrature, up to 4e-7, which may differ with how sums are rounded.
_CERTIFICATE = 1e-6
#: Adaptive cubature in the plane stops where its estimate is below 1e-6 for each of 9 panels.
_CUBATURE = 1e-5
#: Ends of intervals, in percent, by bisection to the last digits; p-values. Shares of images are counts: the same.
_INTERVAL = 1e-6
#: Means in percent, and p* in percent, which holds the estimated error of its quadrature.
_PERCENT = 100.0 * _CERTIFICATE

_TABLES: Final = {
    1: ("certified accuracy under L1: Laplace noise against Eq. 10", table1),
    2: ("certified accuracy under L2: Gaussian noise against Eq. 11", table2),
    3: ("certified accuracy under Linf: Gaussian noise against Eq. 13", table3),
}


_OF_TESTS: Final = (
    "certified", "of_against", "difference", "low", "high", "p_value", "p_holm", "printed", "printed_share",
)  # fmt: skip


def _table(number: int) -> tuple[Artefact, Artefact]:
    """Return a table of [Z] and its tests."""
    title, module = _TABLES[number]
    return (
        Artefact(
            f"table{number}",
            title,
            module.compute,
            keys=("dataset", "row", "protocol", "shown"),
            tolerances=dict.fromkeys(("radius", "certified", "low", "high"), _INTERVAL),
            draw=module.draw,
            numbers=_no_blanks,
        ),
        Artefact(
            f"table{number}_tests",
            f"McNemar's tests of Table {number}",
            partial(comparison.compute, number),
            keys=("row", "against", "shown"),
            tolerances=dict.fromkeys(_OF_TESTS, _INTERVAL),
        ),
    )


ARTEFACTS: Final = (
    Artefact(
        "figure1",
        "density of the 2-norm of the noise: a growing k against a falling sigma",
        figure1.compute,
        keys=("panel", "k", "sigma", "radius"),
        tolerances=dict.fromkeys(("k", "sigma", "radius", "density", "mean", "spread"), _CLOSED),
        draw=figure1.draw,
        numbers=_every_tenth_point,
    ),
    Artefact(
        "figure2",
        "overlap of a noise and its shift in the plane, Eq. 11 and Eq. 13",
        figure2.compute,
        keys=("family",),
        tolerances={"discrepancy": _CERTIFICATE, "integral": _CUBATURE, "error": 3.0 * _CUBATURE},
        draw=figure2.draw,
        numbers=_discrepancies,
    ),
    Artefact(
        "figure2_families",
        "which of the two has the smaller discrepancy, over k, r and lambda",
        figure2.compare,
        keys=("k", "radius", "lam"),
        tolerances={
            **dict.fromkeys(("Eq. 11", "Eq. 13"), _CERTIFICATE),
            **dict.fromkeys(("integral Eq. 11", "integral Eq. 13"), _CUBATURE),
            "error": 6.0 * _CUBATURE,  # of both families
        },
    ),
    Artefact(
        "figure3",
        "accuracy against robustness in five dimensions, Eqs. 11, 12 and 13",
        _trade_off,
        keys=("ball", "lam", "family", "k", "accuracy"),
        # sigma is solved for to 1e-12 in its logarithm.
        tolerances={"sigma": _CLOSED, "robustness": 5.0 * _CERTIFICATE},  # D is up to λ = 5
        draw=figure3.draw,
    ),
    Artefact(
        "figure3_bounds",
        "the bound of Eq. 6 at the accuracies of Figure 3",
        lambda: figure3.certified(_trade_off()),
        keys=("ball", "family", "k", "accuracy"),
        tolerances={"sigma": _CLOSED, "lower_bound": 5.0 * _CERTIFICATE},  # λ p - D with λ up to about 5
    ),
    Artefact(
        "statements",
        "theorems, corollaries and propositions: cases tried, and how many agree",
        lambda: statements.compute()[["statement", "cases", "agree", "verdict", "error"]],
        keys=("statement",),
        tolerances={"error": 1e-4},  # a bound on differences, of random draws in part: no need for more
    ),
    *(each for number in _TABLES for each in _table(number)),
    Artefact(
        "figure4",
        "certified accuracy against the Linf radius, for each scale of the noise",
        figure4.compute,
        keys=("model", "noise", "radius"),
        tolerances=dict.fromkeys(("k", "sigma0", "radius", "certified", "low", "high"), _INTERVAL),
        draw=figure4.draw,
    ),
    Artefact(
        "ablation_exponent",
        "what k > 0 does at one second moment: to the label's probability, and to what a radius requires",
        ablation.exponent,
        keys=("family", "model", "factor", "k"),
        tolerances=dict.fromkeys(("factor", "k", "probability", "change", "low", "high", "required"), _PERCENT),
        draw=ablation.draw,
    ),
    Artefact(
        "ablation_scale",
        "what other scales do, k = 0",
        ablation.scale,
        keys=("table", "model", "factor", "shown"),
        tolerances=dict.fromkeys(("factor", "probability", "change", "low", "high", "over"), _PERCENT),
    ),
    Artefact(
        "ablation_certificate",
        "the exact certificate against the Monte-Carlo dual, on the same votes",
        _certificates,
        keys=("table", "candidate", "shown"),
        tolerances=dict.fromkeys(("exact", "single", "dual", "gain"), _INTERVAL),
    ),
    Artefact(
        "verdict",
        "what holds, claim by claim",
        lambda: verdict.compute(_evidence()),
        keys=("topic", "question"),
        tell=lambda rows: verdict.page(rows, _evidence()),
    ),
)  # fmt: skip


def published(name: str) -> pd.DataFrame:
    """Return the numbers that are published under a name."""
    return pd.read_csv(PUBLISHED / f"{name}.csv")


def named(names: list[str] | None = None) -> list[Artefact]:
    """Return the artefacts of those names, in the order of ``ARTEFACTS``; all without names.

    Raises:
        ValueError: there is none of a name.
    """
    known = [one.name for one in ARTEFACTS]
    if unknown := sorted(set(names or []) - set(known)):
        raise ValueError(f"nothing is published as {', '.join(unknown)}; choose from {', '.join(known)}")
    return [one for one in ARTEFACTS if not names or one.name in names]
