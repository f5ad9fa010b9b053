"""The public entry: certificates for a noise, a threat model and a dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rs_plugin.certificates.bounds import Bounds
from rs_plugin.certificates.curves import CurveKey
from rs_plugin.certificates.exact import ClosedFormBounds, ExactBounds
from rs_plugin.certificates.sampled import SampledBounds
from rs_plugin.distributions.base import SmoothingDistribution, worst_shift
from rs_plugin.errors import ParameterError, UnknownNameError, UnsupportedThreatError
from rs_plugin.estimation.arguments import (
    broadcast_shape,
    check_alpha,
    check_not_negative,
    check_positive_count,
    check_probabilities,
    shown,
)
from rs_plugin.numerics import Array, step_down, step_up
from rs_plugin.threats import THREATS, Threat, parse_threat, radius_factor

Method: TypeAlias = Literal["closed_form", "exact", "dual", "monte_carlo"]
METHODS: Final[tuple[str, ...]] = ("auto", "closed_form", "exact", "dual", "monte_carlo")

#: Defaults of the Monte-Carlo methods, and fewer draws than any table can be made of.
DEFAULT_DRAWS: Final = 100_000
DEFAULT_ALPHA: Final = 1e-4
LEAST_DRAWS: Final = 1000

#: Of the search for two-sided radii: relative distance at which it ends, and its longest.
_CLOSE: Final = 1e-6
_HALVINGS: Final = 60


@dataclass(frozen=True)
class _Source:
    """Bounds for one threat model that serve another: ``radius = unit_radius * length``."""

    threat: Threat
    length: float
    bounds: Bounds


class Certificate:
    """Certificates of one noise against one threat model in ``dim`` dimensions; make it with ``certificate``.

    With ``D(λ; r)`` the discrepancy between ``λ`` times the noise's density and its worst shift in the ball of radius
    ``r``, a class of probability ``p`` under noise keeps at least ``L(p; r) = sup_λ (λ p - D(λ; r))`` anywhere in the
    ball, and more than 1/2 exactly if ``p > p*(r)``.

    Radii are in input units (pixels in [0, 1]), in the norm of the threat model. Every value is rounded in the
    direction in which it stays true.

    Attributes:
        noise: the noise.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
        dim: number of values in one input.
        method: ``"closed_form"``, ``"exact"``, ``"dual"`` or ``"monte_carlo"``.
        failure_probability: of this object as a whole, 0 when it is deterministic.

    Source: Zhang et al. (NeurIPS 2020), Theorems 1 to 3.
    """

    def __init__(
        self,
        noise: SmoothingDistribution,
        threat: Threat,
        dim: int,
        method: Method,
        sources: tuple[_Source, ...],
        failure_probability: float,
    ) -> None:
        self.noise = noise
        self.threat_model = threat
        self.dim = dim
        self.method = method
        self.failure_probability = failure_probability
        self._sources = sources

    def __repr__(self) -> str:
        return f"Certificate({self.noise}, {self.threat_model}, dim={self.dim}, method={self.method!r})"

    def required_probability(self, radius: ArrayLike) -> Any:
        """Return ``p*(r)``: an image is certified at ``r`` iff ``p > p*(r)``. Never below the true value.

        Args:
            radius: 0 or more; a number or an array.

        Raises:
            ParameterError: a radius is negative, NaN or no number.
        """
        r = check_not_negative("radius", radius)
        flat = r.ravel()
        result = np.full(flat.shape, 1.0)
        result[flat == 0.0] = 0.5
        inner = np.flatnonzero((flat > 0.0) & np.isfinite(flat))
        if len(inner):
            values = [s.bounds.required_probability(step_up(flat[inner] / s.length, 4)) for s in self._sources]
            result[inner] = np.clip(np.min(values, axis=0), 0.5, 1.0)
        return _shaped(result.reshape(r.shape))

    def radius(self, p_lower: ArrayLike, p_upper: ArrayLike | None = None) -> Any:
        """Return the largest certified radius. Never above the true value.

        Args:
            p_lower: lower bound on the probability of the top class.
            p_upper: upper bound on the probability of **every** other class at once; the two broadcast. With it,
                ``p_lower = 0.4, p_upper = 0.2`` certifies. None stands for ``1 - p_lower``.

        Returns:
            0 where ``p_lower <= 1/2`` without ``p_upper``, and where ``p_lower <= p_upper`` with it. Elsewhere never
            less with ``p_upper`` than without it, so that one above ``1 - p_lower`` adds nothing.

        Raises:
            ParameterError: a probability outside [0, 1] or no number, or shapes that do not broadcast.
        """
        p = check_probabilities("p_lower", p_lower)
        if p_upper is None:
            return _shaped(self._binary_radius(p.ravel()).reshape(p.shape))
        p, q = _broadcast(p_lower=p, p_upper=check_probabilities("p_upper", p_upper))
        flat_p, flat_q = p.ravel(), q.ravel()
        result = self._binary_radius(flat_p)
        better = np.flatnonzero((flat_q < 1.0 - flat_p) & (flat_p > flat_q))
        if len(better):
            pairs, where = np.unique(np.stack([flat_p[better], flat_q[better]]), axis=1, return_inverse=True)
            found = self._two_sided_radius(pairs[0], pairs[1])[where.ravel()]
            result[better] = np.maximum(result[better], found)
        result[flat_p <= flat_q] = 0.0
        return _shaped(result.reshape(p.shape))

    def lower_bound(self, p: ArrayLike, radius: ArrayLike) -> Any:
        """Return ``L(p; r)``, a lower bound on the smoothed probability anywhere in the ball.

        Args:
            p: lower bound on the probability at the centre.
            radius: 0 or more; the two broadcast.

        Raises:
            ParameterError: a probability outside [0, 1], a radius that is negative or NaN, no numbers, or shapes that
                do not broadcast.
        """
        probability, r = _broadcast(p=check_probabilities("p", p), radius=check_not_negative("radius", radius))
        return _shaped(self._lower_bound(probability.ravel(), r.ravel()).reshape(r.shape))

    def discrepancy(self, lam: ArrayLike, radius: ArrayLike) -> Any:
        """Return an upper bound on ``D(λ π0 ‖ πδ) = ∫ (λ π0 - πδ)_+`` at every ``δ`` in the ball.

        It is the value at the ball's own worst shift where the certificate knows it. Elsewhere it is the least of the
        values at the worst shifts of balls of other norms around this one, which may lie outside it: for 1-norm noise
        under Linf, at the shift ``(d r, 0, …, 0)`` of the 1-norm ball of radius ``d r``.

        Args:
            lam: ``λ``, 0 or more.
            radius: 0 or more; the two broadcast.

        Raises:
            ParameterError: a negative or NaN argument, no numbers, or shapes that do not broadcast.
        """
        scale, r = _broadcast(lam=check_not_negative("lam", lam), radius=check_not_negative("radius", radius))
        flat_scale, flat = scale.ravel().copy(), r.ravel()
        result = np.where(flat == 0.0, np.maximum(flat_scale - 1.0, 0.0), flat_scale)
        inner = np.flatnonzero((flat > 0.0) & np.isfinite(flat))
        if len(inner):
            values = [
                s.bounds.discrepancy(flat_scale[inner], step_up(flat[inner] / s.length, 4)) for s in self._sources
            ]
            result[inner] = np.min(values, axis=0)
        return _shaped(result.reshape(r.shape))

    def worst_shift(self, radius: float) -> Array:
        """Return ``δ*``, shape (dim,): the shift in the ball against which the noise protects least.

        Where a rule proves it for this threat model, it is that shift, also if the certificate's numbers come from
        elsewhere: 1-norm noise under Linf has ``(r, …, r)``, while its numbers are those of the 1-norm ball of radius
        ``d r`` that contains this ball. Where no rule does, it is the worst shift of another norm's ball around this
        one, one of those that the numbers come from, and may lie outside this ball.

        Raises:
            ParameterError: the radius is negative, NaN, infinite or not one number.
        """
        size = check_not_negative("radius", radius)
        if size.ndim or np.isinf(size):
            raise ParameterError(f"radius must be one finite number here, not {shown(radius)}")
        r = float(size)
        if self.threat_model in self.noise.worst_shift_rules:
            return np.asarray(worst_shift(self.threat_model, r, self.dim).numpy())
        source = self._sources[0]
        factor = radius_factor(self.threat_model, source.threat, self.dim)
        return np.asarray(worst_shift(source.threat, r / factor, self.dim).numpy())

    def _binary_radius(self, p: Array) -> Array:
        result = np.where(p >= 1.0, np.inf, 0.0)
        if self.failure_probability > 0.0:
            result[:] = 0.0  # a table ends at its last radius, whatever p is
        inner = np.flatnonzero((p > 0.5) & ((p < 1.0) | (self.failure_probability > 0.0)))
        if len(inner):
            values = [step_down(s.bounds.radius(p[inner]) * s.length, 8) for s in self._sources]
            result[inner] = np.maximum(np.max(values, axis=0), 0.0)
        return np.asarray(result)

    def _lower_bound(self, p: Array, radius: Array) -> Array:
        result = np.where(radius == 0.0, p, 0.0)
        inner = np.flatnonzero((radius > 0.0) & np.isfinite(radius))
        if len(inner):
            values = [
                s.bounds.lower_bound(p[inner].copy(), step_up(radius[inner] / s.length, 4)) for s in self._sources
            ]
            result[inner] = np.max(values, axis=0)
        return np.asarray(result)

    def _two_sided_radius(self, p: Array, q: Array) -> Array:
        """Return the largest radii found with ``L(p; r) + L(1 - q; r) > 1``, each evaluated safely; ``p > q``.

        ``L(1 - q; r)``, the larger, must exceed 1/2, so the binary radius of ``1 - q`` is the end of the search. False
        position in turn with bisection, so that neither a curved nor a stepped bound keeps it from closing in.
        """
        other = step_down(1.0 - q, 1)

        def excess(rows: NDArray[np.intp], r: Array) -> Array:
            total = self._lower_bound(np.concatenate([p[rows], other[rows]]), np.concatenate([r, r]))
            return np.asarray(total[: len(rows)] + total[len(rows) :] - 1.0 - 4e-16)

        rows = np.arange(len(p))
        low = self._binary_radius(p)
        high = np.minimum(self._binary_radius(other), 1e300)
        at_low = np.where(low > 0.0, np.inf, p + other - 1.0)
        at_high = np.where(np.isinf(low), np.inf, excess(rows, high))
        low = np.where(at_high > 0.0, np.maximum(low, high), low)
        for trial in range(_HALVINGS):
            rows = np.flatnonzero((high > low * (1.0 + _CLOSE)) & (high > 1e-290))
            if len(rows) == 0:
                break
            with np.errstate(divide="ignore", invalid="ignore"):
                share = at_low[rows] / (at_low[rows] - at_high[rows])
            usable = np.isfinite(share) & (share > 0.0) & (trial % 3 != 2)
            share = np.where(usable, np.clip(share, 0.3 * _CLOSE, 1.0 - 0.3 * _CLOSE), 0.5)
            middle = low[rows] + share * (high[rows] - low[rows])
            value = excess(rows, middle)
            holds = value > 0.0
            low[rows[holds]], at_low[rows[holds]] = middle[holds], value[holds]
            high[rows[~holds]], at_high[rows[~holds]] = middle[~holds], value[~holds]
        return np.asarray(low)


def certificate(
    noise: SmoothingDistribution,
    threat_model: str,
    dim: int,
    method: str = "auto",
    *,
    n: int | None = None,
    alpha: float | None = None,
    generator: torch.Generator | None = None,
) -> Certificate:
    """Return the certificate of ``noise`` against ``threat_model`` for inputs of ``dim`` values.

    Args:
        noise: a smoothing distribution.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
        dim: number of values in one input, the product of its shape: 3072 for a CIFAR image.
        method: ``"auto"`` takes the tightest proven deterministic method. ``"closed_form"`` and ``"exact"``
            (quadrature) are deterministic. ``"dual"`` is the paper's Monte-Carlo bound and ``"monte_carlo"`` the
            Neyman-Pearson form with binomial bounds; both need only a sampler, a density and a worst-shift rule.
        n: draws of a Monte-Carlo method, at least 1000; 100 000 by default.
        alpha: failure probability of a Monte-Carlo method, over every radius, ``p`` and call together; 1e-4 by default.
        generator: source of a Monte-Carlo method's draws; a generator seeded with 0 by default.

    Raises:
        UnsupportedThreatError: no rule covers the pair, or the method does not exist for it.
        ParameterError: ``k >= dim``, or an argument out of range or of another type.
        UnknownNameError: an unknown threat model or method.
    """
    threat = parse_threat(threat_model)
    if not isinstance(noise, SmoothingDistribution):
        raise ParameterError(f"noise must be a SmoothingDistribution, not {noise!r}; parse_noise makes one from text")
    dim = _checked_dim(dim)
    noise.check_dim(dim)
    if method not in METHODS:
        raise UnknownNameError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method in ("dual", "monte_carlo"):
        return _sampled(noise, threat, dim, cast(Any, method), n, alpha, generator)
    given = {"n": n, "alpha": alpha, "generator": generator}
    for name, value in given.items():
        if value is not None:
            raise ParameterError(
                f"{name} = {shown(value)} is an argument of the Monte-Carlo methods; leave it out of method={method!r}"
            )
    simple = noise.simplified(dim)
    if method in ("auto", "closed_form"):
        sources = _sources(threat, simple, dim, lambda source: _closed_form(simple, source, dim))
        if sources:
            return Certificate(noise, threat, dim, "closed_form", sources, 0.0)
    sources = _sources(threat, simple, dim, lambda source: _exact(simple, source, dim))
    if not sources:
        raise UnsupportedThreatError(_unsupported(noise, threat, dim))
    if method == "closed_form":
        raise UnsupportedThreatError(
            f"no closed_form certificate of {noise} for {threat} in {dim} dimensions is known; use method='auto' or "
            "method='exact', which compute one by quadrature"
        )
    return Certificate(noise, threat, dim, "exact", sources, 0.0)


def _sources(
    threat: Threat, noise: SmoothingDistribution, dim: int, make: Callable[[Threat], Bounds | None]
) -> tuple[_Source, ...]:
    """Return the threat's own bounds where there are any, else those of every ball that encloses its ball."""
    found = {}
    for source in (threat, *(other for other in THREATS if other != threat)):
        bounds = make(source)
        if bounds is not None:
            length = noise.length_scale * radius_factor(threat, source, dim)
            found[source] = _Source(source, length, bounds)
            if source == threat:
                break
    return tuple(found.values())


def _closed_form(noise: SmoothingDistribution, threat: Threat, dim: int) -> Bounds | None:
    law = noise.closed_form_law(threat, dim)
    return None if law is None else ClosedFormBounds(law)


def _exact(noise: SmoothingDistribution, threat: Threat, dim: int) -> Bounds | None:
    law = noise.log_ratio_law(threat, dim)
    if law is None:
        return None
    unit = noise.rescaled(1.0 / noise.length_scale)
    return ExactBounds(law, CurveKey(str(unit), threat, dim))


def _sampled(
    noise: SmoothingDistribution,
    threat: Threat,
    dim: int,
    method: Literal["dual", "monte_carlo"],
    n: int | None,
    alpha: float | None,
    generator: torch.Generator | None,
) -> Certificate:
    n = DEFAULT_DRAWS if n is None else check_positive_count("n", n)
    alpha = DEFAULT_ALPHA if alpha is None else check_alpha(alpha)
    if n < LEAST_DRAWS:
        raise ParameterError(f"n must be a whole number of at least {LEAST_DRAWS} draws, not {n}")
    if not isinstance(generator, torch.Generator | None):
        raise ParameterError(f"generator must be a torch.Generator, not {shown(generator)}")
    proven = [t for t in (threat, *THREATS) if t in noise.worst_shift_rules]
    if not proven:
        raise UnsupportedThreatError(_unsupported(noise, threat, dim))
    source = max(proven, key=lambda t: (t == threat, radius_factor(threat, t, dim)))
    rng = torch.Generator().manual_seed(0) if generator is None else generator
    bounds = SampledBounds(noise, source, dim, method, n=n, alpha=alpha, generator=rng)
    length = noise.length_scale * radius_factor(threat, source, dim)
    return Certificate(noise, threat, dim, method, (_Source(source, length, bounds),), alpha)


def _unsupported(noise: SmoothingDistribution, threat: Threat, dim: int) -> str:
    if not noise.worst_shift_rules:
        return (
            f"{noise} declares no worst-shift rule, so nothing proves a certificate for {threat}; list the threat "
            f"models whose conditions it meets in {type(noise).__name__}.worst_shift_rules"
        )
    rules = ", ".join(sorted(noise.worst_shift_rules))
    return (
        f"no deterministic certificate of {noise} for {threat} in {dim} dimensions is known; use method='monte_carlo' "
        f"or 'dual', which serve {threat} from the worst shifts that are proven: {rules}"
    )


def _checked_dim(dim: Any) -> int:
    """Return ``dim`` as an int; its range is the noise's to check."""
    if isinstance(dim, tuple | list) and dim and all(isinstance(size, int | np.integer) for size in dim):
        raise ParameterError(f"dim must be one number, not the shape {shown(dim)}; give the product, {math.prod(dim)}")
    try:
        if isinstance(dim, str | bytes | bool) or np.ndim(dim):
            raise TypeError
        whole = int(dim)
        if whole != dim:
            raise ValueError
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ParameterError(f"dim must be a positive integer, not {shown(dim)}; 3072 for a CIFAR image") from None
    return whole


def _broadcast(**arrays: Array) -> tuple[Array, ...]:
    shape = broadcast_shape(**arrays)
    return tuple(np.broadcast_to(array, shape) for array in arrays.values())


def _shaped(result: Array) -> Any:
    return float(result) if result.ndim == 0 else result
