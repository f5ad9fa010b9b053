"""Propositions, shape of the noise, Eq. 12 and high dimension: columns against this file's oracles, and what agrees."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

from paper_figures.theory import cube, high_dim, radius, shape, spherical


def test_thin_shell() -> None:
    frame = radius.thin_shell()
    assert frame["agrees"].all()
    tail = frame[frame["statement"].str.contains("tail")]
    row = tail[(tail["dim"] == 100) & (tail["t"] == 2.0)].iloc[0]
    with mpmath.workdps(30):
        outside = 1 - (mpmath.gammainc(50, 64 / 2, 144 / 2, regularized=True))
    assert row["computed"] == pytest.approx(float(outside), rel=1e-10)
    assert row["claimed"] == pytest.approx(2.0 * math.exp(-2.0))
    spread = frame[frame["statement"].str.contains("spread")].set_index("dim")["independent"]
    for dim in (2, 100, 3072):
        expected = math.sqrt(dim - 2.0 * math.exp(2.0 * (special.gammaln((dim + 1) / 2) - special.gammaln(dim / 2))))
        # A difference of numbers of size d, whose logarithms of Gamma functions have errors of 1e-15 d log d.
        assert spread[dim] == pytest.approx(expected, rel=1e-6 if dim > 1000 else 1e-8)


def test_radius_law() -> None:
    frame = radius.radius_law()
    assert frame["agrees"].all()
    assert set(frame["noise"]) == {"Eq. 10", "Eq. 11", "Eq. 12"}
    row = frame[frame["statement"].str.contains("mean of") & (frame["dim"] == 100) & (frame["k"] == 60.0)].iloc[0]
    mean = stats.chi(40).mean()
    assert row["computed"] == pytest.approx(mean, rel=1e-12)
    assert row["independent"] == pytest.approx(mean, rel=1e-8)  # Simpson's rule


def test_draws_follow_the_radius_law() -> None:
    frame = radius.sampled_radius(draws=5_000)  # three rows, each failing with probability 1e-6, seed fixed
    assert frame["agrees"].all()


def test_spherical_equivalence() -> None:
    frame = spherical.equivalence(ks=(0.0, 1.8), lams=(0.5, 2.0))
    assert frame["agrees"].all()
    row = frame[(frame["noise"].str.contains("k=0.0")) & (frame["radius"] == 0.5) & (frame["lam"] == 2.0)].iloc[0]
    s, t = math.sqrt(0.5), math.log(2.0)
    expected = 2.0 * special.ndtr(s / 2 + t / s) - special.ndtr(-s / 2 + t / s)
    assert row["claimed"] == pytest.approx(expected, abs=1e-9)


def test_spherical_required_probability() -> None:
    frame = spherical.required(dims=(5, 3072), ratios=(0.5,))
    assert frame["agrees"].all()
    gaussian = frame[frame["noise"].str.contains("k=0.0")]
    assert gaussian["independent"].to_numpy() == pytest.approx(special.ndtr(0.5), abs=1e-5)  # 512² nodes


def test_sorting_gives_the_gaussian_required_probability() -> None:
    from rs_plugin import Gaussian

    for dim in (2, 50):
        cells = spherical.ray_cells(Gaussian(1.0), dim, 0.8, 48)
        assert cells[0].sum() == pytest.approx(1.0)
        assert cells[1].sum() == pytest.approx(1.0, abs=1e-3)  # the far side of π_δ has few nodes
        assert spherical.required_by_sorting(*cells) == pytest.approx(special.ndtr(0.8), abs=1e-5)


def test_kurtosis() -> None:
    frame = shape.kurtosis(draws=50_000)
    value = frame.set_index(["noise", "k"])["computed"]
    # Moments of Gamma radii and uniform directions, by hand: d = 5.
    assert value["Eq. 10", 0.0] == pytest.approx(6.0)
    assert value["Eq. 11", 0.0] == pytest.approx(3.0)
    assert value["Eq. 11", 4.0] == pytest.approx(3.0 * 5.0 * 3.0 / 7.0)
    # Eq. 12: E m^q (1 + 4/(q+1)) / 5, E m^4 / (E m²)² = (d - k + 2)/(d - k).
    for k in (0.0, 2.0):
        expected = (7.0 - k) / (5.0 - k) * ((1.0 + 4.0 / 5.0) / 5.0) / ((1.0 + 4.0 / 3.0) / 5.0) ** 2
        assert value["Eq. 12", k] == pytest.approx(expected)
    # The finding: only Eq. 12 at small k is lighter in the tails than a Gaussian.
    lighter = frame[~frame["agrees"]]
    assert set(zip(lighter["noise"], lighter["k"], strict=True)) == {("Eq. 12", 0.0), ("Eq. 12", 1.0), ("Eq. 12", 2.0)}
    # Draws and rays agree within five standard errors: 16 rows fail together with probability 1e-5.
    assert (np.abs(frame["computed"] - frame["independent"]) <= frame["error"]).all()


def test_kurtosis_of_eq_13_by_quadrature() -> None:
    """M = ‖z‖∞ has density ∝ m^{-k} φ(m) (2Φ(m) - 1)^{d-1}; the others are truncated normals."""
    k, dim = 2.0, 5

    def truncated(m: float, order: int) -> float:
        return float(special.gammainc(0.5 + order / 2, m * m / 2) * special.gamma(0.5 + order / 2)) * 2 ** (order / 2)

    def moment(order: int) -> float:
        def integrand(m: float) -> float:
            weight = m**-k * math.exp(-m * m / 2) * special.erf(m / math.sqrt(2)) ** (dim - 1)
            inside = truncated(m, order) / truncated(m, 0)
            return float(weight * (m**order + (dim - 1) * inside) / dim)

        return float(integrate.quad(integrand, 0.0, 12.0, epsabs=1e-12)[0])

    expected = moment(4) * moment(0) / moment(2) ** 2
    frame = shape.kurtosis(ks=(k,), draws=2_000)
    assert frame.set_index("noise")["computed"]["Eq. 13"] == pytest.approx(expected, rel=1e-6)


def test_kurtosis_of_eq_11_vanishes_with_dimension() -> None:
    frame = shape.spherical_kurtosis()
    assert frame["agrees"].all()
    excess = frame[np.isclose(frame["k"], 0.08 * frame["dim"])].set_index("dim")["excess"]
    assert excess[5] > 0.07
    assert 0.0 < excess[3072] < 2e-4


def test_centre_and_tails() -> None:
    frame = shape.centre()
    assert frame["agrees"].all()
    row = frame[(frame["dim"] == 100) & (frame["k"] == 60.0) & frame["statement"].str.contains("within")].iloc[0]
    end = stats.chi2(100).ppf(0.01)
    assert row["computed"] == pytest.approx(stats.chi2(40).cdf(end * 0.4), rel=1e-9)


def test_k_does_not_help_at_equal_second_moment() -> None:
    frame = shape.helps(dims=(5, 3072), shares=(0.3, 0.9), ratios=(0.5,))
    assert not frame["agrees"].any()
    assert (frame["computed"] > frame["claimed"]).all()
    assert (np.abs(frame["computed"] - frame["independent"]) <= frame["error"]).all()
    high = frame[frame["dim"] == 3072].set_index("k")["difference"]
    assert high.iloc[0] < 3e-5  # a change of scale and no more, until k nears d


def test_cubes_are_unsuited() -> None:
    frame = cube.unsuited(dims=(2, 30, 300), ks=(0.0,), draws=50_000)  # each row fails with probability 1e-6
    assert frame["agrees"].all()
    assert (np.abs(frame["computed"] - frame["independent"]) <= frame["error"]).all()
    assert frame["claimed"].to_numpy() == pytest.approx(special.ndtr(0.5))
    assert (frame["computed"].diff().dropna() > 0.1 * 0.5).all()


def test_radii_of_cubes_fall_like_one_over_d() -> None:
    frame = cube.radii(dims=(30, 3000), ks=(0.0,))
    assert frame["agrees"].all()
    scaled = frame["computed"] * frame["dim"]
    limit = math.sqrt(3.0) * math.log(5.0)
    assert scaled.iloc[1] == pytest.approx(limit, rel=0.002)
    assert (frame["gaussian_radius"] / frame["computed"]).iloc[1] > 20.0


def test_limit_law_of_cubes_is_that_of_a_likelihood_ratio() -> None:
    """ℓ = -a or min(a, 2E - a) has E e^ℓ = 1: a million draws, Hoeffding with failure probability 1e-9."""
    a = cube._limit_radius(0.9)
    assert a == pytest.approx(math.log(5.0), abs=1e-9)
    generator = np.random.default_rng(0)
    other = np.minimum(a, 2.0 * generator.exponential(size=1_000_000) - a)
    ratio = np.where(generator.random(1_000_000) < 0.5, -a, other)
    assert abs(np.exp(ratio).mean() - 1.0) < math.exp(a) * math.sqrt(math.log(2e9) / 2e6)


def test_size_of_imagenet() -> None:
    frame = high_dim.compute(levels=(0.5, 1.0), shares=(0.0, 0.01))
    assert frame["agrees"].all()
    row = frame[(frame["noise"] == "Eq. 11") & (frame["k"] == 0) & (frame["rms"] == 1.0)].iloc[0]
    size = math.sqrt(3 * 224 * 224) * 2 / 255
    with mpmath.workdps(30):
        missing = float(mpmath.ncdf(-mpmath.sqrt(150528) * 2 / 255))
    assert size == pytest.approx(3.0430, abs=1e-4)
    assert 1.0 - row["computed"] == pytest.approx(missing, rel=1e-9)
    assert row["draws"] == math.ceil(math.log(1e-3) / math.log1p(-missing))
    # No family is in reach of 100 000 draws at rms 0.5; at 1 only spherical noise, and Eq. 13 with small k.
    assert not frame.loc[frame["rms"] == 0.5, "in_reach"].any()
    assert set(frame.loc[frame["in_reach"], "noise"]) == {"Eq. 11", "Eq. 13"}
    above = frame[frame["noise"] == "Eq. 13"].set_index(["rms", "k"])["computed"]
    assert above[1.0, 1505] > above[1.0, 0] + 5e-4


def test_half_space_of_spherical_noise() -> None:
    # Gaussian: Σ z_i / √d is standard normal in any dimension.
    assert high_dim._half_space(50, 0, 1.3) == pytest.approx(special.ndtr(1.3), abs=1e-6)  # nodes on the quantile scale
    z = np.random.default_rng(0).standard_normal((200_000, 20))
    # Eq. 11, k = 10, d = 20: a Gaussian's direction, Gamma radius of mean square d in these units.
    r = np.sqrt(4.0 * np.random.default_rng(1).gamma(5.0, size=200_000))
    s = (z.sum(1) / np.linalg.norm(z, axis=1) / math.sqrt(20.0)) * r
    share = float(np.mean(s <= 1.3))
    assert high_dim._half_space(20, 10, 1.3) == pytest.approx(share, abs=math.sqrt(math.log(2e9) / 4e5))  # Hoeffding
