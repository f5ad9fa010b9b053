"""Noise that depends on one norm: the law of ``ℓ`` by quadrature over the norm ``R = ‖z‖``.

``log φ(q) = -k log q - q^p`` is decreasing, so ``ℓ > t`` exactly if ``‖z - δ‖ < q`` with ``log φ(q) = t + log φ(R)``,
and given ``R`` the law of ``‖z - δ‖`` is a matter of one or two coordinates. In ``y = log R^p`` the norm has the
log-concave density ``exp(a y - e^y) / Γ(a)``, ``a = (d - k)/p``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rs_plugin.distributions.laws.base import LogRatioLaw, Tails
from rs_plugin.numerics import Array, integrate_panels, log_gammaincinv
from rs_plugin.threats import Threat

_CUT = 1e-18  # probability left out at either end of the norm's law
_PANELS = 8
_WIDEST_PANEL = 3.0  # in y, so that the far left tail of a small shape is resolved as well
_RESOLVED = 120.0  # length in y of the part with equal panels
_AROUND = np.array([-48.0, -24.0, -12.0, -6.0, -3.0, 0.0, 3.0, 6.0, 12.0, 24.0, 48.0])  # edges about R = r
_ROUNDING = 1e-13  # relative rounding of the densities and conditional probabilities, summed over the nodes
_BLUR = 2e-15  # rounding of a place on the axis of ℓ, relative to its own size
_ROWS = 256  # radii at a time, which bounds the memory


class _Conditional(NamedTuple):
    below: Array  # P(‖z - δ‖ < q | R)
    up_to: Array  # P(‖z - δ‖ <= q | R)


class RadialLaw(LogRatioLaw):
    """The law of ``ℓ`` for ``NormExponential(norm, power, k, scale=1)`` in ``dim`` dimensions.

    ``threat`` is the norm's own, or L1 for norm ∞; in one dimension all norms and threats are one.
    """

    def __init__(self, norm: float, power: float, k: float, dim: int, threat: Threat) -> None:
        self.norm, self.power, self.k, self.dim, self.threat = norm, power, k, dim, threat
        self.has_atoms = (k == 0 and power == 1.0) or (norm == math.inf and threat == "L1")
        self._shape = (dim - k) / power
        # Beside the places where k = 0 and power 1 have atoms, the law rises within about max(k, |power - 1|).
        blur = max(k, abs(power - 1.0))
        self._rounding = _ROUNDING + (_BLUR / blur if blur > 0.0 else 0.0)
        low = log_gammaincinv(self._shape, math.log(_CUT))
        high = math.log(float(special.gammainccinv(self._shape, _CUT)))
        turn = max(low, high - _RESOLVED)
        count = max(_PANELS, math.ceil((high - turn) / _WIDEST_PANEL))
        self._edges = np.linspace(turn, high, count + 1)
        # Farther left the density is exponential and the conditional law changes about R = r alone.
        self._has_far_tail = turn > low
        if self._has_far_tail:
            reach = np.geomspace(_WIDEST_PANEL, _WIDEST_PANEL + turn - low, 2 * math.ceil(math.log2(turn - low + 3.0)))
            self._edges = np.concatenate([(turn + _WIDEST_PANEL - reach)[:0:-1], self._edges])

    def tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        """Return the tails, by Gauss-Kronrod panels split where the integrand jumps or kinks."""
        parts = [self._tails(t[i : i + _ROWS], radius[i : i + _ROWS], tolerance) for i in range(0, len(t), _ROWS)]
        return Tails(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else Tails(t, t, t)

    def _tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        kinks = self._kinks(t, radius)
        if self._has_far_tail:
            kinks = np.concatenate([kinks, self.power * np.log(radius)[:, None] + _AROUND], axis=1)
        kinks = np.clip(kinks, self._edges[0], self._edges[-1])
        edges = np.sort(np.concatenate([np.broadcast_to(self._edges, (len(t), len(self._edges))), kinks], axis=1))
        owner = np.repeat(np.arange(len(t)), edges.shape[1] - 1)
        left, right = edges[:, :-1].ravel(), edges[:, 1:].ravel()
        wide = right > left
        t, radius = t[:, None], radius[:, None]

        def integrand(y: Array, of: NDArray[np.intp]) -> tuple[Array, Array]:
            values = self._density(y) * np.stack(self._conditional(y, t[of], radius[of]))
            return values, self._rounding * values[1]

        panels = owner[wide], left[wide], right[wide]
        (above, at_least), error = integrate_panels(integrand, *panels, (2, len(t)), tolerance)
        return Tails(above, at_least, error + 2.0 * _CUT)

    def _density(self, y: Array) -> Array:
        """``exp(a y - e^y) / Γ(a)``, for large ``a`` about ``y = log a`` with Stirling's series (DLMF 5.11.1)."""
        a = self._shape
        if a < 30.0:
            return np.asarray(np.exp(a * y - np.exp(y) - special.gammaln(a)))
        eta = y - math.log(a)
        constant = 0.5 * math.log(a / (2.0 * math.pi)) - 1.0 / (12.0 * a) + 1.0 / (360.0 * a**3)
        return np.asarray(np.exp(a * (eta - np.expm1(eta)) + constant - 1.0 / (1260.0 * a**5)))

    def _log_growth(self, y: Array, t: Array) -> Array:
        """Return ``log(q / R)`` where ``log φ(q) = t + log φ(R)``.

        With ``v = p log(q/R)`` and ``A = R^p`` this is ``(k/p) v + A (e^v - 1) + t = 0``. Wright's omega function
        solves it; two Newton steps on this form, which does not cancel near 0, restore full relative accuracy.
        """
        level = np.exp(y)
        if self.k == 0:
            with np.errstate(divide="ignore"):
                return np.asarray(np.log1p(np.maximum(-t / level, -1.0)) / self.power)
        slope = self.k / self.power
        log_ratio = y - math.log(slope)
        argument = (level - t) / slope + log_ratio
        with np.errstate(divide="ignore", under="ignore"):
            log_omega = np.where(argument < -30.0, argument, np.log(special.wrightomega(np.maximum(argument, -40.0))))
        v = log_omega - log_ratio
        for _ in range(2):
            # e^y (e^v - 1), also where v alone is too large for an exponential
            far = np.exp(np.minimum(y + v, 700.0))
            rise = np.where(v > 30.0, far, level * np.expm1(np.minimum(v, 30.0)))
            v = v - (slope * v + rise + t) / (slope + far)
        return np.asarray(np.where(t == 0.0, 0.0, v) / self.power)

    def _conditional(self, y: Array, t: Array, radius: Array) -> _Conditional:
        """Return the law of ``‖z - δ‖`` at ``q`` given ``R``, from ``ρ = r/R`` and ``g = q/R - 1``."""
        log_growth = self._log_growth(y, t)
        log_rho = np.log(radius) - y / self.power
        if self.k == 0 and self.power == 1.0:
            # q = R - t: where t = r or -r, the atoms, the comparisons below find equality, not rounding.
            inverse = np.exp(np.minimum(-y, 600.0))
            growth, rho = np.maximum(-t * inverse, -1.0), radius * inverse
        else:
            growth, rho = np.expm1(np.minimum(log_growth, 300.0)), np.exp(np.minimum(log_rho, 300.0))
        if self.dim == 1:
            return self._two_points(growth, rho)
        if self.norm == 2:
            return self._spherical(log_growth, log_rho, rho)
        if self.norm == 1:
            return self._one_norm(growth, rho)
        return self._maximum_corner(growth, rho) if self.threat == "Linf" else self._maximum_axis(growth, rho)

    def _two_points(self, growth: Array, rho: Array) -> _Conditional:
        # |z - r| is R + r or |R - r|, each with probability 1/2.
        near = _nearest(rho)
        below = 0.5 * (growth > rho) + 0.5 * (growth > near)
        return _Conditional(below, 0.5 * (growth >= rho) + 0.5 * (growth >= near))

    def _spherical(self, log_growth: Array, log_rho: Array, rho: Array) -> _Conditional:
        # ‖z - δ‖² = R² - 2 R r cos θ + r² < q² where cos θ > (ρ - (q²/R² - 1)/ρ) / 2; (1 + cos θ)/2 is a Beta variable.
        with np.errstate(over="ignore"):
            cosine = 0.5 * (rho - np.expm1(np.minimum(2.0 * log_growth, 600.0)) / rho)
        half = 0.5 * (self.dim - 1)
        value = special.betainc(half, half, np.clip(0.5 - 0.5 * cosine, 0.0, 1.0))
        value = np.where(log_rho > 40.0, log_growth > log_rho, value)  # r beyond all rounding larger than R
        return _Conditional(value, value)

    def _one_norm(self, growth: Array, rho: Array) -> _Conditional:
        # ‖z - δ‖ = R + r - 2 min(a, r), a = max(z₁, 0): 0 with probability 1/2, else a/R ~ Beta(1, d - 1).
        need = 0.5 * (rho - growth)  # in units of R: the norm is below q where min(a, r) exceeds this
        with np.errstate(divide="ignore"):
            half = 0.5 * np.exp((self.dim - 1) * np.log1p(-np.clip(need, 0.0, 1.0)))
        below = np.where(need < 0.0, 1.0, np.where(need < rho, half, 0.0))
        return _Conditional(below, np.where(need <= 0.0, 1.0, np.where(need <= rho, half, 0.0)))

    def _maximum_corner(self, growth: Array, rho: Array) -> _Conditional:
        # The extreme coordinate is -R: the norm is R + r. It is R: the norm is the larger of |R - r| and Q + r, Q the
        # largest opposite coordinate, P(Q <= x R) = ((1 + x)/2)^{d-1}.
        with np.errstate(divide="ignore"):
            inside = np.exp((self.dim - 1) * np.log1p(np.clip(0.5 * (growth - rho), -1.0, 0.0)))
        near = _nearest(rho)
        below = 0.5 * (growth > rho) + 0.5 * np.where(growth > near, inside, 0.0)
        return _Conditional(below, 0.5 * (growth >= rho) + 0.5 * np.where(growth >= near, inside, 0.0))

    def _maximum_axis(self, growth: Array, rho: Array) -> _Conditional:
        # Coordinate 1 is the extreme one, at -R or R, with probability 1/2d each; else the norm is the larger of R and
        # |r - z₁| with z₁ uniform.
        d = self.dim
        with np.errstate(divide="ignore"):
            others = np.exp((d - 1) * np.log1p(np.clip(growth, -1.0, 0.0)))
        side = np.clip(1.0 + 0.5 * (growth - rho), 0.0, 1.0)
        near = _nearest(rho)
        below = (
            0.5 / d * (growth > rho)
            + 0.5 / d * np.where(growth > near, others, 0.0)
            + (d - 1) / d * np.where(growth > 0.0, side, 0.0)
        )
        up_to = (
            0.5 / d * (growth >= rho)
            + 0.5 / d * np.where(growth >= near, others, 0.0)
            + (d - 1) / d * np.where(growth >= 0.0, side, 0.0)
        )
        return _Conditional(below, up_to)

    def _kinks(self, t: Array, radius: Array) -> Array:
        """Return the ``y`` where ``q = R + r`` or ``q = |R - r|``, shape (n, 3); below all nodes where there is none.

        With ``D(R) = log φ(R + r) - log φ(R) < 0``, which rises to one maximum and falls, ``q = R + r`` where
        ``D(R) = t`` and, mirrored, ``q = R - r`` where ``D(R - r) = -t``; ``q = r - R`` has one root below ``r``.
        """
        log_r = np.log(radius)
        low = np.minimum(self._edges[0] / self.power, log_r - 40.0)
        high = np.full_like(low, self._edges[-1] / self.power)

        def drop(x: Array) -> Array:
            log_sum = np.logaddexp(0.0, log_r - x)  # log((R + r)/R)
            with np.errstate(over="ignore", invalid="ignore"):
                gain = np.exp(self.power * x) * np.expm1(np.minimum(self.power * log_sum, 700.0))
            return np.asarray(self.k * log_sum + np.where(np.isnan(gain), radius**self.power, gain))

        def slope(x: Array) -> Array:
            log_sum = np.logaddexp(0.0, log_r - x)
            with np.errstate(over="ignore"):
                fall = self.power * np.exp(self.power * x) * np.expm1(np.minimum((self.power - 1.0) * log_sum, 700.0))
            return np.asarray(-self.k * np.expm1(-log_sum) - fall)

        def reflected(x: Array) -> Array:
            # log φ(r - R) - log φ(R) - t, increasing on (0, r); x is the logit of R / r.
            log_inner, log_outer = log_r - np.logaddexp(0.0, -x), log_r - np.logaddexp(0.0, x)
            levels = np.exp(self.power * log_inner) - np.exp(self.power * log_outer)
            return np.asarray(self.k * (log_inner - log_outer) + levels - t)

        top = _bisect(lambda x: -slope(x), low, high)
        size = np.abs(t)
        rising = _bisect(lambda x: size - drop(x), low, top)
        falling = _bisect(lambda x: drop(x) - size, top, high)
        shift = np.where(t > 0, log_r, -np.inf)
        logit = _bisect(reflected, np.full_like(low, -60.0), np.full_like(low, 60.0))
        roots = [np.logaddexp(rising, shift), np.logaddexp(falling, shift), log_r - np.logaddexp(0.0, -logit)]
        return np.asarray(self.power * np.stack(roots, axis=1))


def _nearest(rho: Array) -> Array:
    """Return ``|1 - ρ| - 1`` without cancellation."""
    return np.where(rho <= 1.0, -rho, rho - 2.0)


def _bisect(function, low: Array, high: Array) -> Array:  # type: ignore[no-untyped-def]
    """Return the roots of functions that increase on [low, high], an end where there is no root."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        positive = function(middle) > 0
        low, high = np.where(positive, low, middle), np.where(positive, middle, high)
    return np.asarray(0.5 * (low + high))
