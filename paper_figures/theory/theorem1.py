"""[Z], Theorem 1: the dual lower bound, the discrepancy in closed form, and tightness.

Taken as the statement. Let ``F`` be the functions with values in [0, 1], ``p = E f(z)``.

I.   ``E f(z + δ) >= sup_{λ>=0} {λ p - max_{δ in B} D(λ; δ)}`` for every ``f`` and every ``δ`` in ``B`` (Eq. 6).
II.  ``D(λ; δ) = ∫ (λ π0 - π_δ)_+``, between 0 and ``λ``; at ``λ = 1`` it is the total variation.
III. Where one ``δ*`` is worst for every ``λ``, the bound is attained by some ``f`` in ``F``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import rs_plugin as rs
from paper_figures.families import Array, Family
from paper_figures.overlap import discrepancy_by_cubature
from paper_figures.theory import neyman_pearson
from paper_figures.theory.claims import row


class Case(NamedTuple):
    """A noise, a threat model and a number of dimensions, 1 or 2."""

    noise: rs.SmoothingDistribution
    threat: str
    dim: int


CASES = (
    Case(rs.Gaussian(1.0), "L2", 1),
    Case(rs.Laplace(1.0), "L1", 1),
    Case(rs.L2Exponential(0.5, 1.0), "L2", 1),
    Case(rs.L1Exponential(1.0, 1.0), "L1", 2),
    Case(rs.L2Exponential(1.0, 1.0), "L2", 2),
    Case(rs.LinfExponential(1.0, 1.0), "Linf", 2),
    Case(rs.MixedNorm(1.0, 1.0), "Linf", 2),
)

#: What the certificates' quadrature may add, and what rounding the sums may.
ACCURACY = 1e-6


def _cells(case: Case, radius: float, fineness: int) -> tuple[Array, Array]:
    family = Family.of(case.noise, case.dim)
    if case.dim == 1:
        return neyman_pearson.line_cells(family, radius, 1500 * fineness)
    shift = rs.certificate(case.noise, case.threat, case.dim).worst_shift(radius)
    return neyman_pearson.plane_cells(family, shift, 64 * fineness, 256 * fineness)


def duality(
    cases: Sequence[Case] = CASES,
    ps: Sequence[float] = (0.2, 0.5, 0.7, 0.9, 0.99),
    radii: Sequence[float] = (0.2, 0.8),
) -> pd.DataFrame:
    """Compare the dual of Eq. 6 with the least ``E f(z + δ*)`` over ``f``, by linear programming in one dimension.

    In two dimensions the minimum is found by Neyman-Pearson sorting of half a million points.

    Returns:
        Rows of ``claims.row``; claimed is the dual on cells, computed the certificate's lower bound, independent the
        least value over ``f``; the error is three times the largest change of that, over ``ps``, with cells half as
        fine.
    """
    rows = []
    for case in cases:
        certificate = rs.certificate(case.noise, case.threat, case.dim)
        for radius in radii:
            cells, coarse = _cells(case, radius, 2), _cells(case, radius, 1)
            solve = neyman_pearson.linear_programme if case.dim == 1 else neyman_pearson.sorted_minimum
            found = [solve(*cells, p)[0] for p in ps]
            change = max(abs(a - neyman_pearson.sorted_minimum(*coarse, p)[0]) for a, p in zip(found, ps, strict=True))
            for p, least in zip(ps, found, strict=True):
                rows.append(
                    row(
                        "Theorem 1 I, III: the dual is the least value over f",
                        noise=str(case.noise), threat=case.threat, dim=case.dim, radius=radius, p=p,
                        claimed=neyman_pearson.dual(*cells, p), computed=certificate.lower_bound(p, radius),
                        independent=least, error=3.0 * change + ACCURACY,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def inner_values(
    cases: Sequence[Case] = CASES[:3], ps: Sequence[float] = (0.2, 0.5, 0.7, 0.9), radius: float = 0.8,
    functions: int = 200, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Try functions with values inside (0, 1): none goes below the bound, and the best is 0 or 1 but for one cell.

    Returns:
        Rows of two statements. One: over ``functions`` random ``f`` on cells of the line, the least
        ``E f(z + δ) - L(E f(z); r)``, claimed to be 0 or more; computed with the certificate's ``L``, independent with
        the closed dual on cells. Two: at the best ``f`` for ``p`` the number of cells on which it lies inside (0, 1),
        claimed to be 1 or less; computed by sorting, independent by the linear programme.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for case in cases:
        certificate = rs.certificate(case.noise, case.threat, case.dim)
        mass, shifted = _cells(case, radius, 1)
        place = np.cumsum(mass)
        slope, centre, tilt = generator.normal(0.0, 8.0, (3, functions, 1))
        height = slope * np.sin(place * centre) + tilt * (place - generator.uniform(size=(functions, 1)))
        f = 1.0 / (1.0 + np.exp(-np.clip(height, -30.0, 30.0)))
        p, value = f @ mass, f @ shifted
        label: dict[str, Any] = {"noise": str(case.noise), "threat": case.threat, "dim": case.dim, "radius": radius}
        exact = [neyman_pearson.dual(mass, shifted, float(one)) for one in p]
        rows.append(
            row(
                "Theorem 1 I: f inside (0, 1) stays above the bound", **label, p=float("nan"), relation=">=",
                claimed=0.0, computed=float(np.min(value - certificate.lower_bound(p, radius))),
                independent=float(np.min(value - exact)), error=1e-12,
            )
        )  # fmt: skip
        for share in ps:
            fractional = [
                int(np.sum((best > 1e-9) & (best < 1.0 - 1e-9)))
                for best in (
                    neyman_pearson.sorted_minimum(mass, shifted, share)[1],
                    neyman_pearson.linear_programme(mass, shifted, share)[1],
                )
            ]
            rows.append(
                row(
                    "Theorem 1 III: cells where the best f is inside (0, 1)", **label, p=share, relation="<=",
                    claimed=1.0, computed=fractional[0], independent=fractional[1], error=0.0,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def discrepancies(
    cases: Sequence[Case] = CASES, lams: Sequence[float] = (0.25, 1.0, 3.0), radii: Sequence[float] = (0.2, 0.8)
) -> pd.DataFrame:
    """Compare ``D`` with its integral, check ``0 <= D <= λ``, and total variation at ``λ = 1``.

    Returns:
        Rows of ``claims.row``: the integral of II, by cubature of the densities (claimed), against the certificate and
        against a sum over cells (independent); the two ends; and at ``λ = 1`` the total variation as the difference
        ``P0(A) - P_δ(A)`` of ``A = {π_δ < π0}`` (claimed), a sum over cells.
    """
    rows = []
    for case in cases:
        certificate = rs.certificate(case.noise, case.threat, case.dim)
        family = Family.of(case.noise, case.dim)
        for radius in radii:
            (mass, shifted), coarse = _cells(case, radius, 2), _cells(case, radius, 1)
            label: dict[str, Any] = {"noise": str(case.noise), "threat": case.threat, "dim": case.dim, "radius": radius}
            for lam in lams:
                integral, doubt = discrepancy_by_cubature(family, certificate.worst_shift(radius), lam)
                value, rough = (float(np.sum(np.maximum(lam * a - b, 0.0))) for a, b in ((mass, shifted), coarse))
                both: dict[str, Any] = {"lam": lam, "independent": value}
                both["computed"] = certificate.discrepancy(lam, radius)
                both["error"] = doubt + 3.0 * abs(value - rough) + ACCURACY
                rows.append(row("Theorem 1 II: D is the integral", **label, **both, claimed=integral))
                at_least = {**both, "independent": None}  # a sum of what is not negative
                rows.append(row("Theorem 1 II: D >= 0", **label, **at_least, relation=">=", claimed=0.0))
                rows.append(row("Theorem 1 II: D <= λ", **label, **both, relation="<=", claimed=lam))
                if lam == 1.0:
                    less = shifted < mass
                    variation = float(mass[less].sum() - shifted[less].sum())
                    rows.append(row("Theorem 1: D(1) is total variation", **label, **both, claimed=variation))
    return pd.DataFrame(rows)
