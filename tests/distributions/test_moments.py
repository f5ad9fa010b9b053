"""Moments, mean norms and the laws of norms: closed forms in many digits, integration in the plane, Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import stats

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
    sphere,
)
from rs_plugin.errors import ParameterError
from rs_plugin.threats import THREATS, Threat
from tests.cases import CASES, LARGE_DIM, NORMS, SAMPLED, each
from tests.distributions.quadrature import legendre

ORDERS: dict[Threat, float] = {"L1": 1, "L2": 2, "Linf": math.inf}

# Differences of log gammas in float64 lose eps times their size, a log(a) for shape a: 1e-10 at d = 150528.
GAMMAS = {1: 1e-14, 2: 1e-14, 5: 1e-14, 64: 2e-13, 784: 3e-12, 3072: 1e-11, LARGE_DIM: 2e-9}


def states(noise: SmoothingDistribution, threat: Threat) -> bool:
    """Whether the family knows ``E‖z‖`` in this norm: all but the Euclidean norm of tilted noise of power not 2."""
    return not (isinstance(noise, MaxTiltedExponential) and noise.power != 2 and threat == "L2")


# Closed forms --------------------------------------------------------------------------------------------------------


def gamma_ratio(shape: mp.mpf, step: mp.mpf) -> mp.mpf:
    """``Γ(shape + step) / Γ(shape)``, so ``E G^step`` of ``G ~ Gamma(shape)``."""
    return mp.exp(mp.loggamma(shape + step) - mp.loggamma(shape))


@each([case for case in CASES if isinstance(case.noise, NormExponential)])
def test_second_moment_of_radial_noise(noise: NormExponential, dim: int) -> None:
    """``E z_1² = E R² E u_1²``; of one coordinate: Beta(1, d-1)², Beta(1/2, (d-1)/2), or 1 and uniform mixed."""
    with mp.workdps(40):
        d, power = mp.mpf(dim), mp.mpf(noise.power)
        radius = gamma_ratio((d - mp.mpf(noise.k)) / power, 2 / power) * mp.mpf(noise.scale) ** (2 / power)
        axis = {1: 2 / (d * (d + 1)), 2: 1 / d, math.inf: 1 / d + (1 - 1 / d) / 3}[noise.norm]
        # A whole step is a product of a few factors; other steps are differences of log gammas.
        rel = 2e-15 if noise.power in (1, 2) else GAMMAS[dim]
        assert noise.second_moment(dim) == pytest.approx(float(radius * axis), rel=rel)


@each([case for case in CASES if isinstance(case.noise, MaxTiltedExponential) and case.noise.power in (1, 2)])
def test_sum_of_powers_of_tilted_noise(noise: MaxTiltedExponential, dim: int) -> None:
    """``E Σ|z_i|^p = scale (d - k)/p``, since the sum has a gamma law: the second moment at 2, the 1-norm at 1."""
    exact = noise.scale * (dim - noise.k) / noise.power
    found = dim * noise.second_moment(dim) if noise.power == 2 else noise.mean_norm("L1", dim)
    # Quadrature to rounding, which is (d - 1) times that of a logarithm of size up to 100 (shift of the density).
    assert found == pytest.approx(exact, rel=1e-13 + dim * 5e-15)
    # The same by quadrature over the maximum, which powers without a closed form rest on.
    law = noise.radial_law(dim)
    powers = law.nodes**noise.power + (dim - 1) * noise._truncated_moment(noise.power, law.log_nodes)
    assert law.mean(powers) * noise.scale == pytest.approx(exact, rel=1e-13 + dim * 5e-15)


@pytest.mark.parametrize("dim", [1, 2, 5, 64, 784, 3072, LARGE_DIM])
def test_mean_norms_of_gaussian_and_laplace(dim: int) -> None:
    with mp.workdps(40):
        d = mp.mpf(dim)
        chi = mp.sqrt(2) * gamma_ratio(d / 2, mp.mpf(1) / 2)
        assert Gaussian(0.5).mean_norm("L2", dim) == pytest.approx(float(chi / 2), rel=GAMMAS[dim])
        assert Gaussian(0.5).mean_norm("L1", dim) == pytest.approx(float(d / mp.sqrt(2 * mp.pi)), rel=GAMMAS[dim])
        ends = [mp.mpf(i) / 2 for i in range(26)]  # the largest of d normals beyond 12.5 has no weight at 1e-30
        largest = mp.quad(lambda x: 1 - mp.erf(x / mp.sqrt(2)) ** dim, ends) / 2
        assert Gaussian(0.5).mean_norm("Linf", dim) == pytest.approx(float(largest), rel=GAMMAS[dim])
        # The largest of d exponentials: a harmonic number, as a sum of the waiting times between them.
        assert Laplace(0.3).mean_norm("Linf", dim) == pytest.approx(0.3 * float(mp.harmonic(dim)), rel=GAMMAS[dim])
    assert Laplace(0.3).mean_norm("L1", dim) == pytest.approx(0.3 * dim, rel=GAMMAS[dim])
    assert Laplace(0.3).second_moment(dim) == pytest.approx(2 * 0.3**2, rel=GAMMAS[dim])
    assert Gaussian(0.5).second_moment(dim) == pytest.approx(0.25, rel=GAMMAS[dim])


@pytest.mark.parametrize("dim", [2, 64, 3072, LARGE_DIM])
@pytest.mark.parametrize("family", [L1Exponential, L2Exponential, LinfExponential, MixedNorm])
def test_twelve_below_the_dimension(family: type[SmoothingDistribution], dim: int) -> None:
    """Near ``k = d`` the norm's law has 12 degrees of freedom (1 in two dimensions), whatever ``d``."""
    left = min(dim - 1, 12)
    noise = family(dim - left, 0.7)
    with mp.workdps(40):
        half = gamma_ratio(mp.mpf(left) / 2, mp.mpf(1) / 2) * mp.sqrt(2) * mp.mpf(0.7)
        if family is L1Exponential:
            assert noise.mean_norm("L1", dim) == pytest.approx(0.7 * left, rel=1e-13)
            exact = mp.mpf(0.7) ** 2 * left * (left + 1) * 2 / (mp.mpf(dim) * (dim + 1))
        elif family is L2Exponential:
            assert noise.mean_norm("L2", dim) == pytest.approx(float(half), rel=1e-13)
            exact = mp.mpf(0.7) ** 2 * left / dim
        elif family is LinfExponential:
            assert noise.mean_norm("Linf", dim) == pytest.approx(float(half), rel=1e-13)
            exact = mp.mpf(0.7) ** 2 * left * (1 + (mp.mpf(dim) - 1) / 3) / dim
        else:
            assert noise.mean_norm("L2", dim) == pytest.approx(float(half), rel=1e-13)
            exact = mp.mpf(0.7) ** 2 * left / dim
    # Of the tilted family by quadrature: d times the rounding of log P(1/2, m²), which is near log(m).
    rel = 1e-13 + (dim * 1e-16 if family is MixedNorm else 0.0)
    assert noise.second_moment(dim) == pytest.approx(float(exact), rel=rel)


# In the plane, by brute force ----------------------------------------------------------------------------------------


def mean_in_the_plane(noise: SmoothingDistribution) -> dict[str, float]:
    """Means under ``exp(log_prob)``: ``z = m (1, v²)`` over one octant, Gauss rules in ``v`` and ``log m``."""
    gx, gw = np.polynomial.legendre.leggauss(24)
    hx, hw = np.polynomial.legendre.leggauss(12)
    v = (gx + 1) / 2
    t, dt = v**2, v * gw
    gap = 2 - noise.parameters.get("k", 0.0)
    steps = np.concatenate([-np.geomspace(40 / gap + 5, 6.0, 60), np.linspace(-6.0, 8.0, 100)[1:]])
    y = math.log(noise.length_scale) + (steps[:-1, None] + np.diff(steps)[:, None] * (hx + 1) / 2).ravel()
    dy = (np.diff(steps)[:, None] * hw / 2).ravel()
    m = np.exp(y)[:, None]
    z = np.stack([np.broadcast_to(m, (len(y), len(t))), m * t], axis=-1)
    density = noise.log_prob(torch.from_numpy(z.reshape(-1, 2))).numpy().reshape(z.shape[:2])
    mass = 8 * np.exp(density + 2 * y[:, None]) * dt * dy[:, None]
    values = {threat: np.linalg.norm(z, ord=order, axis=2) for threat, order in ORDERS.items()}
    return {
        "mass": float(mass.sum()),
        "square": float((mass * (z**2).sum(2)).sum()) / 2,
        **{threat: float((mass * value).sum()) for threat, value in values.items()},
    }


@each([case for case in CASES if case.dim == 2])
def test_means_in_the_plane(noise: SmoothingDistribution, dim: int) -> None:
    mean = mean_in_the_plane(noise)
    # 1e-9: the rule in t at powers 0.7 and 1.5.
    assert mean["mass"] == pytest.approx(1.0, rel=1e-9)
    assert noise.second_moment(dim) == pytest.approx(mean["square"], rel=1e-9)
    for threat in THREATS:
        if states(noise, threat):
            assert noise.mean_norm(threat, dim) == pytest.approx(mean[threat], rel=1e-9), threat


@each([case for case in CASES if case.dim == 1])
def test_in_one_dimension_all_norms_agree(noise: SmoothingDistribution, dim: int) -> None:
    shape, power = mp.mpf(1 - noise.parameters.get("k", 0.0)), mp.mpf(noise.power)
    with mp.workdps(30):
        mean = float(gamma_ratio(shape / power, 1 / power) * mp.mpf(noise.scale) ** (1 / power))
    for threat in THREATS:
        if states(noise, threat):
            assert noise.mean_norm(threat, dim) == pytest.approx(mean, rel=1e-12)  # quadrature to rounding


# Monte Carlo ---------------------------------------------------------------------------------------------------------


@each([case for case in SAMPLED if case.dim in (5, 64, 3072)])
def test_means_of_draws(noise: SmoothingDistribution, dim: int) -> None:
    """Standard scores; 130 cases of at most 4 means, each off by chance with probability 1e-8 in the normal limit.

    The log of the norm's spread is small but for few degrees of freedom, where 20 000 draws make the limit good.
    """
    count = min(20_000, 300_000 // dim)
    z = noise.sample((count, dim), generator=torch.Generator().manual_seed(11), dtype=torch.float64).numpy()
    statistics = {"square": ((z**2).mean(1), noise.second_moment(dim))}
    for threat in THREATS:
        if states(noise, threat):
            statistics[threat] = np.linalg.norm(z, ord=ORDERS[threat], axis=1), noise.mean_norm(threat, dim)
    for name, (values, mean) in statistics.items():
        score = (values.mean() - mean) / (values.std() / math.sqrt(count))
        # Heavy right tails (d - k = 0.2) make the sample's own deviation an underestimate: twice the bound there.
        heavy = values.std() > 2 * values.mean()
        assert abs(score) < stats.norm.isf(5e-9) * (2 if heavy else 1), name


# The direction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 784, 3072, LARGE_DIM])
def test_ball_volumes(dim: int) -> None:
    with mp.workdps(40):
        exact = {
            1: dim * mp.log(2) - mp.loggamma(dim + 1),
            2: mp.mpf(dim) / 2 * mp.log(mp.pi) - mp.loggamma(mp.mpf(dim) / 2 + 1),
            math.inf: dim * mp.log(2),
        }
    for norm in NORMS:
        assert sphere.log_ball_volume(norm, dim) == pytest.approx(float(exact[norm]), rel=4e-15, abs=1e-15)  # some eps


def mean_root_of(log_laplace: Callable[[mp.mpf], mp.mpf], count: int, offset: int) -> mp.mpf:
    """``E√Y = (2√π)^{-1} ∫ (1 - E e^{-sY}) s^{-3/2} ds`` in 30 digits, with ``s = e^v`` from e^{-90} to e^{90}."""
    total = mp.mpf(0)
    for low in range(-90, 90, 2):
        for x, w in legendre(20):
            v = low + 2 * x
            s = mp.exp(v)
            total -= 2 * w * mp.expm1(count * log_laplace(s) - s * offset) * mp.exp(-v / 2)
    return total / (2 * mp.sqrt(mp.pi))


@pytest.mark.parametrize("dim", [2, 64, LARGE_DIM])
def test_euclidean_means_of_the_other_spheres(dim: int) -> None:
    """Sums of squares of exponentials and of uniforms, by the same identity at 30 digits, with erfc and erf direct."""

    def exponential(s: mp.mpf) -> mp.mpf:
        x = 1 / (2 * mp.sqrt(s))
        if x > 50:  # asymptotic series of erfcx, good to 1e-30 here
            terms = (mp.fac2(2 * n - 1) * (-1) ** n / (2 * x * x) ** n for n in range(12))
            return mp.log(mp.fsum(terms))
        return mp.log(mp.sqrt(mp.pi) * x * mp.exp(x * x) * mp.erfc(x))

    def uniform(s: mp.mpf) -> mp.mpf:
        if s < mp.mpf("1e-10"):
            return mp.log1p(-s / 3 + s * s / 10)
        return mp.log(mp.sqrt(mp.pi) * mp.erf(mp.sqrt(s)) / (2 * mp.sqrt(s)))

    with mp.workdps(30):
        diamond = mean_root_of(exponential, dim, 0) / dim
        cube = mean_root_of(uniform, dim - 1, 1)
    # 1e-13: rounding of the logarithm at the joint of its two forms.
    assert sphere.mean_norm(1, "L2", dim) == pytest.approx(float(diamond), rel=1e-13)
    assert sphere.mean_norm(math.inf, "L2", dim) == pytest.approx(float(cube), rel=1e-13)


@pytest.mark.parametrize("count", [1, 2, 7, 3072, LARGE_DIM])
def test_mean_root_of_sums_with_closed_forms(count: int) -> None:
    """Squares of normals give the chi law; exponentials ``E √Gamma(n) = Γ(n + 1/2)/Γ(n)``; constants themselves."""
    with mp.workdps(30):
        chi = float(mp.sqrt(2) * gamma_ratio(mp.mpf(count) / 2, mp.mpf(1) / 2))
        gamma = float(gamma_ratio(mp.mpf(count), mp.mpf(1) / 2))
    # 1e-13: some hundred roundings of an integrand that is smooth on the scale of the rule.
    assert sphere.mean_root(lambda s: -0.5 * math.log1p(2 * s), count) == pytest.approx(chi, rel=1e-13)
    assert sphere.mean_root(lambda s: -math.log1p(s), count) == pytest.approx(gamma, rel=1e-13)
    assert sphere.mean_root(lambda s: 0.0, count, offset=1.0) == pytest.approx(1.0, rel=1e-13)
    assert sphere.mean_root(lambda s: -1e-9 * s, count) == pytest.approx(math.sqrt(1e-9 * count), rel=1e-13)
    assert sphere.mean_root(lambda s: -100.0 * s, count) == pytest.approx(math.sqrt(100.0 * count), rel=1e-13)


# Scale ---------------------------------------------------------------------------------------------------------------


@each(CASES)
def test_with_second_moment(noise: SmoothingDistribution, dim: int) -> None:
    for value in (1e-6, 1.0, 30.0):
        scaled = noise.with_second_moment(value, dim)
        assert type(scaled) is type(noise)
        assert scaled.second_moment(dim) == pytest.approx(value, rel=1e-13)  # some eps
        assert scaled.parameters.get("k") == noise.parameters.get("k")
    again = noise.with_second_moment(noise.second_moment(dim), dim)
    assert again.length_scale == pytest.approx(noise.length_scale, rel=1e-14)
    factor = 2.5
    wide = noise.rescaled(factor)
    assert wide.second_moment(dim) == pytest.approx(factor**2 * noise.second_moment(dim), rel=1e-13)
    for threat in THREATS:
        if states(noise, threat):
            assert wide.mean_norm(threat, dim) == pytest.approx(factor * noise.mean_norm(threat, dim), rel=1e-13)


@each(CASES)
def test_norms_are_in_order(noise: SmoothingDistribution, dim: int) -> None:
    """``E‖z‖∞ <= E‖z‖₂ <= E‖z‖₁``, ``E‖z‖₁ <= √d E‖z‖₂`` and ``(E‖z‖₂)² <= d E z_1²``."""
    mean = {threat: noise.mean_norm(threat, dim) for threat in THREATS if states(noise, threat)}
    assert all(value > 0 for value in mean.values())
    slack = 1 + 4 * GAMMAS[dim]
    assert mean["Linf"] <= mean["L1"] * slack
    if "L2" in mean:
        assert mean["Linf"] <= mean["L2"] * slack
        assert mean["L2"] <= mean["L1"] * slack
        assert mean["L1"] <= math.sqrt(dim) * mean["L2"] * slack
        assert mean["L2"] ** 2 <= dim * noise.second_moment(dim) * slack**2


@pytest.mark.parametrize(
    "noise",
    [Gaussian(0.5), Laplace(0.5), L1Exponential(16, 0.5), L2Exponential(16, 0.5), LinfExponential(16, 0.5),
     MixedNorm(16, 0.5)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dim", [64, 3072, LARGE_DIM])
def test_rescaling_to_half_is_exact_to_rounding(noise: SmoothingDistribution, dim: int) -> None:
    half = noise.with_second_moment(noise.second_moment(dim) / 4, dim)
    assert half.length_scale == pytest.approx(noise.length_scale / 2, rel=1e-15)
    # The moment is that of a Gaussian of sigma 1/4: a quotient, a root and a product, half an eps each.
    assert Gaussian(0.5).with_second_moment(0.0625, dim).parameters["sigma"] == pytest.approx(0.25, rel=4e-16)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_second_moments_that_are_none(value: float) -> None:
    with pytest.raises(ParameterError, match="second moment"):
        Gaussian(0.5).with_second_moment(value, 3)


def test_reference_scales() -> None:
    """Scales at which the noise has rms 1 (mean of ``|z_i|`` 1 for the 1-norm) per coordinate, to the digits given."""
    assert math.sqrt(L2Exponential(250, 1.0433550).second_moment(3072)) == pytest.approx(1.0, abs=5e-8)
    assert L1Exponential(250, 1.0885897).mean_norm("L1", 3072) / 3072 == pytest.approx(1.0, abs=5e-8)
    assert math.sqrt(MixedNorm(250, 1.0).second_moment(3072)) == pytest.approx(0.95845, abs=5e-6)


def test_euclidean_mean_of_tilted_noise_of_another_power_is_not_stated() -> None:
    with pytest.raises(ParameterError, match="mean norm"):
        MaxTiltedExponential(3, 1, 1).mean_norm("L2", 5)
