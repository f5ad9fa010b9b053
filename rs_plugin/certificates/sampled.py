"""Monte-Carlo certificates: tables of the discrepancy on grids that are fixed before the draws that fill them.

A pilot sample chooses radii and, at each, a grid of ``λ``; fresh draws then bound ``D(λ_j; r_i)`` from above for all
cells together with probability at least ``1 - alpha`` (union bound over the cells). Everything else follows without
further failure probability, so one ``alpha`` covers every radius, every ``p`` and every call:

* ``D(·; r)`` is convex with ``D(0) = 0`` and slope at most 1, so chords between bounded cells bound it between them;
* ``D(λ; ·)`` does not decrease, so a radius off the grid takes the next larger one of the grid;
* ``L(p; r) = sup_λ (λ p - D)`` over chords is attained at a cell.

Two ways to fill a cell, each valid for any law of ``ℓ``, atoms included:

* ``dual``, the paper's (Zhang et al. 2020, Section 4.2): the mean of ``(λ - e^ℓ)_+`` plus Hoeffding's
  ``λ √(log(1/δ) / 2n)`` (the upper side alone is needed);
* ``monte_carlo``, Neyman-Pearson: ``λ P(ℓ <= log λ) - P(ℓ >= -log λ)`` with Clopper-Pearson bounds of both
  probabilities, each with half of the cell's share.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from scipy import special
from torch import Tensor

from rs_plugin.certificates.bounds import Bounds
from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.errors import ModelError
from rs_plugin.estimation import clopper_pearson_lower, clopper_pearson_upper
from rs_plugin.numerics import Array
from rs_plugin.threats import Threat

_RADII = 64
_LAMBDAS = 48
_PILOT_SHARE = 0.1
_BLOCK_VALUES = 1 << 23  # float64 values of noise held at a time

SampledMethod = Literal["dual", "monte_carlo"]


class SampledBounds(Bounds):
    """Bounds that hold together with probability at least ``1 - alpha`` over the draws.

    Args:
        noise: of any scale; lengths here are in units of its ``length_scale``.
        threat: a threat model whose worst shift the noise declares.
        dim: values in one event.
        method: how cells are bounded.
        n: draws that fill the table; a tenth as many more choose its grids.
        alpha: failure probability of the whole table.
        generator: source of all draws.
    """

    def __init__(
        self,
        noise: SmoothingDistribution,
        threat: Threat,
        dim: int,
        method: SampledMethod,
        *,
        n: int,
        alpha: float,
        generator: torch.Generator,
    ) -> None:
        probe(noise, dim)
        self._noise, self._threat, self._dim, self._generator = noise, threat, dim, generator
        pilot = max(1000, int(_PILOT_SHARE * n))
        scale = self._largest_radius(pilot)
        # Quadratic spacing: images are certified at small radii more often than at large ones.
        self._radii: Array = scale * np.linspace(0.0, 1.0, _RADII + 1)[1:] ** 1.5
        self._lambdas = self._choose_lambdas(pilot)
        share = alpha / self._lambdas.size
        self._table = self._fill(method, n, share)

    def required_probability(self, radius: Array) -> Array:
        """Return the least ``(1/2 + D(λ_j; r)) / λ_j`` over the cells at the next radius of the grid."""
        lam, bound = self._at(radius)
        return np.asarray(np.clip(np.min((0.5 + bound) / lam, axis=1, initial=1.0), 0.5, 1.0))

    def radius(self, p: Array) -> Array:
        """Return the largest radius of the grid whose required probability lies below ``p``."""
        required = self.required_probability(self._radii)
        holds = required[None, :] < p[:, None]
        return np.asarray(np.max(np.where(holds, self._radii[None, :], 0.0), axis=1, initial=0.0))

    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return the largest ``λ_j p - D(λ_j; r)``."""
        lam, bound = self._at(radius)
        return np.asarray(np.clip(np.max(lam * p[:, None] - bound, axis=1, initial=0.0), 0.0, p))

    def discrepancy(self, lam: Array, radius: Array) -> Array:
        """Return the chord through the bounded cells around ``λ``."""
        knots, bounds = self._at(radius)
        result = np.empty_like(lam)
        for i, value in enumerate(lam):
            x = np.concatenate([[0.0], knots[i]])
            y = np.concatenate([[0.0], bounds[i]])
            beyond = y[-1] + (value - x[-1])
            result[i] = min(float(np.interp(value, x, y)) if value <= x[-1] else beyond, value)
        return result

    def _at(self, radius: Array) -> tuple[Array, Array]:
        """Return the grid of ``λ`` and the bounds at the next radius of the grid, ``D = λ`` beyond the last."""
        index = np.searchsorted(self._radii, radius)
        inside = index < len(self._radii)
        index = np.minimum(index, len(self._radii) - 1)
        lam = self._lambdas[index]
        return lam, np.where(inside[:, None], self._table[index], lam)

    def _draws(self, n: int) -> list[int]:
        rows = max(1, min(n, _BLOCK_VALUES // self._dim))
        return [min(rows, n - start) for start in range(0, n, rows)]

    def _sample(self, count: int) -> Tensor:
        shape = (count, self._dim)
        return self._noise.sample(shape, generator=self._generator, dtype=torch.float64)

    def _log_ratios(self, z: Tensor, radii: Array) -> Array:
        """Return ``ℓ`` of each draw at each radius, shape (radii, count)."""
        at = self._noise.log_ratio(z, self._threat)
        rows = np.stack([at(float(r) * self._noise.length_scale).cpu().numpy() for r in radii])
        if np.isnan(rows).any():
            raise ModelError(f"the log density of {self._noise} returned NaN; a certificate needs finite ratios")
        return rows

    def _largest_radius(self, pilot: int) -> float:
        """Return a radius at which a pilot sample no longer certifies p = 0.9999."""
        z = self._sample(min(pilot, max(1, _BLOCK_VALUES // self._dim)))
        radius = 1.0
        while _empirical_requirement(self._log_ratios(z, np.array([radius]))[0]) > 0.999 and radius > 1e-12:
            radius /= 4.0
        while _empirical_requirement(self._log_ratios(z, np.array([radius]))[0]) < 0.9999 and radius < 1e12:
            radius *= 1.5
        return radius

    def _choose_lambdas(self, pilot: int) -> Array:
        """Return grids of ``λ`` per radius, shape (radii, lambdas): quantiles of ``-ℓ`` and a spread beyond them."""
        ratios = np.concatenate([self._log_ratios(self._sample(c), self._radii) for c in self._draws(pilot)], axis=1)
        levels = special.ndtr(np.linspace(-3.2, 3.2, _LAMBDAS - 1))
        tau = np.quantile(np.concatenate([ratios, -ratios], axis=1), levels, axis=1).T
        # The best λ for the decision at 1/2 is e^{-m}; just above it an atom at the median is included.
        best = -np.median(ratios, axis=1, keepdims=True) + 1e-9
        grid = np.sort(np.concatenate([tau, best], axis=1), axis=1)
        return np.asarray(np.exp(np.clip(grid, -600.0, 600.0)))

    def _fill(self, method: SampledMethod, n: int, share: float) -> Array:
        totals = np.zeros((2, *self._lambdas.shape))
        tau = np.log(self._lambdas)
        # An atom of ℓ is computed as values that differ by their rounding; a threshold among them would count different
        # parts of it in the two tails. So both are counted as if ℓ were off in the unfavourable direction.
        blur = 1e-9 + 1e-12 * self._dim
        for count in self._draws(n):
            ratios = self._log_ratios(self._sample(count), self._radii)
            for i, row in enumerate(np.sort(ratios, axis=1)):
                at_most = np.searchsorted(row, tau[i] + (0.0 if method == "dual" else blur), side="right")
                if method == "dual":
                    totals[0, i] += _positive_parts(row, self._lambdas[i], at_most)
                else:
                    totals[0, i] += at_most
                    totals[1, i] += count - np.searchsorted(row, -tau[i] + blur, side="left")
        if method == "dual":
            bound = totals[0] / n + self._lambdas * (math.sqrt(math.log(1.0 / share) / (2.0 * n)) + 1e-12)
        else:
            at_most_upper, at_least_lower = _clopper_pearson(totals[0], totals[1], n, share / 2.0)
            bound = self._lambdas * at_most_upper - at_least_lower
        return np.asarray(np.clip(bound, np.maximum(self._lambdas - 1.0, 0.0), self._lambdas))


def _positive_parts(row: Array, lam: Array, at_most: Array) -> Array:
    """Return ``Σ (λ - e^ℓ)_+`` for sorted ``ℓ``, from cumulative sums of ``e^ℓ``."""
    sums = np.concatenate([[0.0], np.cumsum(np.exp(np.minimum(row, 600.0)))])
    return np.asarray(lam * at_most - sums[at_most])


def _clopper_pearson(at_most: Array, at_least: Array, n: int, share: float) -> tuple[Array, Array]:
    upper = clopper_pearson_upper(at_most.astype(np.int64), n, share)
    return np.asarray(upper), np.asarray(clopper_pearson_lower(at_least.astype(np.int64), n, share))


def _empirical_requirement(ratios: Array) -> float:
    """Return a plain estimate of ``p*`` from draws of ``ℓ``, to choose grids with."""
    median = float(np.median(ratios))
    return float(np.mean(ratios <= -median) - math.exp(min(median, 0.0)) * (np.mean(ratios >= median) - 0.5))
