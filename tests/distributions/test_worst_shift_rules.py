"""Every declared worst shift against other shifts of the ball, by brute-force integration in low dimension.

A certificate is ``D(λ; δ) = E (λ - e^ℓ)_+`` at the declared worst ``δ``: if any shift of the ball had a larger one,
every certificate of that family and threat would be wrong.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import special

from rs_plugin.distributions import Gaussian, Laplace, LinfExponential, MaxTiltedExponential, MixedNorm, NormExponential
from rs_plugin.distributions.base import SmoothingDistribution, worst_shift
from rs_plugin.threats import Threat
from tests.cases import CASES, NORMS, POWERS, each

ORDERS: dict[Threat, float] = {"L1": 1, "L2": 2, "Linf": math.inf}

#: How far a difference of discrepancies at λ may be off, times max(λ, 1): twice the grids' largest error, found where
#: the density has a cusp and the shift is small (half as large on grids half as coarse). A false rule exceeds it
#: twentyfold.
GRID_ERROR = {2: 6e-4, 3: 6e-4}
SHELLS = {2: 160, 3: 60}
SIDE = {2: 48, 3: 12}

Grid = tuple[torch.Tensor, np.ndarray]


@lru_cache(maxsize=4)
def grid(noise: SmoothingDistribution, dim: int) -> Grid:
    """Points (count, dim) and weights (count,) that stand for draws of the noise.

    ``z = R u / N(u)`` with ``u`` on the surface of the cube and ``N`` the norm in the exponential: with a tilt
    ``T^{-k}``, homogeneous of degree ``-k``, ``R^power / scale ~ Gamma((d - k)/power)`` and ``u`` has density
    ``∝ T(u)^{-k} N(u)^{-(d-k)}``. Midpoints of equal shares of ``R``'s law and of equal squares of the cube's surface.
    """
    sides = (np.arange(SIDE[dim]) + 0.5) / SIDE[dim] * 2 - 1
    face = np.array(list(itertools.product(sides, repeat=dim - 1)))
    u = np.concatenate([np.insert(face, axis, sign, axis=1) for axis in range(dim) for sign in (-1, 1)])
    is_tilted = isinstance(noise, MaxTiltedExponential)
    norm = torch.linalg.vector_norm(torch.from_numpy(u), ord=noise.power if is_tilted else noise.norm, dim=1).numpy()
    tilt = np.ones(len(u)) if is_tilted else norm
    weight = tilt**-noise.k * norm ** (noise.k - dim)
    share = (np.arange(SHELLS[dim]) + 0.5) / SHELLS[dim]
    radius = (special.gammaincinv((dim - noise.k) / noise.power, share) * noise.scale) ** (1 / noise.power)
    z = (radius[:, None, None] * (u / norm[:, None])).reshape(-1, dim)
    return torch.from_numpy(z), np.tile(weight / weight.sum() / SHELLS[dim], SHELLS[dim])


def ratios(noise: SmoothingDistribution, shift: torch.Tensor) -> np.ndarray:
    """``e^ℓ`` on the grid; the cap keeps it finite and lies above every λ."""
    z, _ = grid(noise, len(shift))
    log_ratio = noise.log_prob(z - shift) - noise.log_prob(z)
    return np.exp(np.minimum(log_ratio.numpy(), 40.0))


def excess(noise: SmoothingDistribution, threat: Threat, radius: float, dim: int, others: int, seed: int) -> float:
    """The most by which ``D(λ; δ)`` of any shift tried exceeds ``D(λ; worst)``, over ``max(λ, 1)``.

    The λ are quantiles of ``e^ℓ`` at the worst shift and powers of 2; the shifts are random points of the ball, most of
    them on its surface, some with one coordinate or all of one size, in random order and signs.
    """
    rng = np.random.default_rng(seed)
    weight = grid(noise, dim)[1]
    at_worst = ratios(noise, worst_shift(threat, radius, dim))
    lam = np.concatenate([rng.choice(at_worst, p=weight, size=8), 2.0 ** np.arange(-2, 5)])

    def discrepancies(values: np.ndarray) -> np.ndarray:
        return np.array([weight @ np.maximum(one - values, 0.0) for one in lam])

    highest = discrepancies(at_worst)
    found = -math.inf
    for index in range(others):
        x = np.abs(rng.normal(size=dim)) ** rng.choice([0.0, 0.3, 1.0, 4.0, 40.0]) * rng.choice([-1, 1], size=dim)
        x *= radius / np.linalg.norm(x, ord=ORDERS[threat])
        if index % 4 == 3:
            x *= rng.uniform()
        gap = discrepancies(ratios(noise, torch.from_numpy(x))) - highest
        found = max(found, float((gap / np.maximum(lam, 1.0)).max()))
    return found


def typical(noise: SmoothingDistribution, threat: Threat, dim: int, size: float) -> float:
    """A radius of ``size`` times the median norm."""
    z, weight = grid(noise, dim)
    norm = np.linalg.norm(z.numpy(), ord=ORDERS[threat], axis=1)
    order = np.argsort(norm)
    return size * float(norm[order][np.searchsorted(np.cumsum(weight[order]), 0.5)])


def members(ks: tuple[float, ...], norms: tuple[float, ...], powers: tuple[float, ...]) -> list[SmoothingDistribution]:
    """Return radial noises of all norms and tilted noises of all powers, at every ``k``."""
    radial = [NormExponential(norm, power, k, 0.7) for norm in norms for power in powers for k in ks]
    return radial + [MaxTiltedExponential(power, k, 0.7) for power in (*powers, 1.5) for k in ks]


@pytest.mark.parametrize("noise", members((0, 0.5, 1, 1.8), NORMS, POWERS), ids=repr)
def test_no_shift_of_the_plane_is_worse(noise: SmoothingDistribution) -> None:
    for index, threat in enumerate(sorted(noise.worst_shift_rules)):
        for size in (0.15, 1.0):
            radius = typical(noise, threat, 2, size)
            assert excess(noise, threat, radius, 2, others=8, seed=index) < GRID_ERROR[2], (threat, size)


@pytest.mark.parametrize("noise", members((0, 1.3), NORMS, (1, 2)), ids=repr)
def test_no_shift_of_space_is_worse(noise: SmoothingDistribution) -> None:
    for index, threat in enumerate(sorted(noise.worst_shift_rules)):
        radius = typical(noise, threat, 3, 0.6)
        assert excess(noise, threat, radius, 3, others=5, seed=index) < GRID_ERROR[3], threat


@pytest.mark.parametrize(
    ("noise", "threat"),
    [
        (NormExponential(1, 1, 0, 0.7), "L2"),
        (NormExponential(1, 2, 1, 0.7), "L2"),
        (MaxTiltedExponential(1, 0.5, 0.7), "L2"),
        (MaxTiltedExponential(0.7, 0, 0.7), "L2"),
    ],
    ids=repr,
)
def test_a_rule_that_does_not_hold_is_found_out(noise: SmoothingDistribution, threat: Threat) -> None:
    """The check itself: these are not declared, and the shift that the rule would name is not the worst."""
    assert threat not in noise.worst_shift_rules
    assert excess(noise, threat, typical(noise, threat, 2, 1.0), 2, others=8, seed=0) > 20 * GRID_ERROR[2]


def test_the_grid_stands_for_the_noise() -> None:
    """Discrepancies with closed forms: ``2 D(1)`` is the total variation, ``2Φ(r/2σ) - 1`` and ``1 - e^{-r/2b}``."""
    for noise, exact in (
        (Gaussian(0.5), special.erf(0.4 / (2 * 0.5 * math.sqrt(2)))),
        (Laplace(0.5), 1 - math.exp(-0.4 / (2 * 0.5))),
    ):
        for dim in (2, 3):
            values = ratios(noise, worst_shift("L1", 0.4, dim))
            # 5e-3 in space: the error of D itself; that of a difference of two is much smaller.
            tolerance = {2: GRID_ERROR[2], 3: 5e-3}[dim]
            assert grid(noise, dim)[1] @ np.maximum(1 - values, 0) == pytest.approx(exact, abs=tolerance)


@each([case for case in CASES if case.dim == 5])
def test_what_is_declared(noise: SmoothingDistribution, dim: int) -> None:
    """The rules that are proven, no more: convex level sets for L1, a norm of 2 for L2, monotony for Linf."""
    if isinstance(noise, MaxTiltedExponential):
        assert noise.worst_shift_rules == {"Linf"}
    else:
        assert noise.worst_shift_rules == ({"L1", "L2", "Linf"} if noise.norm == 2 else {"L1", "Linf"})


def test_defaults_declare_nothing() -> None:
    assert SmoothingDistribution.worst_shift_rules == frozenset()


@pytest.mark.parametrize("noise", [MixedNorm(1.0, 0.5), LinfExponential(1.0, 0.5)], ids=repr)
def test_larger_radii_are_worse(noise: SmoothingDistribution) -> None:
    """``D`` at the declared shift grows with the radius, which a search for the largest radius relies on."""
    weight = grid(noise, 2)[1]
    radii = np.linspace(0.05, 2.0, 12)
    values = [ratios(noise, worst_shift("Linf", float(r), 2)) for r in radii]
    for lam in (0.5, 1.0, 2.0, 8.0):
        found = np.array([weight @ np.maximum(lam - value, 0) for value in values])
        assert np.all(np.diff(found) > -GRID_ERROR[2] * max(lam, 1.0))
