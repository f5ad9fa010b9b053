"""Gaussian noise under L2, for density ``∝ exp(-‖z‖²)``, that is ``σ = 1/√2``."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from rs_plugin.distributions.laws.base import ClosedFormLaw, Tails
from rs_plugin.numerics import Array

_ROOT_2 = math.sqrt(2.0)


class GaussianLaw(ClosedFormLaw):
    """``ℓ ~ N(-s²/2, s²)`` with ``s = r / σ``.

    Source: Cohen, Rosenfeld & Kolter (ICML 2019), Theorem 1; Zhang et al. (NeurIPS 2020), Eq. 8.
    """

    def tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        """Return ``Φ(-(t + s²/2)/s)``."""
        s = _ROOT_2 * radius
        x = t / s + s / 2.0
        value = special.ndtr(-x)
        # The argument carries a few roundings, each of which moves the tail by x² of itself.
        return Tails(value, value, np.asarray(value * (4.0 + x * x) * 2e-15))

    def required_probability(self, radius: Array) -> Array:
        """Return ``Φ(r/σ)``."""
        return np.asarray(special.ndtr(_ROOT_2 * radius))

    def radius(self, p: Array) -> Array:
        """Return ``σ Φ⁻¹(p)``."""
        return np.asarray(special.ndtri(p) / _ROOT_2)

    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return ``Φ(Φ⁻¹(p) - r/σ)``."""
        return np.asarray(special.ndtr(special.ndtri(p) - _ROOT_2 * radius))
