"""The one table of smoothing distributions and dimensions that drives the tests of all families."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import pytest

from rs_plugin.distributions import (
    Gaussian,
    L1Exponential,
    L2Exponential,
    Laplace,
    LinfExponential,
    MaxTiltedExponential,
    MixedNorm,
    NormExponential,
    SmoothingDistribution,
)

#: Where the tests of the samplers draw: they are tested on a GPU with ``RS_DEVICE=cuda``.
DEVICE = os.environ.get("RS_DEVICE", "cpu")

NORMS = (1, 2, math.inf)
POWERS = (0.7, 1, 2, 3)
TILTED_POWERS = (1, 2, 3, 1.5)
DIMS = (1, 2, 5, 64, 784, 3072)
LARGE_DIM = 150528  # 3 x 224 x 224


class Case(NamedTuple):
    """A noise and the number of values of one input."""

    noise: SmoothingDistribution
    dim: int


def exponents(dim: int) -> tuple[float, ...]:
    """Exponents ``k`` for ``dim``: none, one (below ``d``), a fraction, and near ``d``."""
    return (0, 1 if dim > 1 else 0.5, round(0.37 * dim, 2), round(dim - 0.2, 2))


def noises(dim: int) -> list[SmoothingDistribution]:
    """Return members of every family: the named ones at every ``k``, the general ones at every power."""
    ks = exponents(dim)
    named = [Gaussian(0.5), Laplace(0.3)]
    for k in ks:
        named += [L1Exponential(k, 0.3), L2Exponential(k, 0.5), LinfExponential(k, 2.0), MixedNorm(k, 0.5)]
    pairs = [(norm, power) for norm in NORMS for power in POWERS]
    general = [NormExponential(norm, power, ks[i % 4], 0.7) for i, (norm, power) in enumerate(pairs)]
    general += [NormExponential(norm, power, ks[(i + 2 + i // 4) % 4], 3.0) for i, (norm, power) in enumerate(pairs)]
    general += [MaxTiltedExponential(power, ks[i % 4], 0.7) for i, power in enumerate(TILTED_POWERS)]
    general += [MaxTiltedExponential(power, ks[(i + 2) % 4], 3.0) for i, power in enumerate(TILTED_POWERS)]
    return [*named, *general]


def _few(dim: int) -> list[SmoothingDistribution]:
    return [
        Gaussian(0.5), Laplace(0.3), L1Exponential(dim - 12, 0.3), L2Exponential(1000.5, 0.5), LinfExponential(0, 2.0),
        MixedNorm(1000.5, 0.5), MixedNorm(dim - 12, 0.5), MaxTiltedExponential(1, 1, 0.7),
        NormExponential(math.inf, 0.7, dim - 12, 0.7), NormExponential(2, 3, 1, 0.7),
    ]  # fmt: skip


#: Everything, for what costs little.
CASES = [Case(noise, dim) for dim in DIMS for noise in noises(dim)] + [Case(n, LARGE_DIM) for n in _few(LARGE_DIM)]


def _is_sampled(noise: SmoothingDistribution, dim: int) -> bool:
    # The first draw of a tilted law costs half a second of preparation, so those are thinned out.
    if not isinstance(noise, MaxTiltedExponential):
        return True
    if isinstance(noise, MixedNorm):
        return dim in (2, 5, 3072, LARGE_DIM)
    if noise.power == 1:
        return dim in (2, 784) and noise.k > 0
    return dim in (2, 64) and noise.scale == 0.7 and noise.power != 2


#: Those whose draws are compared with the law.
SAMPLED = [case for case in CASES if _is_sampled(*case)]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test of ``(noise, dim)`` on each of ``cases``."""
    return pytest.mark.parametrize(("noise", "dim"), [pytest.param(*c, id=f"{c.noise!r}-{c.dim}") for c in cases])
