"""[Z], Theorems 2 and 3: the shift of a ball against which the noise protects least, for every ``λ`` at once.

Taken as the statements. Theorem 2: under L1, noise of Eq. 10 has ``δ* = (r, 0, …, 0)``; under L2, noise of Eq. 11 has
any ``δ`` of length ``r``. Theorem 3: under Linf, noise of Eq. 13 has ``δ* = (r, …, r)``; Eq. 12 likewise. They are
tried, not proved, by searching the ball for a shift with a larger ``D``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

import rs_plugin as rs
from paper_figures.families import Array, Family, discrepancy, norm
from paper_figures.theory.claims import row
from paper_figures.theory.theorem1 import Case

ORDERS = {"L1": 1.0, "L2": 2.0, "Linf": math.inf}
_SEPARATION = 0.02  # shifts nearer to δ*, or to what symmetry makes of it, are not searched, in units of r


def cases(dim: int, ks: Sequence[float]) -> list[Case]:
    """Return the pairs of noise and threat model that the theorems speak of."""
    return [
        Case(noise, threat, dim)
        for k in ks
        for noise, threat in (
            (rs.L1Exponential(k, 1.0), "L1"),
            (rs.L2Exponential(k, 1.0), "L2"),
            (rs.LinfExponential(k, 1.0), "Linf"),
            (rs.MixedNorm(k, 1.0), "Linf"),
        )
    ]


def plane(
    ks: Sequence[float] = (0.0, 0.5, 1.0, 1.8), lams: Sequence[float] = (0.5, 1.0, 2.0), radius: float = 0.6,
    angles: int = 13, depths: Sequence[float] = (0.4, 0.8, 1.0),
) -> pd.DataFrame:  # fmt: skip
    """Search the ball in the plane on a grid of directions and depths; signs and order of coordinates do not matter.

    Returns:
        Rows of ``claims.row`` and a column best_shift: claimed is 0, an upper bound of ``D(λ; δ) - D(λ; δ*)`` over the
        shifts searched. Computed takes ``D(δ*)`` from the certificate, independent from the plane's nodes, as ``D(δ)``
        is. The error is three times what a finer mesh changes in ``D(δ*)`` and in ``D`` of the best shift.
    """
    rows = []
    for case in cases(2, ks):
        family = Family.of(case.noise, 2)
        certificate = rs.certificate(case.noise, case.threat, 2)
        star = certificate.worst_shift(radius)
        turns = np.linspace(0.0, math.pi / 4.0, angles)
        circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        boundary = radius * circle / norm(circle, ORDERS[case.threat])[:, None]
        shifts = np.concatenate([depth * boundary for depth in depths])
        shifts = shifts[norm(np.abs(shifts) - np.abs(star), 2.0) > _SEPARATION * radius]
        (z, mass), (finer, finer_mass) = family.plane_nodes(32, 192), family.plane_nodes(64, 512)
        ratios = [family.log_ratio(z, shift) for shift in shifts]
        for lam in lams:
            values = np.array([discrepancy(ratio, mass, lam) for ratio in ratios])
            best = shifts[int(np.argmax(values))]
            at_star = discrepancy(family.log_ratio(z, star), mass, lam)
            changes = [
                abs(discrepancy(family.log_ratio(finer, shift), finer_mass, lam) - value)
                for shift, value in ((star, at_star), (best, values.max()))
            ]
            exact = certificate.discrepancy(lam, radius)
            rows.append(
                row(
                    _statement(case), noise=str(case.noise), threat=case.threat, dim=2, radius=radius, lam=lam,
                    discrepancy=exact, best_shift=np.round(best, 4).tolist(), relation="<=", claimed=0.0,
                    computed=values.max() - exact, independent=values.max() - at_star, error=3.0 * sum(changes) + 1e-6,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def sampled(
    dim: int = 5, ks: Sequence[float] = (0.0, 2.0, 4.0), lams: Sequence[float] = (0.5, 1.0, 2.0), radius: float = 0.5,
    shifts: int = 60, draws: int = 20_000, failure: float = 1e-6, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Search the ball in more dimensions: random shifts and the corners of faces, ``D`` by the mean over draws.

    One set of draws chooses the best shift, another one, ten times as large, compares it with ``δ*``.

    Returns:
        Rows of ``claims.row`` and a column best_shift, as of ``plane``. Independent is the mean of the paired
        difference; computed takes ``D(δ*)`` from the certificate. The error is an empirical Bernstein bound (Maurer &
        Pontil 2009) of the noisier of the two, exceeded with probability at most ``failure``.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for case in cases(dim, ks):
        family = Family.of(case.noise, dim)
        certificate = rs.certificate(case.noise, case.threat, dim)
        star = certificate.worst_shift(radius)
        candidates = _candidates(ORDERS[case.threat], dim, radius, shifts, generator)
        candidates = candidates[norm(candidates - np.sort(star)[::-1], 2.0) > _SEPARATION * radius]
        pilot, fresh = family.draw(draws, generator), family.draw(10 * draws, generator)
        even = np.full(draws, 1.0 / draws)
        ratios = [family.log_ratio(pilot, shift) for shift in candidates]
        at_star = family.log_ratio(fresh, star)
        for lam in lams:
            values = [discrepancy(ratio, even, lam) for ratio in ratios]
            best = candidates[int(np.argmax(values))]
            both = (family.log_ratio(fresh, best), at_star)
            pair = [np.maximum(lam - np.exp(np.minimum(ratio, 700.0)), 0.0) for ratio in both]
            exact = certificate.discrepancy(lam, radius)
            error = max(_bernstein(pair[0] - pair[1], 2.0 * lam, failure / 2), _bernstein(pair[0], lam, failure / 2))
            rows.append(
                row(
                    _statement(case), noise=str(case.noise), threat=case.threat, dim=dim, radius=radius, lam=lam,
                    discrepancy=exact, best_shift=np.round(best, 4).tolist(), relation="<=", claimed=0.0,
                    computed=float(pair[0].mean()) - exact, independent=float((pair[0] - pair[1]).mean()), error=error,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def _statement(case: Case) -> str:
    if case.threat != "Linf":
        return f"Theorem 2, {case.threat}: no shift beats δ*"
    return "Theorem 3, Linf: no shift beats δ*"


def _candidates(order: float, dim: int, radius: float, count: int, generator: np.random.Generator) -> Array:
    """Return shifts of the ball, coordinates not negative and descending: corners of faces, boundary, interior."""
    corners = np.array([[1.0] * full + [half] * (full < dim) + [0.0] * (dim - full - 1) for full, half in
                        itertools.product(range(dim + 1), (0.0, 0.5)) if full or half])[:, :dim]  # fmt: skip
    random = np.abs(generator.standard_normal((count, dim))) ** generator.uniform(0.2, 3.0, (count, 1))
    both = np.concatenate([corners, random])
    both *= radius / norm(both, order)[:, None]
    both[len(corners) + count // 2 :] *= generator.uniform(0.3, 1.0, (count - count // 2, 1))
    return np.asarray(np.sort(both, axis=1)[:, ::-1])


def _bernstein(values: Array, span: float, failure: float) -> float:
    """Return by how much a mean may be off, but with probability ``failure``; values lie in an interval of ``span``."""
    depth = math.log(4.0 / failure)
    return float(math.sqrt(2.0 * values.var() * depth / len(values)) + 7.0 * span * depth / (3.0 * (len(values) - 1)))
