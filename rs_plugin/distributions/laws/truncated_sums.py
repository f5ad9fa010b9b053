"""Tails of sums of independent truncated normals, by Fourier series with every error bounded.

``X`` has density ``∝ exp(-x²)`` on ``[a, b]``. With ``Y = (X - a)/(b - a)`` and ``T = Y₁ + … + Y_n``, the square wave
of half-period ``W`` gives, for any ``u``,

``P(T > u) = 1/2 - (2/π) Σ_{j>=1} E sin((2j-1) π (u - T)/W) / (2j - 1)``, up to at most ``P(|T - u| >= W)``,

and no error at all once ``W >= n``. Beyond that two tails are cut:

* aliasing: ``X`` is sub-Gaussian with variance proxy ``min(1/2, (b-a)²/4)`` (its density is Gaussian times a
  log-concave function; Hoeffding's lemma), so ``P(|T - u| >= W)`` follows from ``W``;
* truncation: a unimodal density is a mixture of uniforms over its level sets, so ``|φ(ω)| <= E |sinc(ω L/2)|`` with
  ``L`` the random level set's length, which decreases once ``|sinc|`` is replaced by its decreasing majorant; far out,
  ``|φ(ω)| <= 2 max f / ω``.

Sources: Gil-Pelaez (1951) for the inversion, Davies (1973) for the aliasing of the discretised form.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from scipy import special

from rs_plugin.numerics import Array, gauss_legendre, kronrod_rule

_DEVIATIONS: Final = 8.5  # of the sub-Gaussian proxy: 2 exp(-8.5²/2) = 4e-16
ALIASING: Final = 2.0 * math.exp(-0.5 * _DEVIATIONS**2)
_SECOND_LOBE: Final = 0.21723362821122166  # the largest |sin x / x| beyond its first zero
_TERMS: Final = np.array([6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512])
_LEVELS: Final = 32
_BATCH: Final = 2048  # intervals at a time, which bounds the memory


def erf_between(low: Array, high: Array) -> Array:
    """Return ``erf(high) - erf(low)``, between like signs and away from 0 through the complements."""
    outer = special.erfc(np.abs(low)) - special.erfc(np.abs(high))
    apart = (low * high > 0.0) & (np.maximum(np.abs(low), np.abs(high)) > 0.5)
    return np.asarray(np.where(apart, np.sign(high) * outer, special.erf(high) - special.erf(low)))


def sum_tail(count: int, low: Array, high: Array, threshold: Array, tolerance: float) -> tuple[Array, Array]:
    """Return ``P(X₁ + … + X_count > threshold)`` and a bound on its error, all arrays of shape (n,).

    Args:
        count: number of summands, 0 or more.
        low: left ends ``a < b``.
        high: right ends ``b``.
        threshold: where the tail is wanted.
        tolerance: truncation error to aim at.
    """
    if count == 0:
        return np.asarray(np.where(threshold < 0.0, 1.0, 0.0)), np.zeros_like(threshold)
    if count == 1:
        inside = np.clip(threshold, low, high)
        value = erf_between(inside, high) / erf_between(low, high)
        return np.asarray(value), np.asarray(value * 1e-14)
    # Far thresholds need no sums; what remains is within reach of the intervals, so that nothing below overflows.
    sure = threshold < sum_limit(count, low, high, -1.0)
    open_ = np.flatnonzero(~sure & (threshold <= sum_limit(count, low, high, 1.0)))
    if len(open_) < len(threshold):
        value, error = np.where(sure, 1.0, 0.0), np.full_like(threshold, ALIASING)
        if len(open_):
            value[open_], error[open_] = sum_tail(count, low[open_], high[open_], threshold[open_], tolerance)
        return value, error
    if count <= 3:
        few = _pair_tail if count == 2 else _triple_tail
        parts = [
            few(low[i : i + _BATCH], high[i : i + _BATCH], threshold[i : i + _BATCH])
            for i in range(0, len(low), _BATCH)
        ]
        return np.concatenate([v for v, _ in parts] + [low[:0]]), np.concatenate([e for _, e in parts] + [low[:0]])
    # Intervals that need half-periods of one size go together, so that none pays for the slowest.
    half_period = np.minimum(count, 2.0 * _spread(count, high - low))
    size = np.ceil(np.log2(half_period)).astype(np.int64)
    value, error = np.zeros_like(threshold), np.zeros_like(threshold)
    for group in np.unique(size):
        rows = np.flatnonzero(size == group)
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            shared = float(half_period[part].max())
            value[part], error[part] = _fourier_tail(count, low[part], high[part], threshold[part], shared, tolerance)
    return value, error


def _spread(count: int, width: Array) -> Array:
    """Return ``_DEVIATIONS`` deviations of the sub-Gaussian proxy of ``T``."""
    return np.asarray(_DEVIATIONS * math.sqrt(count) * np.minimum(0.5, math.sqrt(0.5) / width))


def sum_limit(count: int, low: Array, high: Array, side: float) -> Array:
    """Return a value that the sum is below (side -1) or above (side 1) with probability at most ``ALIASING``.

    It is the end of the sum's support or ``_DEVIATIONS`` sub-Gaussian deviations from its mean, whichever is nearer.
    """
    width = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (np.exp(-low * low) - np.exp(-high * high)) / (math.sqrt(math.pi) * erf_between(low, high))
    mean = np.where(width > 1e-3, mean, 0.5 * (low + high))  # within width² of the truth, far inside the margin below
    mean = np.clip(mean, low, high)
    spread = (_DEVIATIONS + 0.5) * math.sqrt(count) * np.minimum(math.sqrt(0.5), 0.5 * width)
    if side < 0:
        return np.asarray(np.maximum(count * low, count * mean - spread))
    return np.asarray(np.minimum(count * high, count * mean + spread))


def _pair_tail(low: Array, high: Array, threshold: Array) -> tuple[Array, Array]:
    """``P(X₁ + X₂ > s) = ∫ f(x) P(X > s - x) dx``, split where the inner tail leaves 1 or reaches 0."""
    rule = kronrod_rule()
    total = erf_between(low, high)
    cut_one = np.clip(threshold - low, low, high)  # above it the other summand always suffices
    cut_zero = np.clip(threshold - high, low, high)
    sure = erf_between(cut_one, high) / total
    panels = _panels(high - low)
    low, high, total, threshold = (part[:, None, None] for part in (low, high, total, threshold))
    width = (cut_one - cut_zero)[:, None, None] / panels
    x = cut_zero[:, None, None] + width * (np.arange(panels)[:, None] + rule.nodes)
    rest = erf_between(np.clip(threshold - x, low, high), np.broadcast_to(high, x.shape))
    density = (2.0 / math.sqrt(math.pi)) * np.exp(-x * x) * width / total
    part, error = rule.integrate(density * rest / total)
    return np.asarray(sure + part.sum(1)), np.asarray(error.sum(1) + 1e-14)


def _panels(width: Array) -> int:
    """Return how many panels resolve the densities on intervals of these widths, in standard deviations about one."""
    return max(1, math.ceil(float(width.max()) / 2.5))


def _triple_tail(low: Array, high: Array, threshold: Array) -> tuple[Array, Array]:
    """``P(X₁ + X₂ + X₃ > s) = ∫ f₂(y) P(X > s - y) dy`` with the density ``f₂`` of a pair in closed form.

    ``f₂(y) = e^{-y²/2} ∫ e^{-2(x - y/2)²} dx`` over ``max(a, y - b) <= x <= min(b, y - a)``, over the square of the
    normaliser. It has a kink at ``a + b``; the inner tail leaves 1 at ``s - a`` and reaches 0 at ``s - b``.
    """
    rule = kronrod_rule()
    total = erf_between(low, high)
    inner = np.stack([threshold - high, threshold - low, low + high])
    edges = np.sort(np.concatenate([2.0 * low[None], np.clip(inner, 2.0 * low, 2.0 * high), 2.0 * high[None]]), axis=0)
    panels = _panels(high - low)
    widths = np.diff(edges, axis=0)[..., None, None] / panels
    y = edges[:-1, :, None, None] + widths * (np.arange(panels)[:, None] + rule.nodes)
    a, b, total, threshold = (part[:, None, None] for part in (low, high, total, threshold))
    root = math.sqrt(2.0)
    overlap = erf_between(root * (np.maximum(a, y - b) - 0.5 * y), root * (np.minimum(b, y - a) - 0.5 * y))
    # Each factor over its own normaliser, whose powers may underflow.
    density = math.sqrt(2.0 / math.pi) * np.exp(-0.5 * y * y) * np.maximum(overlap, 0.0) / total
    rest = erf_between(np.clip(threshold - y, a, b), np.broadcast_to(b, y.shape)) / total
    parts, errors = rule.integrate(density * rest * (widths / total))
    return np.asarray(np.clip(parts.sum((0, 2)), 0.0, 1.0)), np.asarray(errors.sum((0, 2)) + 1e-13)


def _fourier_tail(
    count: int, low: Array, high: Array, threshold: Array, half_period: float, tolerance: float
) -> tuple[Array, Array]:
    width = high - low
    spread = _spread(count, width)
    terms, truncation = _terms(count, low, high, half_period, tolerance)
    frequency = (2.0 * np.arange(1, terms + 1) - 1.0) * math.pi / half_period

    panels = math.ceil((8.0 + 2.0 * float(width.max()) + 0.6 * frequency[-1]) / 16.0)
    nodes, weights = _composite(panels)
    peak = np.clip(0.0, low, high)
    x = low[:, None] + width[:, None] * nodes
    mass = weights * np.exp((peak[:, None] - x) * (peak[:, None] + x))
    mass /= mass.sum(1, keepdims=True)
    mean = mass @ nodes
    cosine, sine = _waves(panels, terms, half_period)
    real, imaginary = mass @ cosine, mass @ sine

    centre = count * mean
    # Outside these limits the tail is 1 or 0 up to the aliasing error; inside them |T - u| < W but for that error.
    u = np.clip((threshold - count * low) / width, np.maximum(centre - spread, 0.0), np.minimum(centre + spread, count))
    modulus = np.exp(0.5 * count * np.log(np.maximum(real * real + imaginary * imaginary, 1e-300)))
    # The phase is taken about the mean, where it is small, so that count times its rounding stays small.
    phase = np.arctan2(imaginary, real) - frequency * mean[:, None]
    phase -= 2.0 * math.pi * np.round(phase / (2.0 * math.pi))
    waves = np.sin(frequency * (u - centre)[:, None] - count * phase)
    series = (modulus * waves) @ (1.0 / (2.0 * np.arange(1, terms + 1) - 1.0))
    value = 0.5 - (2.0 / math.pi) * series
    return np.asarray(np.clip(value, 0.0, 1.0)), np.asarray(truncation + 2.0 * ALIASING + 1e-15 * count + 1e-14)


@lru_cache(maxsize=32)
def _composite(panels: int) -> tuple[Array, Array]:
    nodes, weights = gauss_legendre(24)
    return (np.arange(panels)[:, None] + nodes).ravel() / panels, np.tile(weights, panels) / panels


@lru_cache(maxsize=32)
def _waves(panels: int, terms: int, half_period: float) -> tuple[Array, Array]:
    nodes, _ = _composite(panels)
    angle = np.outer(nodes, (2.0 * np.arange(1, terms + 1) - 1.0) * (math.pi / half_period))
    return np.cos(angle), np.sin(angle)


class _Shape(NamedTuple):
    """What bounds the characteristic function of Y, one row an interval."""

    lengths: Array  # (n, levels) of uniform pieces below the density, in units of the interval's width
    masses: Array  # (n, levels) of the pieces
    rest: Array  # (n,) mass above the pieces
    top: Array  # (n,) the density's peak
    ends: Array  # (n,) f(0) + f(1)
    steep: Array  # (n,) |f'(0)| + |f'(1)| + ∫|f''| or more

    def rows(self, index: slice | Array) -> _Shape:
        return _Shape(*(part[index] for part in self))


def _terms(count: int, low: Array, high: Array, half_period: float, tolerance: float) -> tuple[int, Array]:
    """Return a number of terms that meets the tolerance on a sample of intervals, and the bound on all of them."""
    shape = _shape(low, high)
    some = shape.rows(slice(None, None, max(1, len(low) // 8)))
    enough = (_truncation(count, some, half_period, _TERMS) <= tolerance).all(0)
    terms = int(_TERMS[int(np.argmax(enough)) if enough.any() else -1])
    return terms, _truncation(count, shape, half_period, np.array([terms]))[:, 0]


def _truncation(count: int, shape: _Shape, half_period: float, terms: Array) -> Array:
    """Return a bound on ``(2/π) Σ_{j>terms} |φ(ω_j)|^count / (2j - 1)``, shape (n, len(terms)).

    Below ``ω_far`` the level-set bound holds, times ``Σ 1/(2j - 1) <= log(ω_far/ω_last)/2 + 1/(2 terms + 1)``; above it
    ``(c/ω)^count`` sums to at most ``(c/ω_far)^count (1/(2 count) + 1/(2 terms + 1))``.
    """
    odd = 2.0 * terms + 1.0
    first = odd * math.pi / half_period
    majorant = _sinc_majorant(0.5 * shape.lengths[:, None, :] * first[:, None])
    bound = (majorant * shape.masses[:, None, :]).sum(2) + shape.rest[:, None]
    # |φ(ω)| <= (f(0) + f(1))/ω + (|f'(0)| + |f'(1)| + ∫|f''|)/ω² by parts twice, and <= 2 max f/ω by parts once.
    by_parts = shape.ends[:, None] + shape.steep[:, None] / np.maximum(first, 1.0)
    far_constant = np.minimum(2.0 * shape.top[:, None], by_parts)
    far = np.maximum(first, math.e * far_constant)
    log_span = 0.5 * np.log(far / first) + 1.0 / odd
    middle = np.where(far > first, np.exp(count * np.log(np.clip(bound, 1e-300, 1.0))) * log_span, 0.0)
    tail = np.exp(count * np.log(far_constant / far)) * (0.5 / count + 1.0 / odd)
    return np.asarray((2.0 / math.pi) * (middle + tail))


def _shape(low: Array, high: Array) -> _Shape:
    width = high - low
    peak = np.clip(0.0, low, high)
    total = 0.5 * math.sqrt(math.pi) * erf_between(low, high) * np.exp(np.minimum(peak * peak, 600.0))
    level = 1.0 - np.arange(_LEVELS) / _LEVELS  # of the density over its peak
    reach = np.sqrt(peak[:, None] ** 2 - np.log(level))
    lengths = np.minimum(high[:, None], reach) - np.maximum(low[:, None], -reach)
    # On one side of 0 the level sets start at the interval's inner end.
    masses = lengths / _LEVELS / total[:, None]
    top = width / total
    ends = np.exp((peak - low) * (peak + low)) + np.exp((peak - high) * (peak + high))
    steep = 6.0 * top * math.sqrt(2.0 / math.e) * width
    return _Shape(lengths / width[:, None], masses, 1.0 - masses.sum(1), top, ends * top, steep)


def _sinc_majorant(x: Array) -> Array:
    """The smallest decreasing function above ``|sin x / x|`` on ``x >= 0``, or slightly more."""
    x = np.maximum(x, 1e-9)
    return np.asarray(np.where(x < 2.6, np.maximum(np.sin(x) / x, _SECOND_LOBE), np.minimum(_SECOND_LOBE, 1.0 / x)))
