"""The laws of norms by quadrature: of the maximum under a tilt, and of the norm of radial noise."""

from __future__ import annotations

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from rs_plugin.distributions import MaxTiltedExponential, NormExponential
from rs_plugin.distributions.maximum import MaximumLaw, log_normaliser
from rs_plugin.threats import THREATS
from tests.cases import LARGE_DIM, NORMS
from tests.distributions.quadrature import legendre


def exact_log_moments(power: float, k: float, dim: int, orders: tuple[float, ...]) -> list[mp.mpf]:
    """``log ∫ m^{order-k} e^{-m^p} P(1/p, m^p)^{d-1} dm`` in 30 digits.

    In ``y = log m``: where ``d m^p < 1e-32`` the power law is integrated in closed form, from there on by Gauss rules
    on panels that are densest about the peak.
    """
    p, d = mp.mpf(power), mp.mpf(dim)
    left = (mp.log(mp.mpf(10) ** -32) - mp.log(d)) / p

    def log_density(y: mp.mpf) -> mp.mpf:
        level = mp.exp(p * y)
        return (1 - mp.mpf(k)) * y - level + (d - 1) * mp.log(mp.gammainc(1 / p, 0, level, regularized=True))

    low, high = left, mp.log(200) / p
    for _ in range(60):  # log-concave: the peak by thirds
        third = (high - low) / 3
        low, high = (low + third, high) if log_density(low + third) < log_density(high - third) else (low, high - third)
    peak = (low + high) / 2
    top = log_density(peak)

    def end(sign: int) -> mp.mpf:
        step = mp.mpf("0.001")
        while log_density(peak + sign * step) > top - 75:
            step *= mp.mpf("1.4")
            if peak + sign * step < left:
                return left
        return peak + sign * step

    start, stop = end(-1), end(1)
    panels = [peak + (start - peak) * (mp.mpf(j) / 24) ** 2 for j in range(24, 0, -1)]
    panels += [peak + (stop - peak) * (mp.mpf(j) / 24) ** 2 for j in range(25)]
    rule = legendre(12)
    totals = [mp.mpf(0)] * len(orders)
    for a, b in itertools.pairwise(panels):
        for x, w in rule:
            y = a + (b - a) * x
            value = w * (b - a) * mp.exp(log_density(y) - top)
            totals = [total + value * mp.exp(order * y) for total, order in zip(totals, orders, strict=True)]
    if start == left:
        for i, order in enumerate(orders):
            slope = d - mp.mpf(k) + order
            totals[i] += mp.exp(slope * left - (d - 1) * mp.loggamma(1 + 1 / p) - top) / slope
    return [mp.log(total) + top for total in totals]


#: (power, k, dim): no tilt, a tiny one, half, and near ``d`` down to a tail that spans thousands of decades.
EXTREME = [
    (2, 0, 1), (0.7, 1e-4, 1), (3, 0.999, 1), (2, 1.8, 2), (0.7, 1.999, 2), (1.5, 4.999, 5), (2, 1e-4, 64),
    (1, 63.5, 64), (2, 0, 3072), (0.7, 1536, 3072), (3, 3060, 3072), (2, 3071.999, 3072), (2, 0, LARGE_DIM),
    (0.7, 0.5, LARGE_DIM), (2, 75264, LARGE_DIM), (3, LARGE_DIM - 12, LARGE_DIM), (2, LARGE_DIM - 1e-3, LARGE_DIM),
]  # fmt: skip


@pytest.mark.parametrize(("power", "k", "dim"), EXTREME)
def test_maximum_law_against_thirty_digits(power: float, k: float, dim: int) -> None:
    law = MaximumLaw(power, k, dim)
    with mp.workdps(30):
        constant, first, second = exact_log_moments(power, k, dim, (0, 1, 2))
        means = [float(mp.exp(value - constant)) for value in (first, second)]
        coordinate = mp.log(2) + mp.loggamma(1 + 1 / mp.mpf(power))
        whole = float(mp.log(2 * mp.mpf(dim)) + (dim - 1) * coordinate + constant)
    # The exponent is computed to d times some eps of a logarithm near 1 (log Γ(1 + 1/p), log P).
    rounding = 1e-13 + dim * 1e-14
    assert law.log_total == pytest.approx(float(constant), abs=rounding + 1e-15 * abs(float(constant)))
    assert log_normaliser(power, k, dim) == pytest.approx(whole, abs=rounding + 1e-15 * abs(whole))
    assert law.mean(law.nodes) == pytest.approx(means[0], rel=rounding)
    assert law.mean(law.nodes**2) == pytest.approx(means[1], rel=rounding)
    assert law.mean(np.ones_like(law.nodes)) == pytest.approx(1.0, rel=1e-14)
    noise = MaxTiltedExponential(power, k, 3.0)
    assert noise.mean_norm("Linf", dim) == pytest.approx(means[0] * 3.0 ** (1 / power), rel=2 * rounding)


@pytest.mark.parametrize(("power", "k", "dim"), [*EXTREME, (0.01, 3, 100)])
def test_density_at_one_point_is_that_of_arrays(power: float, k: float, dim: int) -> None:
    law = MaximumLaw(power, k, dim)
    points = np.linspace(law.low, law.high, 101)
    # log P carries some tens of eps from scipy, times d - 1.
    rounding = 1e-14 + 50 * dim * np.finfo(float).eps
    assert [law.log_density_at(float(x)) for x in points] == pytest.approx(law.log_density(points), abs=rounding)


@pytest.mark.parametrize(("power", "k", "dim"), [(2, 1.999, 2), (0.7, 63.99, 64), (2, 3071.999, 3072), (1, 4, 64)])
def test_maximum_quantiles(power: float, k: float, dim: int) -> None:
    """``P(m <= x)`` is ``x^{d-k}`` times a constant while ``d x^p`` is small, down to the smallest float."""
    law = MaximumLaw(power, k, dim)
    uniform = np.linspace(0, 1, 1001)
    found = law.quantile(uniform)
    assert np.all(np.diff(found) >= 0)
    assert np.all(np.isfinite(found))
    assert np.log(found[-1]) == pytest.approx(law.high, rel=1e-9)
    with np.errstate(divide="ignore"):
        y = np.log(found)
    constant = -(dim - 1) * math.lgamma(1 + 1 / power) - law.log_total
    small = (power * y + math.log(dim) < math.log(1e-12)) & (found > 1e-300)
    assert small.sum() > 3 or dim - k > 1
    leading = np.exp((dim - k) * y[small] + constant - math.log(dim - k))
    assert leading == pytest.approx(uniform[small], rel=1e-8, abs=2e-12)  # 1e-12 is the inverse's own accuracy


@pytest.mark.parametrize(("power", "k", "dim"), [(2, 0, 3072), (1, 0, 64), (3, 0, 2)])
def test_maximum_quantiles_of_independent_coordinates(power: float, k: float, dim: int) -> None:
    """Without a tilt ``P(m <= x) = P(|z_1| <= x)^d``."""
    uniform = np.array([1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9])
    found = MaximumLaw(power, k, dim).quantile(uniform)
    inside = np.exp(dim * np.log1p(-2 * stats.gennorm.sf(found, power)))
    assert inside == pytest.approx(uniform, rel=0, abs=2e-12)  # 1e-12 is the inverse's own accuracy


@pytest.mark.parametrize(("power", "k", "dim"), [(0.7, 0, 5), (2, 1.5, 2), (3, 63.9, 64), (2, 3060, 3072)])
def test_radial_law_of_radial_noise(power: float, k: float, dim: int) -> None:
    """The frozen law against ``∫ r^{d-k-1} exp(-r^p / scale) dr`` by quadrature in ``log r``."""
    law = NormExponential(1, power, k, 0.7).radial_law(dim)
    with mp.workdps(20):
        p, gap, scale = mp.mpf(power), mp.mpf(dim) - mp.mpf(k), mp.mpf(0.7)

        def log_density(y: mp.mpf) -> mp.mpf:
            return gap * y - mp.exp(p * y) / scale

        peak = mp.log(gap / p * scale) / p
        width = 1 / mp.sqrt(p * gap)

        def integral(high: mp.mpf, order: int = 0) -> mp.mpf:
            edges = [high - 120 / gap] + [high - 12 * width * j / 12 for j in range(12, -1, -1)]
            return mp.quad(lambda y: mp.exp(log_density(y) - log_density(peak) + order * y), sorted(edges))

        top = peak + 12 * width + 3
        whole = integral(top)
        for quantile in (0.01, 0.5, 0.99):
            x = float(law.ppf(quantile))
            # 1e-9: gap times the rounding of scipy's own quantile.
            assert float(integral(mp.log(x)) / whole) == pytest.approx(quantile, rel=1e-9)
        mean = float(integral(top, 1) / whole)
    assert float(law.mean()) == pytest.approx(mean, rel=1e-9)
    for norm, threat in zip(NORMS, THREATS, strict=True):
        noise = NormExponential(norm, power, k, 0.7)
        assert noise.mean_norm(threat, dim) == pytest.approx(mean, rel=1e-9)
