"""The law of ``‖z‖∞`` under a product of generalised normals tilted by the maximum.

In units of ``scale^{1/power}`` the maximum ``m`` has density ``∝ m^{-k} exp(-m^p) P(1/p, m^p)^{d-1}``, ``P`` the
regularised lower incomplete gamma function. In ``x = log m`` this density is log-concave (each factor is), which makes
its bulk easy to find; it falls like ``exp((d - k) x)`` on the left, far below the smallest float when ``k`` nears
``d``.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
from scipy import optimize
from scipy.special import gammaln
from scipy.stats.sampling import NumericalInversePolynomial

from rs_plugin.numerics import Array, gauss_legendre, log_gammainc, log_gammainc_at

# Logarithm of the density, relative to its peak, where the law is cut off: e^{-36} = 2e-16.
_CUT = 36.0

# Below this value of m^p two terms of the series of P(1/p, m^p) are exact.
_SMALL = 1e-8


class MaximumLaw:
    """The law of ``m = ‖z‖∞`` for scale 1; make it with ``maximum_law``, which keeps the last ones."""

    def __init__(self, power: float, k: float, dim: int) -> None:
        self.power, self.k, self.dim = power, k, dim
        self._peak = 0.0
        mode = float(optimize.minimize_scalar(lambda x: -self._shape(x), bracket=self._mode_bracket()).x)
        self._peak = float(self._shape(mode))
        self.low = self._end(mode, -1.0)
        self.high = self._end(mode, 1.0)
        # Panels that grow are enough in the exponential tail on the left, short ones from a few units below the end.
        turn = max(self.low, self.high - 14.0 / power)
        edges = np.linspace(turn, self.high, 49)
        if turn > self.low:
            edges = np.concatenate([turn + 1.0 - np.geomspace(1.0, 1.0 + turn - self.low, 33)[:0:-1], edges])
        self._edges = edges
        nodes, weights = gauss_legendre(20)
        widths = np.diff(edges)
        self._x = (edges[:-1, None] + widths[:, None] * nodes).ravel()
        self._mass = (widths[:, None] * weights).ravel() * np.exp(self._shape(self._x))
        total = float(self._mass.sum())
        self._mass /= total
        self.log_total = math.log(total) + self._peak
        self._peak = self.log_total
        self._cumulated = np.concatenate([[0.0], np.cumsum(self._mass.reshape(len(widths), -1).sum(1))])
        self._inverse: NumericalInversePolynomial | None = None

    def log_density(self, x: Array) -> Array:
        """Return the log density of ``x = log m``."""
        return np.asarray(self._shape(x))

    def log_density_at(self, x: float) -> float:
        """Return the log density at one ``x = log m``; twenty times as fast as ``log_density`` there."""
        shape, level = 1.0 / self.power, math.exp(self.power * x)
        if level < _SMALL:
            relative = math.log1p(-level / (1.0 + self.power)) - math.lgamma(shape + 1.0)
        else:
            relative = log_gammainc_at(shape, self.power * x) - x
        return (self.dim - self.k) * x - level + (self.dim - 1) * relative - self._peak

    def below(self, x: Array) -> Array:
        """Return ``P(log m <= x)`` for ``x`` from ``low`` to ``high``, by quadrature from the last edge before it."""
        nodes, weights = gauss_legendre(20)
        panel = np.clip(np.searchsorted(self._edges, x, side="right") - 1, 0, len(self._edges) - 2)
        start = self._edges[panel]
        density = np.exp(self.log_density(start[:, None] + (x - start)[:, None] * nodes))
        return np.asarray(self._cumulated[panel] + (x - start) * (density @ weights))

    def mean(self, values: Array) -> float:
        """Return the mean of a function of ``m`` given by its ``values`` at ``self.nodes``."""
        return float(self._mass @ values)

    @property
    def nodes(self) -> Array:
        """Values of ``m`` at which ``mean`` wants a function, shape (count,)."""
        return np.asarray(np.exp(self._x))

    @property
    def log_nodes(self) -> Array:
        """Logarithms of ``nodes``, exact where ``nodes`` underflow."""
        return self._x

    @cached_property
    def small(self) -> float:
        """The quantile at 1/1000."""
        return float(self.quantile(np.array([1e-3]))[0])

    def quantile(self, uniform: Array) -> Array:
        """Return ``m`` with ``P(‖z‖∞ <= m) = uniform``, to 1e-12 in ``uniform``.

        Source: Derflinger, Hörmann & Leydold (2010), as scipy implements it.
        """
        if self._inverse is None:
            self._inverse = NumericalInversePolynomial(
                _Density(self), center=self._x[int(np.argmax(self._mass))], domain=(self.low, self.high),
                u_resolution=1e-12,
            )
        return np.asarray(np.exp(self._inverse.ppf(uniform)))

    def _shape(self, x: float | Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        shape = 1.0 / self.power
        with np.errstate(over="ignore"):
            level = np.exp(self.power * x)
        # log P(1/p, m^p) - x is bounded on the left, where (1 - k) x + (d - 1) log P would cancel as k nears d.
        start = -gammaln(shape + 1.0) + np.log1p(-np.minimum(level, 0.5) / (1.0 + self.power))
        relative = np.where(level < _SMALL, start, log_gammainc(shape, self.power * x) - x)
        return np.asarray((self.dim - self.k) * x - level + (self.dim - 1) * relative - self._peak)

    def _mode_bracket(self) -> tuple[float, float]:
        # m^p is near log d for small k, and near (d - k) / d times a constant as k nears d.
        return (math.log((self.dim - self.k) / self.dim) / self.power, math.log(1.0 + math.log(self.dim)) / self.power)

    def _end(self, mode: float, direction: float) -> float:
        step = 1.0
        while self._shape(mode + direction * step) > -_CUT:
            step *= 2.0
        return float(optimize.brentq(lambda s: self._shape(mode + direction * s) + _CUT, 0.0, step)) * direction + mode


class _Density:
    """What scipy's sampler asks of a distribution: the density at one point, some 15 000 times."""

    def __init__(self, law: MaximumLaw) -> None:
        self._law = law

    def pdf(self, x: float) -> float:
        return math.exp(self._law.log_density_at(x))


@lru_cache(maxsize=64)
def maximum_law(power: float, k: float, dim: int) -> MaximumLaw:
    """Return the law of ``‖z‖∞`` for scale 1, computed once per (power, k, dim)."""
    return MaximumLaw(power, k, dim)


def log_normaliser(power: float, k: float, dim: int) -> float:
    """Return ``log ∫ ‖z‖∞^{-k} exp(-Σ|z_i|^p) dz`` for scale 1.

    ``= log(2 d C^{d-1} ∫ m^{-k} e^{-m^p} P(1/p, m^p)^{d-1} dm)`` with ``C = 2 Γ(1 + 1/p)``.
    """
    log_coordinate = math.log(2.0) + float(gammaln(1.0 + 1.0 / power))
    return math.log(2.0 * dim) + (dim - 1) * log_coordinate + maximum_law(power, k, dim).log_total
