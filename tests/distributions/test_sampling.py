"""The law of the draws against oracles derived here.

Every statistical check has a fixed seed and fails by chance with probability at most 1e-8; with fewer than 6000 of
them the whole file fails by chance with probability below 1e-4 on another stream of random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

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
from tests.cases import DEVICE, SAMPLED, Case, each

FAILURE = 1e-8
VALUES = 300_000  # drawn per case, which sets the number of draws in high dimension
DRAWS = 20_000  # at most
FLOATS = (torch.float32, torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(seed)


def draws(noise: SmoothingDistribution, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> np.ndarray:
    count = max(6, min(DRAWS, VALUES // dim))
    z = noise.sample((count, dim), generator=generator(seed), dtype=dtype).cpu().to(torch.float64).numpy()
    assert np.isfinite(z).all()
    return z


def check_uniform(values: np.ndarray) -> None:
    """Kolmogorov-Smirnov: ``values`` are independent and uniform on [0, 1]."""
    assert stats.kstest(values, "uniform").pvalue > FAILURE


def check_share(successes: int, trials: int, share: float) -> None:
    """Binomial: a two-sided tail of at most FAILURE."""
    assert stats.binom.cdf(successes, trials, share) > FAILURE / 2
    assert stats.binom.sf(successes - 1, trials, share) > FAILURE / 2


def check_independent(x: np.ndarray, y: np.ndarray) -> None:
    """Spearman's rank correlation, by its normal limit; from 200 pairs on."""
    x, y = x.astype(float), y.astype(float)
    if len(x) >= 200 and np.ptp(x) > 0 and np.ptp(y) > 0:
        score = stats.spearmanr(x, y).statistic * math.sqrt(len(x) - 1)
        assert abs(score) < stats.norm.isf(FAILURE / 2)


def dtype_of(noise: SmoothingDistribution, dim: int) -> torch.dtype:
    """Alternate between the two types in which draws are made, so that both are tested on many cases."""
    return FLOATS[SAMPLED.index(Case(noise, dim)) % 2]


# The norm and the direction of radial noise --------------------------------------------------------------------------

RADIAL = [case for case in SAMPLED if isinstance(case.noise, NormExponential)]
TILTED = [case for case in SAMPLED if isinstance(case.noise, MaxTiltedExponential)]


def axis_cdf(norm: float, dim: int, u: np.ndarray) -> np.ndarray:
    """``P(|u_1| <= u)`` of one coordinate of the uniform direction, for ``dim >= 2``.

    Norm 1: a uniform point of the simplex has Beta(1, d - 1) coordinates. Norm 2: ``u_1² ~ Beta(1/2, (d - 1)/2)``.
    Norm inf: 1 with probability ``1/d``, else uniform; here of the others only.
    """
    if norm == 1:
        return np.asarray(stats.beta.cdf(u, 1, dim - 1))
    if norm == 2:
        return np.asarray(stats.beta.cdf(u * u, 0.5, (dim - 1) / 2))
    return u


@each(RADIAL)
def test_norm_has_its_gamma_law(noise: NormExponential, dim: int) -> None:
    """``∫ φ(‖z‖) dz ∝ ∫ r^{d-1} φ(r) dr``, so ``‖z‖^power / scale ~ Gamma((d - k)/power)``."""
    z = draws(noise, dim, dtype=dtype_of(noise, dim))
    norm = np.linalg.norm(z, ord=noise.norm, axis=1)
    check_uniform(special.gammainc((dim - noise.k) / noise.power, norm**noise.power / noise.scale))


@each([case for case in RADIAL if case.dim > 1])
def test_direction_is_uniform(noise: NormExponential, dim: int) -> None:
    z = draws(noise, dim, seed=1, dtype=dtype_of(noise, dim))
    norm = np.linalg.norm(z, ord=noise.norm, axis=1)
    for axis in {0, dim // 2, dim - 1}:
        size = np.abs(z[:, axis]) / norm
        check_share(int((z[:, axis] > 0).sum()), len(z), 0.5)
        if noise.norm == math.inf:
            # 1e-6: the division above, in float64 of float32 numbers, may miss 1 by their rounding.
            extreme = size > 1 - 1e-6
            check_share(int(extreme.sum()), len(z), 1 / dim + (1 - 1 / dim) * 1e-6)
            size, keep = size[~extreme], ~extreme
        else:
            keep = np.ones(len(z), dtype=bool)
        check_uniform(axis_cdf(noise.norm, dim, size))
        check_independent(size, norm[keep])
    check_independent(z[:, 0], z[:, 1])
    check_independent(np.abs(z[:, 0]) - np.abs(z[:, -1]), norm)


@each([case for case in SAMPLED if case.dim > 1])
def test_coordinates_are_exchangeable(noise: SmoothingDistribution, dim: int) -> None:
    """The largest coordinate is any one, with either sign, whatever the maximum."""
    z = draws(noise, dim, seed=2, dtype=dtype_of(noise, dim))
    index = np.abs(z).argmax(1)
    bins = min(dim, 16)
    edges = np.linspace(0, dim, bins + 1).round()
    counts, _ = np.histogram(index, bins=edges)
    assert stats.chisquare(counts, len(z) * np.diff(edges) / dim).pvalue > FAILURE or counts.min() < 5
    sign = np.take_along_axis(z, index[:, None], 1)[:, 0] > 0
    check_share(int(sign.sum()), len(z), 0.5)
    check_independent(index, np.abs(z).max(1))
    check_independent(sign, np.abs(z).max(1))


@each([case for case in RADIAL if case.dim == 1])
def test_one_dimension_is_a_fair_sign(noise: NormExponential, dim: int) -> None:
    z = draws(noise, dim, seed=3, dtype=dtype_of(noise, dim))[:, 0]
    check_share(int((z > 0).sum()), len(z), 0.5)
    check_independent(z > 0, np.abs(z))


# The maximum and the other coordinates of tilted noise ---------------------------------------------------------------


def maximum_cdf(power: float, k: float, dim: int, values: np.ndarray) -> np.ndarray:
    """``P(m <= values)`` for scale 1 by cumulative Gauss quadrature of the density of ``m``, derived here.

    Of independent coordinates the maximum has density ``d G(m)^{d-1} g(m)`` with ``g = e^{-m^p} / Γ(1 + 1/p)`` and
    ``G(m) = P(1/p, m^p)``; the tilt multiplies by ``m^{-k}``. Taken in ``y = log m``, relative to its peak, on 40 000
    steps of two nodes each between the ends at which it has fallen by e^{-60}.
    """
    constant = special.gammaln(1 + 1 / power)

    def log_density(y: np.ndarray) -> np.ndarray:
        level = np.exp(np.minimum(power * y, 600.0))
        inside = special.gammainc(1 / power, level)
        small = y - constant - level / (1 + power)  # log P(1/p, level) where level is small
        with np.errstate(divide="ignore"):
            log_inside = np.where(level < 1e-7, small, np.log(inside))
        return (1 - k) * y - level + (dim - 1) * log_inside

    centre = float(np.log(np.median(values)))
    reach = 120 / (dim - k) + 20
    coarse = np.linspace(centre - reach, centre + reach, 400_001)
    shape = log_density(coarse)
    inside = coarse[shape > shape.max() - 60]
    y = np.linspace(inside[0], inside[-1], 40_001)
    middle, half = (y[1:] + y[:-1]) / 2, (y[1] - y[0]) / 2
    mass = sum(np.exp(log_density(middle + s * half / math.sqrt(3)) - shape.max()) for s in (-1, 1))
    total = np.concatenate([[0.0], np.cumsum(mass)])
    return np.interp(np.log(values), y, total / total[-1])


@each(TILTED)
def test_sum_of_powers_has_its_gamma_law(noise: MaxTiltedExponential, dim: int) -> None:
    """The tilt is homogeneous of degree ``-k``: with ``z = s^{1/p} u``, ``Σ|u_i|^p = 1``, the density factorises.

    So ``s = Σ|z_i|^power`` has density ``∝ s^{(d-k)/p - 1} e^{-s/scale}`` for every tilt of that degree.
    """
    z = draws(noise, dim, dtype=dtype_of(noise, dim))
    total = (np.abs(z) ** noise.power).sum(1) / noise.scale
    check_uniform(special.gammainc((dim - noise.k) / noise.power, total))


@each(TILTED)
def test_maximum_has_its_law(noise: MaxTiltedExponential, dim: int) -> None:
    z = draws(noise, dim, seed=1, dtype=dtype_of(noise, dim))
    m = np.abs(z).max(1) / noise.scale ** (1 / noise.power)
    check_uniform(maximum_cdf(noise.power, noise.k, dim, m))


@each([case for case in TILTED if case.dim > 1])
def test_others_are_truncated_generalised_normals(noise: MaxTiltedExponential, dim: int) -> None:
    """``P(|z_i| <= a | m) = P(1/p, a^p/scale) / P(1/p, m^p/scale)``, independent of ``m`` and of the sign."""
    z = draws(noise, dim, seed=2, dtype=dtype_of(noise, dim))
    index = np.abs(z).argmax(1)
    m = np.abs(z).max(1)
    column = (index + 1 + np.arange(len(z)) % (dim - 1)) % dim  # never the extreme one
    other = np.take_along_axis(z, column[:, None], 1)[:, 0]
    level = np.abs(other) ** noise.power / noise.scale, m**noise.power / noise.scale
    share = special.gammainc(1 / noise.power, level[0]) / special.gammainc(1 / noise.power, level[1])
    check_uniform(share)
    check_independent(share, m)
    check_share(int((other > 0).sum()), len(z), 0.5)
    check_independent(other > 0, share)


# Two dimensions, cell by cell ----------------------------------------------------------------------------------------

ANGLES = 4  # cells along each half-edge of the square ‖u‖∞ = 1
RINGS = 10


def density_in_the_plane(noise: SmoothingDistribution) -> tuple[Callable[..., np.ndarray], float]:
    """The logarithm of the unnormalised density, written from its formula, and ``k``."""
    general = {
        Gaussian: lambda n: (2, 2, 2, 0, 2 * n.sigma**2),
        Laplace: lambda n: (1, 1, 1, 0, n.b),
        L1Exponential: lambda n: (1, 1, 1, n.k, n.b),
        L2Exponential: lambda n: (2, 2, 2, n.k, 2 * n.sigma**2),
        LinfExponential: lambda n: (math.inf, math.inf, 2, n.k, 2 * n.sigma**2),
        MixedNorm: lambda n: (math.inf, 2, 2, n.k, 2 * n.sigma**2),
        NormExponential: lambda n: (n.norm, n.norm, n.power, n.k, n.scale),
        MaxTiltedExponential: lambda n: (math.inf, n.power, n.power, n.k, n.scale),
    }
    tilt, norm, power, k, scale = general[type(noise)](noise)

    def length(x: np.ndarray, y: np.ndarray, order: float) -> np.ndarray:
        if order == math.inf:
            return np.maximum(np.abs(x), np.abs(y))
        return (np.abs(x) ** order + np.abs(y) ** order) ** (1 / order)

    def log_density(log_m: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        log_tilt = log_m + np.log(length(x, y, tilt))
        return -k * log_tilt - np.exp(power * log_m) * length(x, y, norm) ** power / scale

    return log_density, k


def octant_masses(noise: SmoothingDistribution) -> tuple[np.ndarray, np.ndarray]:
    """Edges of ``log m`` (RINGS - 1,) and masses (RINGS, ANGLES) of the cells of one octant, ``z = m (1, t)``.

    ``dz = m dm dt``, so in ``y = log m`` the mass is ``∫∫ exp(log density + 2 y) dt dy``, by Gauss rules of 8 nodes in
    ``t = v²`` (for powers of ``|t|`` below 2) and 10 in each of 800 steps of ``y``; on the left it falls like
    ``exp((2 - k) y)``, so it is cut where that is e^{-40}.
    """
    log_density, k = density_in_the_plane(noise)
    (gx, gw), (hx, hw) = np.polynomial.legendre.leggauss(8), np.polynomial.legendre.leggauss(10)
    v = (np.arange(ANGLES)[:, None] + (gx + 1) / 2) / ANGLES
    t, dt = v**2, 2 * v * gw / 2 / ANGLES
    high = math.log(5000.0)
    steps = np.concatenate([-np.geomspace(40 / (2 - k) + 10, 8.0, 200), np.linspace(-8.0, high, 601)[1:]])
    y = steps[:-1, None] + np.diff(steps)[:, None] * (hx + 1) / 2
    dy = np.diff(steps)[:, None] * hw / 2
    with np.errstate(under="ignore"):
        values = np.exp(log_density(y[..., None, None], np.ones_like(t), t) + 2 * y[..., None, None])
    mass = (values * dt * dy[..., None, None]).sum((1, 3))  # (steps, ANGLES)
    total = np.cumsum(mass.sum(1)) / mass.sum()
    cuts = np.unique(np.searchsorted(total, np.arange(1, RINGS) / RINGS))
    parts = np.array([part.sum(0) for part in np.split(mass, cuts + 1)])
    return steps[cuts + 1], parts / parts.sum()


@each([case for case in SAMPLED if case.dim == 2])
def test_plane_against_cell_probabilities(noise: SmoothingDistribution, dim: int) -> None:
    edges, masses = octant_masses(noise)
    z = draws(noise, dim, seed=4, dtype=dtype_of(noise, dim))
    size = np.abs(z)
    m = size.max(1)
    ring = np.searchsorted(edges, np.log(m))
    angle = np.minimum((np.sqrt(size.min(1) / m) * ANGLES).astype(int), ANGLES - 1)
    octant = 4 * (size[:, 0] > size[:, 1]) + 2 * (z[:, 0] > 0) + (z[:, 1] > 0)
    counts = np.zeros((8, *masses.shape))
    np.add.at(counts, (octant, ring, angle), 1)
    expected = np.broadcast_to(masses / 8 * len(z), counts.shape)
    # The chi-square limit asks for some five draws per cell: one octant at a time where cells are small.
    assert expected.sum(0).min() > 30
    assert stats.chisquare(counts.sum(0).ravel(), expected.sum(0).ravel()).pvalue > FAILURE
    if expected.min() > 8:
        assert stats.chisquare(counts.ravel(), expected.ravel()).pvalue > FAILURE


@pytest.mark.parametrize("noise", [MixedNorm(1.8, 0.5), LinfExponential(1.8, 0.5), L2Exponential(1.8, 0.5)], ids=str)
@pytest.mark.parametrize("below", [1e-2, 1e-6, 1e-12, 1e-30])
def test_left_tail_keeps_its_mass(noise: SmoothingDistribution, below: float) -> None:
    """At ``k = 1.8, d = 2`` the maximum is below 1e-6 with probability 0.07: ``P(m <= x) ∝ x^{0.2}`` near 0."""
    log_density, k = density_in_the_plane(noise)

    def mass(high: float) -> float:
        """Of ``m < high`` in one octant, with ``y = log m`` replaced by ``w = e^{(2-k) y}``, which ends the tail."""

        def inner(w: float) -> float:
            log_m = np.array(math.log(w) / (2 - k))
            value = integrate.quad(lambda t: math.exp(float(log_density(log_m, np.array(1.0), np.array(t)))), 0, 1)[0]
            return value * math.exp(k * float(log_m)) / (2 - k)

        return integrate.quad(inner, 1e-300, high ** (2 - k), limit=200)[0]

    share = mass(below) / mass(20.0)
    z = noise.sample((100_000, 2), generator=generator(5), dtype=torch.float64).cpu().abs().amax(1)
    check_share(int((z < below).sum()), len(z), share)


@pytest.mark.parametrize("family", [L1Exponential, L2Exponential, LinfExponential, MixedNorm])
@pytest.mark.parametrize("dim", [1, 2, 64, 3072])
def test_radii_below_the_smallest_float(family: type[SmoothingDistribution], dim: int) -> None:
    """As ``k`` nears ``d`` part of the radii underflow: those draws are 0, with the right share, and never NaN."""
    gap = 1 / 256
    noise = family(dim - gap, 1.0)
    for dtype, smallest in ((torch.float32, 2.0**-149), (torch.float64, 5e-324)):
        z = noise.sample((2000, dim), generator=generator(6), dtype=dtype).cpu()
        assert torch.isfinite(z).all()
        zeros = int((z == 0).all(1).sum())
        power = 1 if family is L1Exponential else 2
        # The gamma law of the norm (of the sum of squares for the tilted family), at its leading term x^a / Γ(a + 1).
        shape = gap / power

        def share(log_norm: float, shape: float = shape, power: int = power) -> float:
            scale = 0.0 if power == 1 else math.log(2.0)
            return math.exp(shape * (power * log_norm - scale) - special.gammaln(shape + 1))

        # All coordinates are 0 if the norm is well below the smallest float, none if it is d times as large.
        low, high = share(math.log(smallest) - 1), min(1.0, share(math.log(smallest) + math.log(dim) + 1))
        assert stats.binom.cdf(zeros, 2000, low) > FAILURE / 2
        assert stats.binom.sf(zeros - 1, 2000, high) > FAILURE / 2


def test_one_dimension_survives_normal_draws_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's float32 normals are 0 about once in 2e7 draws; the direction must not become 0/0 then."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, generator: self.zero_())
    z = L2Exponential(0.5, 1.0).sample((100, 1), generator=generator())
    assert torch.isfinite(z).all()
