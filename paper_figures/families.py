"""Noise of [Z], Section 4.1, integrated ray by ray; shares no code with the certificates that it checks.

A member has density ``∝ ‖z‖_{n1}^{-k} exp(-‖z‖_{n2}^p / b)``. Write ``z = s w`` with ``w`` on the surface of the cube,
``‖w‖∞ = 1``. Then ``c(w) s^p ~ Gamma(a)`` with ``c(w) = ‖w‖_{n2}^p / b`` and ``a = (d - k) / p``, whatever ``w`` is,
and ``w`` has density ``∝ ‖w‖_{n1}^{-k} c(w)^{-a}`` on the surface: means become integrals over ``[0, 1]^{d-1}``, smooth
where what is averaged does not tell the coordinates or their signs apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

import rs_plugin as rs

Array: TypeAlias = NDArray[np.float64]

_NODES = {1: 1, 2: 80, 3: 48, 4: 24, 5: 14}  # Gauss-Legendre nodes an axis; d = 5 takes 14^4 = 38 416


def norm(z: Array, order: float) -> Array:
    """Return the norm of the last axis; ``order`` is 1, 2 or inf."""
    return np.asarray(np.linalg.norm(z, ord=order, axis=-1))


@dataclass(frozen=True)
class Family:
    """Density ``∝ ‖z‖_{singular}^{-k} exp(-‖z‖_{tail}^power / scale)`` in ``dim`` dimensions.

    Attributes:
        singular: ``n1``, the norm of the factor ``‖z‖^{-k}``.
        tail: ``n2``, the norm in the exponential.
        power: ``p``.
        k: exponent, ``0 <= k < dim``.
        scale: ``b``, in input units to the ``power``: ``2 σ²`` where [Z] writes ``σ``.
        dim: ``d``.
    """

    singular: float
    tail: float
    power: float
    k: float
    scale: float
    dim: int

    @classmethod
    def of(cls, noise: rs.SmoothingDistribution, dim: int) -> Family:
        """Return the family of a noise of the package in ``dim`` dimensions."""
        if isinstance(noise, rs.NormExponential):
            return cls(noise.norm, noise.norm, noise.power, noise.k, noise.scale, dim)
        if isinstance(noise, rs.MixedNorm):
            return cls(math.inf, 2.0, 2.0, noise.k, noise.scale, dim)
        raise TypeError(f"no norms are known of {noise!r}")

    @property
    def shape(self) -> float:
        """``a = (d - k) / p``, the shape of the Gamma law along every ray."""
        return (self.dim - self.k) / self.power

    def log_kernel(self, z: Array) -> Array:
        """Return the log density but for its constant; ``z`` has shape (..., d)."""
        kernel = -(norm(z, self.tail) ** self.power) / self.scale
        with np.errstate(divide="ignore"):  # infinite at the origin for k > 0
            return np.asarray(kernel - self.k * np.log(norm(z, self.singular)) if self.k else kernel)

    def rate(self, w: Array) -> Array:
        """Return ``c(w) = ‖w‖_{n2}^p / b``."""
        return np.asarray(norm(w, self.tail) ** self.power / self.scale)

    def direction_weight(self, w: Array) -> Array:
        """Return ``‖w‖_{n1}^{-k} c(w)^{-a}``, the density of ``w`` on the cube's surface but for its constant."""
        return np.asarray(norm(w, self.singular) ** -self.k * self.rate(w) ** -self.shape)

    def directions(self) -> tuple[Array, Array]:
        """Return points ``w = (1, v)``, ``v`` in ``[0, 1]^{d-1}``, and weights that add up to 1.

        They integrate functions that are invariant under signed permutations, and no others.
        """
        w, mass = _surface(self)
        return w, mass / mass.sum()

    def log_normaliser(self) -> float:
        """Return ``log ∫ ‖z‖_{n1}^{-k} exp(-‖z‖_{n2}^p / b) dz``; the cube has ``2d`` faces of ``2^{d-1}`` orthants."""
        _, mass = _surface(self)
        faces = self.dim * 2.0**self.dim
        return math.log(faces * float(mass.sum()) / self.power) + float(special.gammaln(self.shape))

    def probability_within(self, order: float, radius: float) -> float:
        """Return ``P(‖z‖ <= radius)`` in the norm ``order``: the mean of a Gamma law's function over directions."""
        w, mass = self.directions()
        reach = self.rate(w) * (radius / norm(w, order)) ** self.power
        return float(mass @ special.gammainc(self.shape, reach))

    def moment(self, function: Callable[[Array], Array], order: float) -> float:
        """Return ``E function(z)`` for a function with ``function(s w) = s^order function(w)``, invariant as above."""
        w, mass = self.directions()
        step = order / self.power
        radial = math.exp(special.gammaln(self.shape + step) - special.gammaln(self.shape))
        return radial * float(mass @ (function(w) * self.rate(w) ** -step))

    def draw(self, count: int, generator: np.random.Generator) -> Array:
        """Return ``count`` independent draws by rejection of directions that are uniform on the cube's surface."""
        found: list[Array] = []
        top = self.direction_weight(np.eye(1, self.dim))[0]
        while sum(map(len, found)) < count:
            w = generator.uniform(-1.0, 1.0, (count, self.dim))
            rows, column = np.arange(count), generator.integers(self.dim, size=count)
            w[rows, column] = np.sign(w[rows, column])
            found.append(w[generator.uniform(size=count) * top < self.direction_weight(w)])
        w = np.concatenate(found)[:count]
        s = (generator.gamma(self.shape, size=count) / self.rate(w)) ** (1.0 / self.power)
        return np.asarray(w * s[:, None])

    def log_ratio(self, z: Array, shift: Array) -> Array:
        """Return ``ℓ = log π0(z - δ) - log π0(z)``."""
        return np.asarray(self.log_kernel(z - shift) - self.log_kernel(z))

    def plane_nodes(self, directions: int = 64, radii: int = 256) -> tuple[Array, Array]:
        """Return points of the plane and weights for means under the noise, ``dim == 2``.

        Gauss-Legendre in 8 panels of directions of ``directions`` nodes each, and at ``radii`` nodes of the Gamma law.
        """
        if self.dim != 2:
            raise ValueError(f"a plane has two dimensions, not {self.dim}")
        nodes, weights = legendre(directions)
        v = np.concatenate([-nodes, nodes])
        one = np.ones_like(v)
        w = np.concatenate([np.stack(pair, 1) for pair in ((one, v), (-one, v), (v, one), (v, -one))])
        mass = np.tile(np.concatenate([weights, weights]), 4) * self.direction_weight(w)
        u, share = legendre(16)
        panels = radii // 16
        u = ((np.arange(panels)[:, None] + u) / panels).ravel()
        level = special.gammaincinv(self.shape, u)
        s = (level[:, None] / self.rate(w)) ** (1.0 / self.power)
        weight = np.tile(share, panels)[:, None] / panels * (mass / mass.sum())
        return np.asarray((s[:, :, None] * w).reshape(-1, 2)), np.asarray(weight.ravel())


@lru_cache(maxsize=32)
def _surface(family: Family) -> tuple[Array, Array]:
    """Return points ``w = (1, v)`` and weights of the integral of the directions' density over ``[0, 1]^{d-1}``."""
    nodes, weights = legendre(_NODES[family.dim])
    places = list(itertools.product(range(len(nodes)), repeat=family.dim - 1))
    index = np.array(places, dtype=np.intp).reshape(len(places), family.dim - 1)
    w = np.concatenate([np.ones((len(index), 1)), nodes[index]], axis=1)
    return w, weights[index].prod(axis=1) * family.direction_weight(w)


def legendre(count: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = special.roots_legendre(count)
    return np.asarray(0.5 * (nodes + 1.0)), np.asarray(0.5 * weights)


def discrepancy(log_ratio: Array, mass: Array, lam: float) -> float:
    """Return ``E(λ - e^ℓ)_+`` from ``ℓ`` at nodes of given mass; [Z], Theorem 1 II."""
    return float(mass @ np.maximum(lam - np.exp(np.minimum(log_ratio, 700.0)), 0.0))
