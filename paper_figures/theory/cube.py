"""[Z], Section 4: noise of Eq. 12, whose level sets are cubes, is unsuited to Linf attacks.

Taken as the statement, in this project's words: although its norm is the attack's own, Eq. 12 needs more probability
than the spherical Eq. 11 under Linf. The reason is volume: cubes of half side ``m`` shifted by ``(r, …, r)`` share only
``(1 - r/2m)^d`` of theirs.

What follows for large ``d`` was derived for this project. With ``m = ‖z‖∞`` and ``a = d r / m``, ``ℓ`` tends to ``-a``
with probability 1/2 and else to ``min(a, 2E - a)``, ``E`` exponential, whatever ``k`` is. So ``p*`` tends to
``1 - e^{-a}/2``, the formula for Laplace noise, with ``m = √3`` root mean squares of a coordinate: the radius falls
like ``1/d``, where that of spherical noise falls like ``1/√d``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special

import rs_plugin as rs
from paper_figures.families import Array
from paper_figures.theory.claims import row


def unsuited(
    dims: Sequence[int] = (2, 5, 30, 300, 3072), ks: Sequence[float] = (0.0, 1.0), ratio: float = 0.5,
    draws: int = 200_000, failure: float = 1e-6, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare ``p*`` of Eq. 12 under Linf with that of Gaussian noise of the same second moment.

    Args:
        dims: ``d``.
        ks: exponents, below every ``d``.
        ratio: ``√d r`` in units of the root mean square of a coordinate.
        draws: of the extreme coordinates of Eq. 12.
        failure: probability with which the draws' ``p*`` may be off by more than the error.
        seed: of the draws.

    Returns:
        Rows of ``claims.row`` and a column shared_volume, ``(1 - r/2m)^d`` at the root mean square of ``m``: claimed
        is the Gaussian's ``Φ(√d r / σ)``, and to be unsuited is to need no less.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for dim in dims:
        for k in ks:
            noise = rs.LinfExponential(k, 1.0)
            rms = math.sqrt(noise.second_moment(dim))
            radius = ratio * rms / math.sqrt(dim)
            sampled, error = _sampled_required(_log_ratio(k, dim, radius, draws, generator), failure)
            side = math.sqrt(dim - k)
            rows.append(
                row(
                    "Section 4: Eq. 12 needs more than a Gaussian under Linf", noise=str(noise), dim=dim, k=k,
                    radius=radius / rms, shared_volume=(1.0 - min(radius / (2.0 * side), 1.0)) ** dim, relation=">=",
                    claimed=float(special.ndtr(ratio)),
                    computed=rs.certificate(noise, "Linf", dim).required_probability(radius), independent=sampled,
                    error=error,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def radii(
    dims: Sequence[int] = (30, 300, 3000, 30_000), ks: Sequence[float] = (0.0, 10.0), p: float = 0.9
) -> pd.DataFrame:
    """Compare the radius of Eq. 12 under Linf, in root mean squares of a coordinate, with its limit for large ``d``.

    Returns:
        Rows of ``claims.row`` and a column gaussian_radius, ``Φ^{-1}(p) / √d``: claimed is
        ``√3 log(1 / (2 (1 - p))) / d``; computed the certificate's radius; independent the radius of the limit law of
        ``ℓ``, found by inverting its ``p*``; the error is ``log(d) / d`` of it, as much as the limit is seen to
        leave out.
    """
    rows = []
    for dim in dims:
        for k in ks:
            noise = rs.LinfExponential(k, 1.0)
            rms = math.sqrt(noise.second_moment(dim))
            claimed = math.sqrt(3.0) * math.log(1.0 / (2.0 * (1.0 - p))) / dim
            rows.append(
                row(
                    "Eq. 12 under Linf: radius in high dimension", noise=str(noise), dim=dim, k=k, p=p,
                    gaussian_radius=float(special.ndtri(p)) / math.sqrt(dim), claimed=claimed,
                    computed=rs.certificate(noise, "Linf", dim).radius(p) / rms,
                    independent=math.sqrt(3.0) * _limit_radius(p) / dim, error=claimed * math.log(dim) / dim,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def _log_ratio(k: float, dim: int, radius: float, draws: int, generator: np.random.Generator) -> Array:
    """Return draws of ``ℓ`` under Eq. 12 with ``σ = 1``, from the extreme coordinates alone."""
    m = np.sqrt(2.0 * generator.gamma((dim - k) / 2.0, size=draws))
    # The extreme coordinate is -m or m; the least of the others, uniform on [-m, m], decides in the second case.
    least = m * (2.0 * -np.expm1(np.log(generator.uniform(size=draws)) / (dim - 1)) - 1.0)
    moved = np.maximum(np.abs(m - radius), radius - least)
    moved = np.where(generator.uniform(size=draws) < 0.5, m + radius, moved)
    return np.asarray(0.5 * (m * m - moved * moved) - k * np.log(moved / m))


def _sampled_required(ratio: Array, failure: float) -> tuple[float, float]:
    """Return ``p*`` of draws and its error: ``U(λ) = P(ℓ <= log λ) + (1/2 - P(ℓ >= -log λ))/λ`` on half of them.

    ``λ`` is where ``U`` is least on the other half. Never below ``p*`` but for the error (Hoeffding), and flat where
    it is least.
    """
    pilot, fresh = np.sort(ratio[::2]), np.sort(ratio[1::2])
    taus = np.quantile(-pilot, np.linspace(0.3, 0.7, 41))

    def upper(values: Array, tau: float) -> float:
        below = np.searchsorted(values, tau, side="right") / len(values)
        above = 1.0 - np.searchsorted(values, -tau, side="left") / len(values)
        return float(below + (0.5 - above) * math.exp(-tau))

    best = float(min(taus, key=lambda tau: upper(pilot, tau)))
    return upper(fresh, best), math.sqrt(math.log(4.0 / failure) / (2.0 * len(fresh))) * (1.0 + math.exp(-best))


def _limit_radius(p: float) -> float:
    """Return ``a`` with ``p*(a) = p`` for ``ℓ = -a`` or ``min(a, 2E - a)``, each with probability 1/2.

    ``p*`` is the least ``U(τ) = P(ℓ <= τ) + (1/2 - P(ℓ >= -τ)) e^{-τ}`` over a grid of ``τ`` that ends at ``a``, where
    both probabilities are 1.
    """

    def required(a: float) -> float:
        tau = np.linspace(0.0, a, 2001)[:-1]
        below, above = 1.0 - 0.5 * np.exp(-0.5 * (tau + a)), 0.5 * np.exp(-0.5 * (a - tau))
        return float(min(np.min(below + (0.5 - above) * np.exp(-tau)), 1.0 - 0.5 * math.exp(-a)))

    return float(optimize.brentq(lambda a: required(a) - p, 1e-9, 50.0))
