"""``log_prob`` and ``log_ratio``: normalisation, symmetry, monotonicity, scale, and each family against the others."""

from __future__ import annotations

import itertools
import math

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
)
from rs_plugin.distributions.base import worst_shift
from rs_plugin.errors import InputError, ParameterError, UnsupportedThreatError
from rs_plugin.threats import THREATS, Threat
from tests.cases import CASES, LARGE_DIM, NORMS, POWERS, TILTED_POWERS, each


def homogeneous_norm(noise: SmoothingDistribution, z: torch.Tensor) -> torch.Tensor:
    """The norm in the exponential, ``(Σ|z_i|^p)^{1/p}`` for tilted noise; 2 for others."""
    order = noise.norm if isinstance(noise, NormExponential) else getattr(noise, "power", 2.0)
    return torch.linalg.vector_norm(z, ord=order, dim=1, keepdim=True)


def points(noise: SmoothingDistribution, dim: int, count: int = 4, seed: int = 0) -> torch.Tensor:
    """Points where the noise has its mass, without its sampler: a third to three times about its mean norm."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(size=(count, dim)))
    power = getattr(noise, "power", 2.0)
    typical = ((dim - noise.parameters.get("k", 0.0)) / power + 0.5) ** (1 / power) * noise.length_scale
    spread = torch.exp(torch.linspace(-1, 1, count, dtype=torch.float64))[:, None]
    return z / homogeneous_norm(noise, z) * typical * spread


def rounding(noise: SmoothingDistribution, z: torch.Tensor) -> torch.Tensor:
    """Rounding of ``log_prob``: 64 eps times the size of its parts, whatever cancels between them."""
    norm = homogeneous_norm(noise, z)[:, 0]
    power = getattr(noise, "power", 2.0)
    k, dim = noise.parameters.get("k", 0.0), z.shape[1]
    largest = z.abs().amax(1)
    logs = torch.log(norm).abs() + torch.log(largest).abs() + 1
    total = (1 + power) * (norm / noise.length_scale) ** power
    return 64 * 2.0**-52 * (total + (k + 1) * logs + dim * math.log(dim + 1))


def integral(noise: SmoothingDistribution, dim: int) -> float:
    """``∫ exp(log_prob(z)) dz`` for ``dim`` up to 3, over ``z = m u`` with ``‖u‖∞ = 1``.

    ``dz = m^d dy du`` with ``y = log m`` and ``u`` on the cube's surface: ``2 d`` faces, by symmetry all equal and
    each made of ``2^{d-1}`` equal parts. Gauss rules with 16 nodes in ``v``, ``u_i = v²``, and with 10 in each step of
    ``y``; to the left the integrand falls like ``exp((d - k) y)`` and is cut at e^{-40}.
    """
    gx, gw = np.polynomial.legendre.leggauss(16)
    v, w = (gx + 1) / 2, gw / 2
    u = np.array(list(itertools.product(v**2, repeat=dim - 1))).reshape(16 ** (dim - 1), dim - 1)
    du = np.array([math.prod(parts) for parts in itertools.product(2 * v * w, repeat=dim - 1)])
    hx, hw = np.polynomial.legendre.leggauss(10)
    gap = dim - noise.parameters.get("k", 0.0)
    centre = math.log(noise.length_scale)
    steps = centre + np.concatenate([-np.geomspace(40 / gap + 5, 5.0, 60), np.linspace(-5.0, 8.0, 80)[1:]])
    y = (steps[:-1, None] + np.diff(steps)[:, None] * (hx + 1) / 2).ravel()
    dy = (np.diff(steps)[:, None] * hw / 2).ravel()
    total = 0.0
    for log_m, weight in zip(y, dy, strict=True):
        z = np.concatenate([np.ones((len(u), 1)), u], axis=1) * math.exp(log_m)
        density = noise.log_prob(torch.from_numpy(z)).numpy()
        total += weight * float(du @ np.exp(density + dim * log_m))
    return total * 2 * dim * 2 ** (dim - 1)


@each([case for case in CASES if case.dim <= 2])
def test_integrates_to_one(noise: SmoothingDistribution, dim: int) -> None:
    # 1e-9: the rules' error at powers 0.7 and 1.5, which have |u_i|^p; 1e-12 at the others.
    assert integral(noise, dim) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    "noise",
    [
        Gaussian(0.5), Laplace(0.3), L1Exponential(2.8, 0.3), L2Exponential(1.3, 2.0), LinfExponential(1, 2.0),
        MixedNorm(0, 0.5), MixedNorm(2.8, 0.5), MaxTiltedExponential(1, 1.5, 0.7), MaxTiltedExponential(3, 1, 0.7),
        NormExponential(2, 0.7, 0.5, 0.7), NormExponential(math.inf, 3, 1.1, 0.7),
    ],
    ids=str,
)  # fmt: skip
def test_integrates_to_one_in_three_dimensions(noise: SmoothingDistribution) -> None:
    assert integral(noise, 3) == pytest.approx(1.0, abs=1e-9)  # as above


def log_constant_of_norm(norm: float, power: float, k: float, dim: int) -> mp.mpf:
    """``log ∫ ‖z‖^{-k} exp(-‖z‖^p) dz`` from the volume ``V r^d`` of the ball: ``∫ r^{-k} e^{-r^p} V d r^{d-1} dr``."""
    d = mp.mpf(dim)
    volume = {
        1: d * mp.log(2) - mp.loggamma(d + 1),
        2: d / 2 * mp.log(mp.pi) - mp.loggamma(d / 2 + 1),
        math.inf: d * mp.log(2),
    }[norm]
    shape = (d - mp.mpf(k)) / mp.mpf(power)
    return volume + mp.log(d) - mp.log(power) + mp.loggamma(shape)


@each([case for case in CASES if case.dim > 2 and isinstance(case.noise, NormExponential)])
def test_value_against_thirty_digits(noise: NormExponential, dim: int) -> None:
    z = points(noise, dim, count=1)
    sizes = z[0].abs().tolist()
    with mp.workdps(30):
        squared = mp.mpf(math.fsum(x * x for x in sizes))
        length = {1: mp.mpf(math.fsum(sizes)), 2: mp.sqrt(squared), math.inf: mp.mpf(max(sizes))}[noise.norm]
        k, power, scale = mp.mpf(noise.k), mp.mpf(noise.power), mp.mpf(noise.scale)
        constant = log_constant_of_norm(noise.norm, noise.power, noise.k, dim) + (dim - k) / power * mp.log(scale)
        exact = -k * mp.log(length) - length**power / scale - constant
    assert abs(float(exact - float(noise.log_prob(z)))) <= float(rounding(noise, z))


@pytest.mark.parametrize("dim", [5, 64, 3072])
def test_products_against_scipy(dim: int) -> None:
    """Without a tilt the coordinates are independent: normal, Laplace or generalised normal."""
    for power in TILTED_POWERS:
        noise = MaxTiltedExponential(power, 0, 0.7)
        z = points(noise, dim)
        exact = stats.gennorm.logpdf(z.numpy(), power, scale=0.7 ** (1 / power)).sum(1)
        assert np.all(np.abs(noise.log_prob(z).numpy() - exact) <= rounding(noise, z).numpy())
    for noise, law in ((Gaussian(0.4), stats.norm(scale=0.4)), (Laplace(0.4), stats.laplace(scale=0.4))):
        z = points(noise, dim)
        assert np.all(np.abs(noise.log_prob(z).numpy() - law.logpdf(z.numpy()).sum(1)) <= rounding(noise, z).numpy())


@each(CASES)
def test_symmetric_in_sign_and_order(noise: SmoothingDistribution, dim: int) -> None:
    z = points(noise, dim)
    flips = torch.from_numpy(np.random.default_rng(1).choice([-1.0, 1.0], size=dim))
    order = torch.from_numpy(np.random.default_rng(2).permutation(dim))
    value = noise.log_prob(z)
    assert torch.isfinite(value).all()
    for other in (-z, z * flips, z[:, order]):
        assert torch.all((noise.log_prob(other) - value).abs() <= rounding(noise, z))


@each(CASES)
def test_falls_in_every_magnitude(noise: SmoothingDistribution, dim: int) -> None:
    """What the rule for Linf rests on."""
    z = points(noise, dim)
    value = noise.log_prob(z)
    for axis in {0, dim // 2, dim - 1, *z[0].abs().argmax(0, keepdim=True).tolist()}:
        for growth in (1.0 + 1e-6, 1.5, 30.0):
            larger = z.clone()
            larger[:, axis] *= growth
            assert torch.all(noise.log_prob(larger) <= value + rounding(noise, larger))
    assert torch.all(noise.log_prob(1.01 * z) < value)


@each(CASES)
def test_scale_equivariance(noise: SmoothingDistribution, dim: int) -> None:
    """``log π_c(c z) = log π(z) - d log c``."""
    z = points(noise, dim)
    for factor in (0.25, 3.7):
        wide = noise.rescaled(factor)
        assert type(wide) is type(noise)
        assert wide.length_scale == pytest.approx(factor * noise.length_scale, rel=1e-14)  # some eps
        gap = wide.log_prob(factor * z) - (noise.log_prob(z) - dim * math.log(factor))
        assert torch.all(gap.abs() <= 2 * rounding(noise, z))


PAIRS = [
    (Gaussian(0.5), NormExponential(2, 2, 0, 0.5)),
    (Laplace(0.3), NormExponential(1, 1, 0, 0.3)),
    (L1Exponential(1.5, 0.3), NormExponential(1, 1, 1.5, 0.3)),
    (L2Exponential(1.5, 0.5), NormExponential(2, 2, 1.5, 0.5)),
    (LinfExponential(1.5, 0.5), NormExponential(math.inf, 2, 1.5, 0.5)),
    (MixedNorm(1.5, 0.5), MaxTiltedExponential(2, 1.5, 0.5)),
]


@pytest.mark.parametrize(("named", "general"), PAIRS, ids=lambda noise: noise.name)
def test_named_family_is_its_general_case(named: SmoothingDistribution, general: SmoothingDistribution) -> None:
    z = points(named, 12)
    assert torch.equal(named.log_prob(z), general.log_prob(z))
    assert named.length_scale == general.length_scale
    assert named.worst_shift_rules == general.worst_shift_rules
    assert named.second_moment(12) == general.second_moment(12)
    for threat in THREATS:
        assert named.mean_norm(threat, 12) == general.mean_norm(threat, 12)
    draws = [n.sample((5, 12), generator=torch.Generator().manual_seed(0)) for n in (named, general)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_families_meet_without_a_tilt(dim: int) -> None:
    """At ``k = 0`` the exponential families are Gaussian, Laplace and products; in one dimension all meet."""
    meeting = [
        [Gaussian(0.5), L2Exponential(0, 0.5), MixedNorm(0, 0.5)],
        [Laplace(0.3), L1Exponential(0, 0.3), MaxTiltedExponential(1, 0, 0.3)],
    ]
    if dim == 1:
        for power in POWERS:
            meeting.append([NormExponential(norm, power, 0.4, 0.7) for norm in NORMS])
            meeting[-1].append(MaxTiltedExponential(power, 0.4, 0.7))
    for group in meeting:
        z = points(group[0], dim)
        for noise in group[1:]:
            assert torch.all((noise.log_prob(z) - group[0].log_prob(z)).abs() <= rounding(noise, z))


@each(CASES)
def test_simplified_is_the_same_law(noise: SmoothingDistribution, dim: int) -> None:
    simple = noise.simplified(dim)
    z = points(noise, dim)
    assert torch.all((simple.log_prob(z) - noise.log_prob(z)).abs() <= rounding(noise, z))
    assert simple.worst_shift_rules >= noise.worst_shift_rules
    assert simple.simplified(dim) == simple


@each(CASES)
def test_log_ratio_is_a_difference_of_log_probs(noise: SmoothingDistribution, dim: int) -> None:
    z = points(noise, dim)
    for threat in sorted(noise.worst_shift_rules):
        at = noise.log_ratio(z, threat)
        for size in (0.0, 1e-3, 0.4, 5.0):
            radius = size * noise.length_scale
            shift = worst_shift(threat, radius, dim)
            exact = noise.log_prob(z - shift) - noise.log_prob(z)
            slack = rounding(noise, z - shift) + rounding(noise, z)
            assert torch.all((at(radius) - exact).abs() <= slack), (threat, size)


def test_log_ratio_beside_the_singularity() -> None:
    """With ``k > 0`` the density is infinite at 0 and at the shift: the ratio is infinite there, never NaN."""
    for noise in (L1Exponential(1, 0.3), L2Exponential(1, 0.5), LinfExponential(1, 0.5), MixedNorm(1, 0.5)):
        for threat in sorted(noise.worst_shift_rules):
            shift = worst_shift(threat, 0.25, 3)
            z = torch.stack([shift, torch.zeros(3, dtype=torch.float64)])
            assert noise.log_ratio(z, threat)(0.25).tolist() == [math.inf, -math.inf]


def test_worst_shift() -> None:
    assert worst_shift("L1", 0.5, 3).tolist() == [0.5, 0.0, 0.0]
    assert worst_shift("L2", 0.5, 3).tolist() == [0.5, 0.0, 0.0]
    assert worst_shift("Linf", 0.5, 3).tolist() == [0.5, 0.5, 0.5]
    for threat, order in (("L1", 1), ("L2", 2), ("Linf", math.inf)):
        shift = worst_shift(threat, 0.5, LARGE_DIM)  # type: ignore[arg-type]
        assert shift.shape == (LARGE_DIM,)
        assert shift.dtype == torch.float64
        assert float(torch.linalg.vector_norm(shift, ord=order)) == 0.5


@pytest.mark.parametrize(
    ("noise", "threat"),
    [
        (L1Exponential(1, 0.3), "L2"), (Laplace(0.3), "L2"), (LinfExponential(1, 0.3), "L2"), (MixedNorm(1, 0.3), "L1"),
        (MixedNorm(1, 0.3), "L2"), (MaxTiltedExponential(1, 0, 1), "L1"), (NormExponential(math.inf, 3, 1, 1), "L2"),
    ],
    ids=str,
)  # fmt: skip
def test_log_ratio_refuses_what_no_rule_covers(noise: SmoothingDistribution, threat: Threat) -> None:
    with pytest.raises(UnsupportedThreatError, match=threat):
        noise.log_ratio(points(noise, 3), threat)


class Cauchy(SmoothingDistribution):
    """Independent Cauchy coordinates: a family that writes nothing but what it must."""

    name = "cauchy"
    worst_shift_rules = frozenset({"Linf"})

    def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
        out.cauchy_(generator=generator)

    def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return -torch.log1p(z * z).sum(1) - z.shape[1] * math.log(math.pi)


def test_defaults_of_a_family_of_the_users_own() -> None:
    noise = Cauchy()
    z = points(noise, 6)
    exact = noise.log_prob(z - 0.3) - noise.log_prob(z)
    assert torch.equal(noise.log_ratio(z, "Linf")(0.3), exact)
    assert noise.length_scale == 1.0
    assert noise.simplified(6) is noise
    assert noise.log_ratio_law("Linf", 6) is None
    assert noise.closed_form_law("Linf", 6) is None
    assert str(noise) == "cauchy()"
    for ask in (
        lambda: noise.second_moment(6),
        lambda: noise.mean_norm("L2", 6),
        lambda: noise.rescaled(2.0),
        lambda: noise.with_second_moment(1.0, 6),
    ):
        with pytest.raises(ParameterError, match="Cauchy"):
            ask()
    with pytest.raises(UnsupportedThreatError, match="L1"):
        noise.log_ratio(z, "L1")


@each([case for case in CASES if case.dim in (5, 64)])
def test_shapes_and_types(noise: SmoothingDistribution, dim: int) -> None:
    z = points(noise, dim, count=3)
    value = noise.log_prob(z)
    assert value.shape == (3,)
    assert value.dtype == torch.float64
    assert torch.equal(noise.log_prob(z.reshape(3, 1, dim)), value)
    single = noise.log_prob(z.float())
    assert single.dtype == torch.float64
    assert torch.equal(single, noise.log_prob(z.float().double()))
    with pytest.raises(InputError, match="shape"):
        noise.log_prob(z[0])


@pytest.mark.parametrize("family", [L1Exponential, L2Exponential, LinfExponential, MixedNorm])
def test_k_at_or_above_the_dimension_is_refused(family: type[SmoothingDistribution]) -> None:
    noise = family(3, 1.0)
    for ask in (
        lambda: noise.log_prob(torch.ones(2, 3)),
        lambda: noise.second_moment(3),
        lambda: noise.mean_norm("L1", 2),
        lambda: noise.with_second_moment(1.0, 3),
        lambda: noise.radial_law(3),
        lambda: noise.log_ratio_law("Linf", 3),
    ):
        with pytest.raises(ParameterError, match=r"k = 3 .* d = [23].*0 <= k < [23]"):
            ask()
    assert torch.isfinite(noise.log_prob(torch.ones(2, 4))).all()


@pytest.mark.parametrize("dim", [0, -1, 2.5])
def test_dimensions_that_are_none(dim: float) -> None:
    with pytest.raises(ParameterError, match="dim"):
        Gaussian(1.0).check_dim(dim)  # type: ignore[arg-type]
