"""Certificates from the law of ``ℓ``, by quadrature or in closed form, with every error spent in the safe direction.

For *every* ``λ = e^τ``, ``U(τ) = P(ℓ <= τ) + (1/2 - P(ℓ >= -τ)) e^{-τ}`` is an upper bound of ``p*`` and
``P(ℓ >= -τ) + λ (P(ℓ > τ) - (1 - p))`` a lower bound of ``L(p)``; both are flat at the best ``τ``. So the best ``τ`` is
located roughly, and the bound is then evaluated there with tails rounded in the safe direction.
"""

from __future__ import annotations

import numpy as np
from scipy import special
from scipy.interpolate import CubicSpline
from scipy.optimize import elementwise

from rs_plugin.certificates.bounds import Bounds
from rs_plugin.certificates.curves import Curve, CurveKey, load_curve, save_curve
from rs_plugin.distributions.laws.base import ClosedFormLaw, LogRatioLaw, Tails
from rs_plugin.numerics import Array, step_down, step_up

_ROUGH = 1e-4  # of the tails while locating τ: its effect on the bound is of the second order
_ROUGHLY = {"xatol": 1e-7, "xrtol": 1e-6, "fatol": 1e-4, "frtol": 0.0}
_AT_AN_ATOM = {"xatol": 1e-12, "xrtol": 1e-12, "fatol": 0.0, "frtol": 0.0}
_ATOM_STEP = 1e-11  # how far beside an atom the bound is evaluated as well
_LOSS = 0.3  # of the law's accuracy: what the bound may lose through a τ that is not the best
_POLISHES = 12
_LARGEST = 1.0 - 1e-12  # required probabilities beyond it are of no use to any number of draws
_CURVE_POINTS = 32
_KNOTS = 12  # radii at which τ is solved for where many are asked
_MARGIN = 1e-7  # relative, of the radii returned below the largest
_SLACK = 2e-6  # relative, below which a radius is not worth another evaluation
_GAP = 1e-3  # in normal quantiles between p and the required probability, above which a radius is not settled
_TRIALS = 8
_HALVINGS = 60
_SMALLEST = 1e-290  # radius that is tried
_DESCENT = (1e-6, 1e-12, 1e-24, 1e-48, 1e-96, 1e-192, 1.0)  # by which a lower end of the bisection goes down, in turn
_QUARTERINGS = 481  # of 1 that stay above it


class ExactBounds(Bounds):
    """Bounds from a law of ``ℓ``.

    Args:
        law: the law for unit scale.
        key: names the curve on disk; None keeps it in memory only.
    """

    def __init__(self, law: LogRatioLaw, key: CurveKey | None = None) -> None:
        self._law = law
        self._key = key
        self._curve: Curve | None = None

    def required_probability(self, radius: Array) -> Array:
        """Return ``min_τ U(τ)`` near the best ``τ``, rounded up."""
        return self._required_probability(radius, self._best_tau(radius))

    def _required_probability(self, radius: Array, tau: Array) -> Array:
        """Return ``U`` rounded up, near ``τ``."""
        if self._law.has_atoms:
            nearby = [np.maximum(tau + step * np.maximum(1.0, tau), 0.0) for step in (0.0, _ATOM_STEP, -_ATOM_STEP)]
            bounds = [self._upper(t, self._law.tails(-t, radius, self._law.accuracy), radius) for t in nearby]
            return np.asarray(np.clip(np.min(bounds, axis=0), 0.5, 1.0))
        t, left = self._polish(-tau, np.full_like(tau, 0.5), np.exp(-tau), radius)
        tau = -t
        return np.asarray(np.clip(self._upper(tau, left, radius), 0.5, 1.0))

    def _upper(self, tau: Array, left: Tails, radius: Array) -> Array:
        """Return ``U(τ)`` rounded up, from the tails at ``-τ`` and those at ``τ``."""
        right = self._law.tails(tau, radius, self._law.accuracy)
        weight = np.exp(-tau)
        missing = 0.5 - left.at_least_lower()
        value = (1.0 - right.above_lower()) + missing * weight
        return step_up(value + 4e-16 * np.abs(missing * weight) * (1.0 + np.abs(tau)), 4)

    def _polish(self, t: Array, target: Array, weight: Array, radius: Array) -> tuple[Array, Tails]:
        """Return better ``t`` with ``P(ℓ >= t)`` near ``target``, and the tails there, by accurate secant steps.

        The bounds change with ``t`` by ``weight`` times the distance of the tail from its target, so at most that times
        the distance to the best ``t`` is lost: much, where ``ℓ`` has next to no density there.
        """
        t = t.copy()
        left = self._law.tails(t, radius, self._law.accuracy)
        level = _height_of(target)
        height = _height_of(left.at_least) - level
        # The first slope comes from the quick tails over a distance; later ones from the accurate tails.
        reach = 0.05 * np.abs(t) + 1e-6
        slope = (self._height(t - reach, radius) - self._height(t + reach, radius)) / (2.0 * reach)
        step = height / np.maximum(slope, 1e-3 / (1.0 + np.abs(t)))
        for _ in range(_POLISHES):
            rows = np.flatnonzero(np.abs((left.at_least - target) * step) * weight > _LOSS * self._law.accuracy)
            if len(rows) == 0:
                break
            trial = t[rows] + step[rows]
            tails = self._law.tails(trial, radius[rows], self._law.accuracy)
            new = _height_of(tails.at_least) - level[rows]
            with np.errstate(divide="ignore", invalid="ignore"):
                secant = -new * (trial - t[rows]) / (new - height[rows])
            limit = 4.0 * np.abs(step[rows])
            secant = np.where(np.isfinite(secant), np.clip(secant, -limit, limit), -0.5 * step[rows])
            # Where the trial is no better, half the step from where it came; else on from the trial.
            closer = np.abs(new) < np.abs(height[rows])
            step[rows] = np.where(closer, secant, 0.5 * step[rows])
            kept = rows[closer]
            t[kept], height[kept] = trial[closer], new[closer]
            for old, fresh in zip(left, tails, strict=True):
                old[kept] = fresh[closer]
        return t, left

    def _best_tau(self, radius: Array) -> Array:
        """Return ``-m`` for the median ``m <= 0`` of ``ℓ``, roughly.

        Of many radii a few are solved; a spline between them, and one secant step, serve the others.
        """
        knots = np.unique(radius)
        if len(knots) <= 2 * _KNOTS or self._law.has_atoms:
            return -self._quantile(np.full_like(radius, 0.5), radius)
        knots = knots[np.unique(np.linspace(0, len(knots) - 1, _KNOTS).round().astype(int))]
        tau = -self._quantile(np.full_like(knots, 0.5), knots)
        slope = CubicSpline(knots, tau / knots)  # τ vanishes with r at least linearly
        guess = np.asarray(radius * slope(radius))
        nearby = guess * 1.02 + 1e-9
        height, height_nearby = self._height(-guess, radius), self._height(-nearby, radius)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = -height * (nearby - guess) / (height_nearby - height)
        usable = np.isfinite(step) & (np.abs(step) < 0.2 * np.abs(guess))
        result = np.where(usable, guess + step, guess)
        # Where the spline does not reach, over many orders of magnitude say, each radius is solved for.
        astray = np.flatnonzero(~usable | (np.abs(height) > 0.5))
        if len(astray):
            result[astray] = -self._quantile(np.full(len(astray), 0.5), radius[astray])
        return np.maximum(result, 0.0)

    def _height(self, t: Array, radius: Array) -> Array:
        """Return the normal quantile of ``P(ℓ >= t)``, roughly: nearly linear in ``t``."""
        tolerance = self._law.accuracy if self._law.has_atoms else _ROUGH
        return _height_of(self._law.tails(t, radius, tolerance).at_least)

    def _quantile(self, tail: Array, radius: Array) -> Array:
        """Return ``t`` with ``P(ℓ >= t)`` near ``tail`` in (0, 1), roughly."""
        target = special.ndtri(np.clip(tail, 1e-300, 1.0 - 1e-16))

        def height(t: Array, r: Array, level: Array) -> Array:
            return self._height(t, r) - level

        low, high = np.full_like(radius, -0.1), np.full_like(radius, 0.1)
        for _ in range(20):
            short = height(low, radius, target) < 0.0
            if not short.any():
                break
            low[short] *= 4.0
        for _ in range(20):
            short = height(high, radius, target) > 0.0
            if not short.any():
                break
            high[short] *= 4.0
        found = elementwise.find_root(
            height, (low, high), args=(radius, target),
            tolerances=_AT_AN_ATOM if self._law.has_atoms else _ROUGHLY, maxiter=100,
        )
        # Where rounding leaves no change of sign: any t gives a valid bound, and 0 a fair one.
        return np.asarray(np.where(np.isfinite(found.x), found.x, 0.0))

    def radius(self, p: Array) -> Array:
        """Return radii whose required probability has been evaluated and lies below ``p``."""
        if len(p) == 0:
            return np.zeros_like(p)
        values, where = np.unique(p, return_inverse=True)
        return np.asarray(self._radius_of_unique(values)[where])

    def _radius_of_unique(self, p: Array) -> Array:
        # Another call may evaluate the same radius at another τ; a little room keeps its answer below p as well.
        p = p - np.minimum(0.5 * self._law.accuracy, 0.01 * (1.0 - p))
        curve = self._get_curve()
        if curve is None:
            return np.zeros_like(p)
        trial, tau, slope = curve.interpolate(p)
        trial *= 1.0 - _MARGIN
        result = np.zeros_like(p)
        pending = np.arange(len(p))
        for _ in range(_TRIALS):
            # Beside an atom the bound is sharp in τ, and a guess will not do.
            best = self._best_tau(trial) if self._law.has_atoms else tau[pending]
            required = self._required_probability(trial, best)
            room = (p[pending] - required) * slope[pending]  # by how much the radius could grow, to first order
            certified = room > 0.0
            result[pending[certified]] = np.maximum(result[pending[certified]], trial[certified])
            # A slope that misleads leaves a required probability far below p.
            gap = special.ndtri(p[pending]) - special.ndtri(required)
            again = ~certified | (room > _SLACK * trial) | (gap > _GAP)
            if not again.any():
                return np.asarray(np.maximum.accumulate(result))
            pending = pending[again]
            trial = np.maximum((trial[again] + room[again]) * (1.0 - _MARGIN), 1e-3 * trial[again])
            trial = np.maximum(trial, _SMALLEST)
        result[pending] = np.maximum(result[pending], self._bisected(p[pending], curve))
        return np.asarray(np.maximum.accumulate(result))  # what is certified at p is certified above it

    def _bisected(self, p: Array, curve: Curve) -> Array:
        """Return the same where the steps do not settle, by bisection of ``log r`` around the curve's points."""
        above = np.searchsorted(curve.required, p)
        # Beyond the last point, where p* rises to 1 steeply, the radius is at most twice that point's.
        high = np.append(curve.radius, 2.0 * curve.radius[-1])[above]
        low = np.where(above > 0, curve.radius[np.maximum(above - 1, 0)], np.maximum(1e-3 * high, _SMALLEST))
        result = np.zeros_like(p)
        holds = self.required_probability(high) < p
        result[holds] = high[holds]
        # Down only as far as needed, since some laws resolve nothing below 1e-15.
        for step in _DESCENT:
            holds = self.required_probability(low) < p
            result[holds] = np.maximum(result[holds], low[holds])
            lower = ~holds & (low > _SMALLEST)
            if not lower.any():
                break
            high[lower], low[lower] = low[lower], np.maximum(step * low[lower], _SMALLEST)
        for _ in range(_HALVINGS):
            open_ = np.flatnonzero(high > low * (1.0 + _SLACK))
            if len(open_) == 0:
                break
            middle = np.sqrt(low[open_]) * np.sqrt(high[open_])  # the product itself may underflow
            holds = self.required_probability(middle) < p[open_]
            low[open_[holds]], high[open_[~holds]] = middle[holds], middle[~holds]
            result[open_[holds]] = np.maximum(result[open_[holds]], middle[holds])
        return result

    def _get_curve(self) -> Curve | None:
        if self._curve is None:
            self._curve = load_curve(self._key) if self._key else None
        if self._curve is None:
            self._curve = self._compute_curve()
            if self._key and self._curve:
                save_curve(self._key, self._curve)
        return self._curve

    def _compute_curve(self) -> Curve | None:
        """Return ``p*`` and the best ``τ`` on radii from near 0 to where ``p*`` is 1 for every purpose.

        None for noise so concentrated that no float that its law resolves is a radius.
        """

        def hopeless(power: int) -> bool:
            return bool(self.required_probability(np.array([0.25**power]))[0] > 0.999)

        # The largest power of 1/4 that is not hopeless. Noise may collapse to 1e-200, while some laws resolve nothing
        # below 1e-15: so from above, in steps that grow, and then by bisection.
        before, power = -1, 0
        while hopeless(power):
            if power == _QUARTERINGS:
                return None
            before, power = power, min(power + 1 + 4 * (power // 8), _QUARTERINGS)
        while power - before > 1:
            middle = (before + power) // 2
            before, power = (middle, power) if hopeless(middle) else (before, middle)
        largest = 0.25**power
        while self.required_probability(np.array([largest]))[0] < _LARGEST and largest < 1e12:
            largest *= 1.5
        # Denser towards 0, where the radii of most images are.
        radius = largest * np.linspace(0.0, 1.0, _CURVE_POINTS + 1)[1:] ** 1.5
        tau = self._best_tau(radius)
        required = np.maximum.accumulate(self._required_probability(radius, tau))
        keep = np.concatenate([[True], np.diff(required) > 0]) & (required < 1.0)
        return Curve(radius[keep], tau[keep], required[keep])

    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return the bound at the ``τ`` with ``P(ℓ >= τ)`` near ``1 - p``, rounded down."""
        result = np.where(p >= 1.0, 1.0, 0.0)
        inner = np.flatnonzero((p > 0.0) & (p < 1.0))
        q, r = 1.0 - p[inner], radius[inner]
        tau = self._quantile(q, r)
        if self._law.has_atoms:
            nearby = [tau + step * np.maximum(1.0, np.abs(tau)) for step in (0.0, _ATOM_STEP, -_ATOM_STEP)]
            values = [self._lower(t, self._law.tails(t, r, self._law.accuracy), q, r) for t in nearby]
            result[inner] = np.max(values, axis=0)
        else:
            tau, right = self._polish(tau, q, np.exp(tau), r)
            result[inner] = self._lower(tau, right, q, r)
        return np.asarray(np.clip(result, 0.0, p))

    def _lower(self, tau: Array, right: Tails, q: Array, radius: Array) -> Array:
        """Return ``P(ℓ >= -τ) + e^τ (P(ℓ > τ) - q)`` rounded down, from the tails at ``τ`` and those at ``-τ``."""
        left = self._law.tails(-tau, radius, self._law.accuracy)
        gain = np.exp(tau) * (right.above_lower() - step_up(q, 1))
        return step_down(left.at_least_lower() + gain - 4e-16 * np.abs(gain) * (1.0 + np.abs(tau)), 4)

    def discrepancy(self, lam: Array, radius: Array) -> Array:
        """Return ``λ P(ℓ <= log λ) - P(ℓ >= -log λ)``, rounded up."""
        result = np.zeros_like(lam)
        inner = np.flatnonzero((lam > 0.0) & np.isfinite(lam))
        scale, r = lam[inner], radius[inner]
        tau = np.log(scale)
        right = self._law.tails(tau, r, self._law.accuracy)
        left = self._law.tails(-tau, r, self._law.accuracy)
        value = scale * (1.0 - right.above_lower()) - left.at_least_lower()
        result[inner] = np.clip(step_up(value + 4e-16 * (1.0 + scale), 4), np.maximum(scale - 1.0, 0.0), scale)
        result[np.isinf(lam)] = np.inf
        return result


class ClosedFormBounds(ExactBounds):
    """Bounds in closed form, moved by a few units in the last place in the safe direction."""

    def __init__(self, law: ClosedFormLaw) -> None:
        super().__init__(law)
        self._closed = law

    def required_probability(self, radius: Array) -> Array:
        """Return ``p*`` rounded up."""
        return np.asarray(np.clip(step_up(self._closed.required_probability(radius), 8), 0.5, 1.0))

    def radius(self, p: Array) -> Array:
        """Return the inverse of ``p*`` rounded down."""
        # Near p = 1/2 the inverse is as exact as p - 1/2, whatever its own size.
        # The steps keep the required probability of what is returned, which is rounded up, below p.
        return np.asarray(np.maximum(self._closed.radius(step_down(p, 32)) * (1.0 - 1e-14) - 1e-15, 0.0))

    def lower_bound(self, p: Array, radius: Array) -> Array:
        """Return ``L`` rounded down."""
        value = self._closed.lower_bound(p, radius)
        return np.asarray(np.clip(value - 1e-13 * np.minimum(value, 1.0), 0.0, p))


def _height_of(tail: Array) -> Array:
    """Return the normal quantile of a probability, finite at 0 and 1."""
    return np.asarray(special.ndtri(np.clip(tail, 1e-300, 1.0 - 1e-16)))
