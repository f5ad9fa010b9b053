"""The unit spheres of the norms 1, 2 and ∞: volumes, mean norms of a uniform direction, and shifted norms.

``u`` is the direction ``z / ‖z‖`` of a density that depends on ``‖z‖`` alone (cone measure): ``E/ΣE`` with signs for
norm 1 (``E`` exponential), ``g/‖g‖₂`` for norm 2 (``g`` normal), one coordinate ``±1`` and the others uniform on
``[-1, 1]`` for norm ∞.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import integrate, special
from torch import Tensor

from rs_plugin.numerics import gauss_legendre
from rs_plugin.threats import Threat


def log_ball_volume(norm: float, dim: int) -> float:
    """Return the logarithm of the volume of the unit ball: ``2^d/d!``, ``π^{d/2}/Γ(d/2+1)`` or ``2^d``."""
    if norm == 1:
        return dim * math.log(2.0) - math.lgamma(dim + 1.0)
    if norm == 2:
        return 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1.0)
    return dim * math.log(2.0)


def second_moment(norm: float, dim: int) -> float:
    """Return ``E‖u‖₂² / d``: ``2/(d(d+1))``, ``1/d`` or ``(1 + (d-1)/3)/d``."""
    if norm == 1:
        return 2.0 / (dim * (dim + 1.0))
    if norm == 2:
        return 1.0 / dim
    return (1.0 + (dim - 1.0) / 3.0) / dim


def mean_norm(norm: float, threat: Threat, dim: int) -> float:
    """Return ``E‖u‖`` in the norm of ``threat``.

    A mean of the direction is a mean of the independent draws it is made of over the mean of their radius, since the
    two are independent.
    """
    if norm == 1:
        if threat == "Linf":
            return float(special.digamma(dim + 1.0) + np.euler_gamma) / dim
        return 1.0 if threat == "L1" else mean_root(_log_laplace_exponential_square, dim) / dim
    if norm == 2:
        chi = math.sqrt(2.0) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
        if threat == "L1":
            return dim * math.sqrt(2.0 / math.pi) / chi
        return 1.0 if threat == "L2" else _mean_normal_maximum(dim) / chi
    if threat == "L1":
        return (dim + 1.0) / 2.0
    return 1.0 if threat == "Linf" else mean_root(_log_laplace_uniform_square, dim - 1, offset=1.0)


def mean_root(log_laplace: Callable[[float], float], count: int, offset: float = 0.0) -> float:
    """Return ``E √(offset + X₁ + … + X_count)`` from ``log_laplace(s) = log E exp(-s X)``.

    ``E√Y = (2√π)^{-1} ∫₀^∞ (1 - E e^{-sY}) s^{-3/2} ds``, here with ``s = e^v``.
    """

    def integrand(v: float) -> float:
        s = math.exp(v)
        return -math.expm1(count * log_laplace(s) - s * offset) * math.exp(-0.5 * v)

    # The integrand falls like e^{v/2} below and e^{-v/2} above the scale of 1/Y, which lies far inside e^{±80}. A fixed
    # rule of 20 nodes on each unit panel is exact to rounding, and indifferent to it.
    nodes, weights = gauss_legendre(20)
    pieces = [w * integrand(low + x) for low in range(-80, 80) for x, w in zip(nodes, weights, strict=True)]
    return math.fsum(pieces) / (2.0 * math.sqrt(math.pi))


def shifted_norm(z: Tensor, norm: float, threat: Threat) -> Callable[[float], Tensor]:
    """Return ``r ↦ ‖z - δ‖`` at the standard worst shift of ``threat``, for rows ``z`` (count, d).

    Two or three numbers of each row are enough, but for norm 1 under Linf, where all are needed.
    """
    first = z[:, 0]
    if threat == "Linf":
        if norm == 1:
            return lambda r: torch.linalg.vector_norm(z - r, ord=1, dim=1)
        if norm == 2:
            squared, total = (z * z).sum(1), z.sum(1)
            return lambda r: torch.sqrt(torch.clamp(squared - 2 * r * total + z.shape[1] * r * r, min=0.0))
        high, low = z.amax(1), z.amin(1)
        return lambda r: torch.maximum((high - r).abs(), (low - r).abs())
    rest = torch.linalg.vector_norm(z[:, 1:], ord=norm, dim=1) if z.shape[1] > 1 else torch.zeros_like(first)
    if norm == 1:
        return lambda r: rest + (first - r).abs()
    if norm == 2:
        return lambda r: torch.hypot(rest, first - r)
    return lambda r: torch.maximum(rest, (first - r).abs())


def _log_laplace_exponential_square(s: float) -> float:
    """``log E exp(-s E²)`` of an exponential: ``∫ e^{-x - s x²} dx = √(π/4s) erfcx(1/(2√s))``."""
    if s < 1e-4:  # the moments of E² are 2, 24 and 720
        return math.log1p(-2.0 * s + 12.0 * s * s - 120.0 * s**3 + 1680.0 * s**4 - 30240.0 * s**5)
    return math.log(math.sqrt(math.pi / (4.0 * s)) * float(special.erfcx(0.5 / math.sqrt(s))))


def _log_laplace_uniform_square(s: float) -> float:
    """``log E exp(-s U²)`` of a uniform on [-1, 1]: ``log(√π erf(√s) / (2√s))``."""
    if s < 1e-3:
        return math.log1p(-s / 3.0 + s * s / 10.0 - s**3 / 42.0 + s**4 / 216.0 - s**5 / 1320.0)
    return math.log(math.sqrt(math.pi) * math.erf(math.sqrt(s)) / (2.0 * math.sqrt(s)))


def _mean_normal_maximum(dim: int) -> float:
    """``E max|g_i| = ∫₀^∞ (1 - (2Φ(x) - 1)^d) dx``."""

    def integrand(x: float) -> float:
        tail = 2.0 * float(special.ndtr(-x))
        return -math.expm1(dim * math.log1p(-tail)) if tail < 1.0 else 1.0

    return math.fsum(integrate.quad(integrand, low / 2, low / 2 + 0.5, epsrel=1e-12)[0] for low in range(80))
