"""[Z], Figure 3: accuracy against robustness (Eq. 9) in five dimensions, for the families of Eqs. 11, 12 and 13.

Accuracy is ``E f(z)`` for ``f(x) = 1(‖x‖ <= threshold)`` at ``x0 = 0``; robustness is ``-D(λ; r)`` under Linf. [Z]
gives ``f = 1(‖x‖₂ <= 0.65)`` and ``d = 5``, but neither ``r`` nor ``λ``: both are arguments here. A family's two
parameters are swept as ``k`` and accuracy: for each ``k`` the ``σ`` is solved for that gives the accuracy, so that
families are compared at equal accuracy, and a frontier is the best ``k`` at each.

Along every ray ``‖z‖₂² / 2σ²`` is ``Gamma((d - k)/2)`` for Eq. 13 as it is for Eq. 11. So the two have the same law of
``‖z‖₂``, the same accuracy for every ``f`` of ``‖x‖₂``, and differ in robustness alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, lines, styled
from paper_figures.families import Array, Family

FAMILIES: Mapping[str, type[Any]] = {"Eq. 11": rs.L2Exponential, "Eq. 12": rs.LinfExponential, "Eq. 13": rs.MixedNorm}
ACCURACIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
KS = (0.0, 1.0, 2.0, 4.0)
_TIE = 2e-6  # robustness nearer than this is equal: the certificates err by up to 4e-7, rounded to safety
BALLS = ((2.0, 0.65), (math.inf, 0.5))


def compute(
    balls: Sequence[tuple[float, float]] = BALLS,
    radii: Sequence[float] = (0.1,),
    lams: Sequence[float] = (1.0, 5.0),
    ks: Sequence[float] = KS,
    accuracies: Sequence[float] = ACCURACIES,
    dim: int = 5,
) -> pd.DataFrame:
    """Return accuracy and robustness, one row per family, ``k``, accuracy, ``r`` and ``λ``.

    Args:
        balls: the functions ``f``: order of the norm (2 or inf) and threshold, in input units.
        radii: ``r`` of the attack, in input units of the Linf norm.
        lams: ``λ``.
        ks: exponents, each at least 0 and below ``dim``.
        accuracies: at which families are compared, in (0, 1).
        dim: ``d``, 2 to 5: the mean over directions is a product rule. Eq. 13 takes about half a second per row.

    Returns:
        Columns ball, threshold, radius, lam, family, k, sigma (input units), accuracy, robustness, dim, on_frontier (no
        other ``k`` of ``ks`` does better at this accuracy).
    """
    rows = []
    for order, threshold in balls:
        for name, kind in FAMILIES.items():
            for k in ks:
                family = Family.of(kind(k, 1.0), dim)
                sigmas = np.array([threshold / _reach(family, order, accuracy) for accuracy in accuracies])
                certificate = rs.certificate(kind(k, 1.0), "Linf", dim)
                for radius in radii:
                    for lam in lams:
                        robustness = -np.atleast_1d(certificate.discrepancy(lam, radius / sigmas))
                        rows += [
                            {
                                "ball": order, "threshold": threshold, "radius": radius, "lam": lam, "family": name,
                                "k": k, "sigma": sigma, "accuracy": accuracy, "robustness": value, "dim": dim,
                            }
                            for sigma, accuracy, value in zip(sigmas, accuracies, robustness, strict=True)
                        ]  # fmt: skip
    frame = pd.DataFrame(rows)
    best = frame.groupby(["ball", "radius", "lam", "family", "accuracy"])["robustness"].transform("max")
    return frame.assign(on_frontier=frame["robustness"] == best)


def _reach(family: Family, order: float, accuracy: float) -> float:
    """Return ``a`` with ``P(‖z‖ <= a) = accuracy``, to 1e-12 in ``log a``."""

    def excess(log_reach: float) -> float:
        return family.probability_within(order, math.exp(log_reach)) - accuracy

    return math.exp(optimize.brentq(excess, -40.0, 10.0, xtol=1e-12))


def frontier(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frontiers side by side: a row per accuracy, robustness and best ``k`` of each family, and the winner.

    Returns:
        Columns ball, radius, lam, accuracy, one ``robustness`` and one ``k`` per family, best (families, more than one
        where they tie).
    """
    keys = ["ball", "radius", "lam", "accuracy"]
    top = frame[frame["on_frontier"]].drop_duplicates([*keys, "family"])
    wide = top.pivot(index=keys, columns="family", values=["robustness", "k"])
    wide.columns = [f"{value} {family}" for value, family in wide.columns]
    wide = wide.reset_index()
    return wide.assign(best=_best(wide[[f"robustness {family}" for family in FAMILIES]].to_numpy(dtype=np.float64)))


def certified(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with a column lower_bound, ``L(p; r)`` of Eq. 6 at ``p`` the accuracy: what the trade is for.

    ``λ`` is the best there, so rows that differ in ``λ`` alone are alike; those of the first ``λ`` are kept. Eq. 13
    takes about a second per row.
    """
    kept = frame[frame["lam"] == frame["lam"].iloc[0]].drop(columns=["lam", "robustness", "on_frontier"])
    bounds = [
        rs.certificate(FAMILIES[row.family](row.k, 1.0), "Linf", row.dim).lower_bound(
            row.accuracy, row.radius / row.sigma
        )
        for row in kept.itertuples()
    ]
    return kept.assign(lower_bound=bounds)


def highest_bounds(bounds: pd.DataFrame) -> pd.DataFrame:
    """Return what ``certified`` gives side by side: a row per ``f``, ``r`` and accuracy, each family at its best ``k``.

    Returns:
        Columns ball, radius, accuracy, one ``bound`` and one ``k`` per family, best (families, more than one where they
        tie).
    """
    keys = ["ball", "radius", "accuracy"]
    top = bounds.loc[bounds.groupby([*keys, "family"])["lower_bound"].idxmax()]
    wide = top.rename(columns={"lower_bound": "bound"}).pivot(index=keys, columns="family", values=["bound", "k"])
    wide.columns = [f"{value} {family}" for value, family in wide.columns]
    return wide.reset_index().assign(best=_best(wide[[f"bound {family}" for family in FAMILIES]].to_numpy()))


def _best(values: Array) -> list[str]:
    """Return the families of the largest values of each row."""
    tied = values >= values.max(axis=1, keepdims=True) - _TIE
    return [", ".join(family for family, is_best in zip(FAMILIES, row, strict=True) if is_best) for row in tied]


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per ``f`` (columns) and pair ``(r, λ)`` (rows): frontiers as lines, every ``k`` as small marks.

    The small marks stand a little left and right of their accuracy, so that families do not hide each other;
    those far below all frontiers are out of view.
    """
    conditions = list(frame[["radius", "lam"]].drop_duplicates().itertuples(index=False, name=None))
    balls = list(frame[["ball", "threshold"]].drop_duplicates().itertuples(index=False, name=None))
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 0.6 + 2.6 * len(conditions)), layout="constrained")
        panels = figure.subplots(len(conditions), len(balls), sharey="row", squeeze=False)
        for row, (radius, lam) in zip(panels, conditions, strict=True):
            for axes, (order, threshold) in zip(row, balls, strict=True):
                chosen = frame[(frame["radius"] == radius) & (frame["lam"] == lam) & (frame["ball"] == order)]
                _draw_panel(axes, chosen)
                name = r"\infty" if math.isinf(order) else f"{order:g}"
                axes.set_title(rf"$f=1(\|x\|_{{{name}}}\leq{threshold:g})$, $r={radius:g}$, $\lambda={lam:g}$")
                axes.set_xlabel(r"accuracy $E\,f(z)$")
            edge = frame[frame["on_frontier"] & (frame["radius"] == radius) & (frame["lam"] == lam)]["robustness"]
            span = float(edge.max() - edge.min())
            row[0].set_ylim(float(edge.min()) - 0.15 * span, float(edge.max()) + 0.1 * span)
            row[0].set_ylabel(r"robustness $-D(\lambda; r)$")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def _draw_panel(axes: Any, chosen: pd.DataFrame) -> None:
    for i, (line, marker, name) in enumerate(zip(lines(len(FAMILIES)), "os^", FAMILIES, strict=True)):
        group = chosen[chosen["family"] == name]
        top = group[group["on_frontier"]].drop_duplicates("accuracy").sort_values("accuracy")
        beside = group["accuracy"] + 0.006 * (i - 1)  # so that the marks of families do not hide each other
        axes.plot(beside, group["robustness"], marker, color=line.color, markersize=2.5, mew=0.0)
        axes.plot(
            top["accuracy"], top["robustness"], color=line.color, linestyle=line.linestyle, marker=marker,
            markersize=(5, 5, 8)[i], markerfacecolor="none", label=f"{name}, best $k$",
        )  # fmt: skip
