"""Integration along rays, against nested quadrature, closed forms and draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

import rs_plugin as rs
from paper_figures.families import Family, discrepancy, norm

NOISES = [
    rs.Gaussian(0.7), rs.Laplace(0.5), rs.L1Exponential(1.5, 0.8), rs.L2Exponential(1.5, 1.2),
    rs.LinfExponential(1.5, 0.6), rs.MixedNorm(1.5, 0.9),
]  # fmt: skip


def kernel(noise: rs.SmoothingDistribution, z: np.ndarray) -> float:
    """Return the density as [Z] writes it, Eqs. 10 to 13, but for its constant."""
    one, two, top = np.abs(z).sum(), math.sqrt((z * z).sum()), np.abs(z).max()
    p = noise.parameters
    if isinstance(noise, rs.MixedNorm):
        return top ** -p["k"] * math.exp(-two * two / (2 * p["sigma"] ** 2))
    if isinstance(noise, rs.Gaussian | rs.L2Exponential):
        return two ** -p.get("k", 0.0) * math.exp(-two * two / (2 * p["sigma"] ** 2))
    if isinstance(noise, rs.LinfExponential):
        return top ** -p["k"] * math.exp(-top * top / (2 * p["sigma"] ** 2))
    return one ** -p.get("k", 0.0) * math.exp(-one / p["b"])


def plane_integral(noise: rs.SmoothingDistribution, weight: object = None) -> float:
    """Return ``∫ weight(z) kernel(z) dz`` over the plane by nested adaptive quadrature in polar coordinates."""

    def along(angle: float) -> float:
        u = np.array([math.cos(angle), math.sin(angle)])

        def integrand(v: float) -> float:  # s = v²: the integrand is bounded at 0 for k <= 1.5
            z = v * v * u
            value = kernel(noise, z) * 2.0 * v**3 if v > 0 else 0.0
            return value if weight is None else value * weight(z)  # type: ignore[operator]

        return float(integrate.quad(integrand, 0.0, 6.0, epsabs=1e-11, epsrel=1e-11, limit=200)[0])

    # By symmetry an eighth of the plane, in which no density has a kink.
    return 8.0 * float(integrate.quad(along, 0.0, math.pi / 4.0, epsabs=1e-10, epsrel=1e-10)[0])


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_normaliser_and_moments_in_the_plane(noise: rs.SmoothingDistribution) -> None:
    family = Family.of(noise, 2)
    total = plane_integral(noise)
    # Both quadratures of smooth functions are good to 1e-9; the radius beyond 36 is left out by the oracle (e^{-45}).
    assert math.exp(family.log_normaliser()) == pytest.approx(total, rel=1e-8)
    square = plane_integral(noise, lambda z: (z * z).sum()) / total
    assert family.moment(lambda w: norm(w, 2.0) ** 2, 2.0) == pytest.approx(square, rel=1e-8)


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_kernel_is_the_formula(noise: rs.SmoothingDistribution) -> None:
    z = np.random.default_rng(0).standard_normal((20, 4))
    family = Family.of(noise, 4)
    assert np.exp(family.log_kernel(z)) == pytest.approx([kernel(noise, row) for row in z], rel=1e-12)


def test_closed_forms_of_the_norm_in_five_dimensions() -> None:
    # ‖z‖^p / b ~ Gamma((d - k)/p) in the density's own norm; and of Eq. 13 in the 2-norm, as of Eq. 11.
    for noise, order, shape, level in (
        (rs.L1Exponential(2, 0.5), 1.0, 3.0, 1.1 / 0.5),
        (rs.L2Exponential(2, 0.5), 2.0, 1.5, 1.1**2 / 0.5),
        (rs.LinfExponential(2, 0.5), math.inf, 1.5, 1.1**2 / 0.5),
        (rs.MixedNorm(2, 0.5), 2.0, 1.5, 1.1**2 / 0.5),
    ):
        value = Family.of(noise, 5).probability_within(order, 1.1)
        assert value == pytest.approx(float(special.gammainc(shape, level)), abs=1e-12)
    # Independent coordinates: P(‖z‖∞ <= a) is a power.
    value = Family.of(rs.Gaussian(1.0), 5).probability_within(math.inf, 1.1)
    assert value == pytest.approx((2.0 * special.ndtr(1.1) - 1.0) ** 5, abs=1e-10)
    value = Family.of(rs.Laplace(1.0), 5).probability_within(math.inf, 1.1)
    assert value == pytest.approx((1.0 - math.exp(-1.1)) ** 5, abs=1e-8)


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_draws_have_the_law(noise: rs.SmoothingDistribution) -> None:
    family = Family.of(noise, 5)
    generator = np.random.default_rng(1)
    z, others = family.draw(20_000, generator), family.draw(1000, generator)
    # 24 tests (6 noises; a Gamma law and three probabilities), each failing with probability 1e-7: 2.4e-6 together.
    if family.singular == family.tail:
        level = norm(z, family.tail) ** family.power / family.scale
        assert stats.kstest(level, stats.gamma(family.shape).cdf).pvalue > 1e-7
    for order in (1.0, 2.0, math.inf):
        threshold = float(np.median(norm(others, order)))
        inside = int(np.sum(norm(z, order) <= threshold))
        expected = family.probability_within(order, threshold)
        assert stats.binomtest(inside, 20_000, expected).pvalue > 1e-7


def test_plane_nodes_integrate() -> None:
    # Gaussian D(λ; δ) = λ Φ(s/2 + log λ / s) - Φ(-s/2 + log λ / s), s = ‖δ‖/σ: the hockey-stick divergence.
    z, mass = Family.of(rs.Gaussian(1.0), 2).plane_nodes(64, 512)
    shift, lam = np.array([0.5, 0.3]), 2.0
    s = float(np.hypot(*shift))
    expected = lam * special.ndtr(s / 2 + math.log(lam) / s) - special.ndtr(-s / 2 + math.log(lam) / s)
    assert mass.sum() == pytest.approx(1.0, abs=1e-12)
    ratio = Family.of(rs.Gaussian(1.0), 2).log_ratio(z, shift)
    # The integrand kinks at ℓ = log λ, between nodes.
    assert discrepancy(ratio, mass, lam) == pytest.approx(expected, abs=2e-6)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(TypeError, match="no norms"):
        Family.of(rs.MaxTiltedExponential(3.0, 1.0, 1.0), 2)
    with pytest.raises(ValueError, match="two dimensions, not 3"):
        Family.of(rs.Gaussian(1.0), 3).plane_nodes()
