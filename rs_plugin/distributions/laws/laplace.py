"""Laplace noise under L1, for density ``∝ exp(-‖z‖₁)``, that is ``b = 1``."""

from __future__ import annotations

import numpy as np

from rs_plugin.distributions.laws.base import ClosedFormLaw, Tails
from rs_plugin.numerics import Array


class LaplaceLaw(ClosedFormLaw):
    """``ℓ = 2 min(max(z₁, 0), r) - r``: atoms at ``-r`` and ``r``, and a density between.

    Source: Teng, Lee & Yuan (2020); Zhang et al. (NeurIPS 2020), Eq. 7, which overstates ``L`` for ``p < 1/2``: the
    three branches of ``lower_bound`` follow from the law itself.
    """

    has_atoms = True

    def tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        """Return the tails: ``exp(-(t + r)/2) / 2`` between the atoms, 1 below and 0 above them."""
        between = 0.5 * np.exp(-0.5 * np.clip(t + radius, 0.0, None))
        above = np.where(t < -radius, 1.0, np.where(t < radius, between, 0.0))
        at_least = np.where(t <= -radius, 1.0, np.where(t <= radius, between, 0.0))
        return Tails(above, at_least, np.asarray(between * (4.0 + np.abs(t) + radius) * 4e-16))

    def required_probability(self, radius: Array) -> Array:
        """Return ``1 - exp(-r) / 2``."""
        return np.asarray(0.5 - 0.5 * np.expm1(-radius))

    def radius(self, p: Array) -> Array:
        """Return ``-log(2 (1 - p))``."""
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(2.0 * (1.0 - p)))

    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return ``e^{-r} p``, ``e^{-r} / (4(1-p))`` or ``1 - e^r (1-p)``, for p below 1/2, above, and near 1."""
        shrink = np.exp(-radius)
        q = 1.0 - p
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            middle = shrink / (4.0 * q)
            top = np.where(q == 0.0, 1.0, 1.0 - q / shrink)
        return np.asarray(np.where(p <= 0.5, shrink * p, np.where(q >= 0.5 * shrink, middle, top)))
