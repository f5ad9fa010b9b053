"""MixedNorm under Linf: the law of ``ℓ`` by quadrature over the maximum and the largest opposite coordinate.

For density ``∝ ‖z‖∞^{-k} exp(-‖z‖₂²)`` and ``δ = (r, …, r)``: ``ℓ = -k log(m'/m) + 2 r S - d r²`` with ``m = ‖z‖∞``,
``m' = ‖z - δ‖∞`` and ``S = Σ z_i``, so ``ℓ > t`` exactly if ``S`` exceeds ``s(m') = (t + k log(m'/m) + d r²) / 2r``.
Given ``m``, each with probability 1/2:

* the extreme coordinate is ``-m``: ``m' = m + r`` and the other ``d - 1`` are independent on ``[-m, m]``;
* it is ``+m``. With ``-Q`` the smallest of the others, ``m' = max(|m - r|, Q + r)``. Where ``Q <= m - 2r`` this is
  ``m - r``, and the others are ``d - 1`` independent ones on ``[2r - m, m]``; elsewhere ``Q`` is integrated over, one
  coordinate being ``-Q`` and ``d - 2`` independent on ``[-Q, m]``.

Since ``|m - r| <= m' <= m + r`` and ``|S|`` has a bound, most maxima alone decide whether ``ℓ > t``: of these only the
mass is needed. As ``k`` nears ``d`` the law of ``x = log m`` spans thousands of units and ``m`` underflows, but there
``ℓ = k (x - log r) - d r²`` up to terms of the order of ``m / r``, so that the undecided ``x`` have next to no mass.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rs_plugin.distributions.laws.base import LogRatioLaw, Tails
from rs_plugin.distributions.laws.truncated_sums import ALIASING, erf_between, sum_limit, sum_tail
from rs_plugin.distributions.maximum import maximum_law
from rs_plugin.numerics import Array, gauss_legendre, integrate_panels, kronrod_rule

_CUT = 44.0  # log of the inverse probability below which Q is left out: 8e-20
_PANELS = 4
_DOUBLINGS = 4  # of the panels in Q, for the maxima that need it
_BISECTIONS = 20  # for points where panels are split, which need not be exact
_COARSE = 1e-6  # tolerances above this take the quick rule
_SMALLEST, _LARGEST = 1e-290, 1e100  # radii that are told apart
_SPREAD = 9.0  # sub-Gaussian deviations of S that are allowed for: 2 exp(-9²/2) = 5e-18
_SECTIONS, _SECTION_ROUNDS = 32, 8  # of the search for the ends of what is decided
_SLIGHT = 1e-3  # of the tolerance: an undecided mass below it is halved instead of integrated over


class MaxTiltedLaw(LogRatioLaw):
    """The law of ``ℓ`` under Linf for ``MaxTiltedExponential(power=2, k, scale=1)`` in ``dim >= 2`` dimensions."""

    def __init__(self, k: float, dim: int) -> None:
        self.k, self.dim = k, dim
        self._maximum = maximum_law(2.0, k, dim)
        # Sums of few summands are only piecewise smooth, and their Fourier series converge slowly.
        self.accuracy = 3e-7 if dim < 12 else 1e-7

    def tails(self, t: Array, radius: Array, tolerance: float) -> Tails:
        """Return the tails; both are the same, since ``S`` is continuous given the maximum.

        Below 1e-290 the shift is taken to be that: what it certifies holds for every smaller one. Above 1e100 likewise,
        where ``ℓ`` lies below every ``t`` of use.
        """
        one = self._quick if tolerance > _COARSE else self._adaptive
        radius = np.clip(radius, _SMALLEST, _LARGEST)
        pairs = np.array([one(float(a), float(b), tolerance) for a, b in zip(t, radius, strict=True)]).reshape(-1, 2)
        return Tails(pairs[:, 0], pairs[:, 0].copy(), pairs[:, 1])

    def _decided(self, x: Array, t: float, r: float) -> NDArray[np.bool_]:
        """Return where ``ℓ > t`` (first row pair) and ``ℓ < t`` (second) surely, shape (2, 2, n).

        A pair has one row for either bound of ``|S|``, a multiple of ``m`` and ``m`` plus a constant. For each of them
        the least ``ℓ`` is concave in ``x``, and the largest rises below ``log r`` and is convex above: what two ``x``
        on one side of ``log r`` decide by one row, they decide for all between.
        """
        y = x - math.log(r)
        m = np.exp(x)
        root = _SPREAD * math.sqrt(self.dim - 1)
        swing = 2.0 * r * np.stack([min(self.dim, 1.0 + root) * m, m + math.sqrt(0.5) * root])
        far = np.logaddexp(0.0, -y)  # log((m + r) / m)
        with np.errstate(divide="ignore"):
            near = np.maximum(np.log(-np.expm1(-np.abs(y))), -1e9) + np.maximum(-y, 0.0)  # log(|m - r| / m)
        drift = self.dim * r * r
        rounding = 1e-15 * (abs(t) + self.k * (np.abs(x) + abs(math.log(r)) + far + np.abs(near)) + drift + swing)
        return np.stack([-self.k * far - swing - drift - rounding > t, -self.k * near + swing - drift + rounding < t])

    def _runs(self, t: float, r: float) -> tuple[Array, Array]:
        """Return edges of runs of ``x = log m`` and, of each run, whether ``ℓ > t``: 1, 0 or NaN where undecided."""
        low, high, at = self._maximum.low, self._maximum.high, math.log(r)
        steps = np.geomspace(0.02, max(1.0, high - low, abs(at - low)), 40)
        grid = np.concatenate([[low, at, high], at - steps, at + steps, high - steps])
        grid = np.unique(grid[(grid >= low) & (grid <= high)])
        kind, row, first = np.nonzero(np.diff(self._decided(grid, t, r), axis=-1))
        inner = self._decided(grid, t, r)[kind, row, first]
        kept, other = np.where(inner, grid[first], grid[first + 1]), np.where(inner, grid[first + 1], grid[first])
        which = np.arange(len(kept))
        for _ in range(_SECTION_ROUNDS if len(kept) else 0):
            trial = kept[:, None] + (other - kept)[:, None] * np.linspace(0.0, 1.0, _SECTIONS + 1)
            decided = self._decided(trial.ravel(), t, r).reshape(2, 2, *trial.shape)[kind, row, which]
            decided[:, 0], decided[:, -1] = True, False
            last = np.argmin(decided, axis=1) - 1
            kept, other = trial[which, last], trial[which, last + 1]
        edges = np.unique(np.concatenate([grid, kept]))
        decided = self._decided(edges, t, r)
        between = np.any(decided[..., :-1] & decided[..., 1:], axis=1)
        status = np.where(between[0], 1.0, np.where(between[1], 0.0, np.nan))
        # NaN differs from itself, so undecided runs are joined by a mark of their own.
        changes = np.flatnonzero(np.diff(np.nan_to_num(status, nan=0.5)))
        return edges[np.concatenate([[0], changes + 1, [-1]])], status[np.append(changes, -1)]

    def _panels(self, radius: float) -> Array:
        """Return edges in ``x = log m``: equal panels over the bulk, then growing to the left and around ``m = r``."""
        low, high, at = self._maximum.low, self._maximum.high, math.log(radius)
        turn = max(low, high - 3.0)
        edges = [np.linspace(turn, high, _PANELS + 1), np.array([low, at])]
        if turn > low:
            steps = 2.0 ** np.arange(1.0, math.log2(turn - low + 4.0) + 1.0) - 1.0
            joint = 0.5 * (max(at, low) + turn)  # from here on the steps from the other end are the shorter
            edges += [(turn - steps)[turn - steps > min(joint, turn)], (at + steps)[at + steps < joint], at - steps]
        everything = np.unique(np.concatenate(edges))
        return everything[(everything >= low) & (everything <= high)]

    def _settle(self, t: float, radius: float, tolerance: float) -> tuple[float, float, Array, Array]:
        """Return ``P(ℓ > t)`` and its error from the maxima that decide it, and the ends of panels of the others."""
        edges, status = self._runs(t, radius)
        mass = np.diff(self._maximum.below(edges))
        slight = np.isnan(status) & (mass <= _SLIGHT * tolerance)
        value = float(mass[status == 1.0].sum() + 0.5 * mass[slight].sum())
        panels = self._panels(radius)
        left, right = [np.empty(0)], [np.empty(0)]
        for i in np.flatnonzero(np.isnan(status) & ~slight):
            inner = panels[(panels > edges[i]) & (panels < edges[i + 1])]
            left.append(np.append(edges[i], inner))
            right.append(np.append(inner, edges[i + 1]))
        return value, 0.5 * float(mass[slight].sum()), np.concatenate(left), np.concatenate(right)

    def _quick(self, t: float, radius: float, tolerance: float) -> tuple[float, float]:
        nodes, weights = gauss_legendre(6)
        settled, _, left, right = self._settle(t, radius, tolerance)
        if len(left) == 0:
            return settled, tolerance
        widths = (right - left)[:, None]
        x = (left[:, None] + widths * nodes).ravel()
        mass = (widths * weights).ravel() * np.exp(self._maximum.log_density(x))
        value, _ = self._given_maximum(np.exp(x), t, radius, 1e-4, quick=True)
        return settled + float(mass @ value), tolerance

    def _adaptive(self, t: float, radius: float, tolerance: float) -> tuple[float, float]:
        settled, error, left, right = self._settle(t, radius, tolerance)

        def integrand(x: Array, _: NDArray[np.intp]) -> tuple[Array, Array]:
            density = np.exp(self._maximum.log_density(x))
            value, spread = self._given_maximum(np.exp(x.ravel()), t, radius, 0.02 * tolerance, quick=False)
            return (density * value.reshape(x.shape))[None], density * spread.reshape(x.shape)

        owner = np.zeros(len(left), dtype=np.intp)
        value, spread = integrate_panels(integrand, owner, left, right, (1, 1), tolerance)
        return settled + float(value[0, 0]), error + float(spread[0]) + 1e-13

    def _given_maximum(self, m: Array, t: float, r: float, tolerance: float, *, quick: bool) -> tuple[Array, Array]:
        """Return ``P(ℓ > t | m)`` and a bound on its error, shapes (n,)."""
        d = self.dim
        opposite, error_opposite = sum_tail(d - 1, -m, m, self._threshold(t, r, m, m + r) + m, tolerance)
        value, error = 0.5 * opposite, 0.5 * error_opposite

        # The extreme is +m and no coordinate is below 2r - m.
        roomy = np.flatnonzero(m > r * (1.0 + 1e-12))
        if len(roomy):
            mm = m[roomy]
            floor = 2.0 * r - mm
            share = np.exp((d - 1) * self._log_fraction(floor, mm))
            heavy = share > 1e-20
            mm, floor, share, roomy = mm[heavy], floor[heavy], share[heavy], roomy[heavy]
            threshold = self._threshold(t, r, mm, mm - r) - mm
            tail, tail_error = sum_tail(d - 1, floor, mm, threshold, tolerance)
            value[roomy] += 0.5 * share * tail
            error[roomy] += 0.5 * share * tail_error

        added, added_error = self._given_opposite(m, t, r, tolerance, quick=quick)
        return value + 0.5 * added, error + 0.5 * added_error

    def _given_opposite(self, m: Array, t: float, r: float, tolerance: float, *, quick: bool) -> tuple[Array, Array]:
        """Return the part with the extreme at ``+m`` and ``Q > m - 2r``, integrated over ``Q``."""
        start = np.maximum(np.maximum(-m, m - 2.0 * r), self._lowest_opposite(m))
        if self.dim == 2:
            return self._single_opposite(m, start, t, r)
        count = self.dim - 2
        sure = self._crossing(m, start, t, r, count, -1.0)  # below it the others' sum suffices, above `never` it cannot
        never = self._crossing(m, sure, t, r, count, 1.0)
        log_sure, log_start = self._log_fraction(-sure, m), self._log_fraction(-start, m)
        value = np.exp((self.dim - 1) * log_sure) - np.exp((self.dim - 1) * log_start)
        error = np.full_like(m, math.exp(-_CUT) + 2.0 * ALIASING)

        depth = (self.dim - 1) * (self._log_fraction(-never, m) - np.maximum(log_sure, -_CUT / (self.dim - 1)))
        panels = int(np.clip(np.ceil(np.max(depth) / 8.0), 1 if count > 10 else 2, 6))
        rows = np.arange(len(m))
        part, spread = np.zeros_like(m), np.zeros_like(m)
        for _ in range(_DOUBLINGS):
            part[rows], quadrature, tails = self._over_opposite(
                m[rows], sure[rows], never[rows], t, r, tolerance, panels, quick
            )
            spread[rows] = quadrature + tails
            rows, panels = rows[quadrature > 5.0 * tolerance], 2 * panels
            if quick or len(rows) == 0:
                break
        return value + part, error + spread

    def _over_opposite(
        self, m: Array, sure: Array, never: Array, t: float, r: float, tolerance: float, panels: int, quick: bool
    ) -> tuple[Array, Array, Array]:
        """Integrate over ``Q`` from ``sure`` to ``never``: the value, its quadrature error, the error of the tails."""
        rule = kronrod_rule()
        nodes = gauss_legendre(5)[0] if quick else rule.nodes
        grid = ((np.arange(panels)[:, None] + nodes) / panels).ravel()
        width = (never - sure)[:, None]
        q = sure[:, None] + width * grid
        mm = np.broadcast_to(m[:, None], q.shape)
        slope = (2.0 / math.sqrt(math.pi)) * np.exp(-q * q) / erf_between(-mm, mm)
        mass = width * (self.dim - 1) * slope * np.exp((self.dim - 2) * self._log_fraction(-q, mm))
        threshold = self._threshold(t, r, mm, q + r) - mm + q
        keep = (mass > 1e-22) & (q + mm > 1e-9 * mm)
        tail, tail_error = np.zeros_like(q), np.zeros_like(q)
        tail[keep], tail_error[keep] = sum_tail(self.dim - 2, -q[keep], mm[keep], threshold[keep], tolerance)
        # The width of a panel is in the mass.
        value, tails = (part.reshape(len(m), panels, -1) / panels for part in (mass * tail, mass * tail_error))
        if quick:
            weights = gauss_legendre(5)[1]
            return np.asarray((value @ weights).sum(1)), np.zeros_like(m), np.asarray((tails @ weights).sum(1))
        integrals, errors = rule.integrate(value)
        return np.asarray(integrals.sum(1)), np.asarray(errors.sum(1)), np.asarray((tails @ rule.weights).sum(1))

    def _crossing(self, m: Array, start: Array, t: float, r: float, count: int, side: float) -> Array:
        """Return the ``Q`` in [start, m] where the threshold meets the lower (-1) or upper (1) limit of the sum.

        The threshold rises with ``Q`` and the lower limit falls, so that these cross once at most. The upper limit may
        rise too; what lies beyond the crossing found is left out, which is safe, since certificates use lower bounds.
        """

        def passed(q: Array, m: Array) -> Array:
            return np.asarray(self._threshold(t, r, m, q + r) - m + q > sum_limit(count, -q, m, side))

        low, high = start.copy(), m.copy()
        if side < 0:
            high = np.where(passed(start, m), start, high)  # nothing is sure
        else:
            low = np.where(passed(m, m), low, m)  # nothing is impossible
        rows = np.flatnonzero(high > low)
        for _ in range(_BISECTIONS if len(rows) else 0):
            q = 0.5 * (low[rows] + high[rows])
            above = passed(q, m[rows])
            low[rows], high[rows] = np.where(above, low[rows], q), np.where(above, q, high[rows])
        return low if side < 0 else high

    def _single_opposite(self, m: Array, start: Array, t: float, r: float) -> tuple[Array, Array]:
        """For d = 2 the other coordinate is ``-Q``: ``ℓ`` falls with ``Q``, so its tail is a probability of ``Q``."""
        low, high = start.copy(), m.copy()
        for _ in range(60):
            middle = 0.5 * (low + high)
            exceeds = self._threshold(t, r, m, middle + r) - m + middle < 0.0
            low, high = np.where(exceeds, middle, low), np.where(exceeds, high, middle)
        value = erf_between(start, low) / erf_between(-m, m)
        return np.asarray(value), np.full_like(value, 1e-14)

    def _threshold(self, t: float, r: float, m: Array, shifted: Array) -> Array:
        """Return ``s(m') = (t + k log(m'/m) + d r²) / 2r``."""
        with np.errstate(divide="ignore"):
            growth = np.log1p((shifted - m) / m)
        return np.asarray((t + self.k * np.maximum(growth, -1e4) + self.dim * r * r) / (2.0 * r))

    def _log_fraction(self, floor: Array, m: Array) -> Array:
        """Return ``log P(x >= floor | |x| <= m)`` of one coordinate."""
        missing = erf_between(-m, np.maximum(floor, -m)) / erf_between(-m, m)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log1p(-np.minimum(missing, 1.0)))

    def _lowest_opposite(self, m: Array) -> Array:
        """Return a ``Q`` below which its law has less than ``exp(-_CUT)``, by bisection."""
        low, high = -m, m.copy()
        target = -_CUT / (self.dim - 1)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            rare = self._log_fraction(-middle, m) < target
            low, high = np.where(rare, middle, low), np.where(rare, high, middle)
        return low
