"""The law of the log likelihood ratio ``ℓ = log π0(z - δ) - log π0(z)``, ``z ~ π0``, at the worst shift ``δ``.

Every certificate follows from two functions of ``t``: ``P(ℓ > t)`` and ``P(ℓ >= t)``, which differ at atoms. Upper
tails are supplied, not distribution functions, so that certificates near probability 1 keep their relative accuracy.
Lengths are in units of the noise's ``length_scale``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from rs_plugin.numerics import Array


class Tails(NamedTuple):
    """Values of ``P(ℓ > t)`` and ``P(ℓ >= t)`` with the absolute error of either, arrays of one shape.

    The error is what a certificate gives away in the safe direction: bounded where a bound is known, estimated by the
    difference of two nested rules where an integral is done by quadrature.
    """

    above: Array
    at_least: Array
    error: Array

    def above_lower(self) -> Array:
        """Return ``P(ℓ > t)`` rounded down."""
        return np.asarray(np.clip(self.above - self.error, 0.0, 1.0))

    def at_least_lower(self) -> Array:
        """Return ``P(ℓ >= t)`` rounded down."""
        return np.asarray(np.clip(self.at_least - self.error, 0.0, 1.0))


class LogRatioLaw(ABC):
    """The law of ``ℓ`` for one family, threat and dimension, at every radius."""

    #: Whether ``P(ℓ = t) > 0`` for some ``t``.
    has_atoms: bool = False
    #: Absolute error of the tails that is worth its cost: what certificates ask for.
    accuracy: float = 1e-9

    @abstractmethod
    def tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        """Return the tails at ``t`` for shifts of size ``radius > 0``, arrays of one shape (n,).

        ``tolerance`` is the absolute error to aim at; the error returned is what was reached.
        """


class ClosedFormLaw(LogRatioLaw):
    """A law whose certificates have closed forms, correct to a few units in the last place."""

    @abstractmethod
    def required_probability(self, radius: Array) -> Array:
        """Return ``p*(r)``."""

    @abstractmethod
    def radius(self, p: Array) -> Array:
        """Return the largest radius certified at ``p > 1/2``: the inverse of ``p*``."""

    @abstractmethod
    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return ``L(p; r)``."""
