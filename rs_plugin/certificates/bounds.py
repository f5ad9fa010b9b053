"""What a certificate computes, for one threat model, with lengths in units of the noise's ``length_scale``.

Three ways to supply it have one signature, so that each tests the others: ``exact`` and ``closed_form`` from the law of
the log likelihood ratio ``ℓ``, ``sampled`` from Monte-Carlo tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from rs_plugin.numerics import Array


class Bounds(ABC):
    """Safe values of the four functions of Zhang et al. (NeurIPS 2020), Theorem 1, at the worst shift of size ``r``.

    Arrays have one shape (n,); radii are positive and finite, ``p`` is in [0, 1], ``λ`` is not negative.
    """

    @abstractmethod
    def required_probability(self, radius: Array) -> Array:
        """Return an upper bound on ``p*(r) = inf_λ (1/2 + D(λ; r)) / λ``."""

    @abstractmethod
    def radius(self, p: Array) -> Array:
        """Return a radius certified at each ``p`` in (1/2, 1), the largest but for a small relative margin."""

    @abstractmethod
    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return a lower bound on ``L(p; r) = sup_λ (λ p - D(λ; r))``."""

    @abstractmethod
    def discrepancy(self, lam: Array, radius: Array) -> Array:
        """Return an upper bound on ``D(λ; r) = E(λ - e^ℓ)_+``."""
