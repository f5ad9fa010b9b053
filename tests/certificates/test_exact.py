"""Quadrature against closed forms, limits in ``k``, and integrals of another kind."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import integrate, optimize, special

from rs_plugin import certificate
from rs_plugin.certificates.exact import ExactBounds
from rs_plugin.distributions import Gaussian, L1Exponential, L2Exponential, Laplace, LinfExponential, NormExponential
from rs_plugin.distributions.laws.max_tilted import MaxTiltedLaw

P = np.array([0.51, 0.6, 0.75, 0.9, 0.99, 0.9999])
DIMS = (1, 2, 3, 5, 64, 3072, 150528)

#: The final tails are asked for to 1e-9 and enter twice, and the last ``τ`` may cost a third of that.
CLOSE = 2.4e-9


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("noise", "threat"), [(Gaussian(0.5), "L2"), (Laplace(0.5), "L1")], ids=str)
def test_the_closed_forms(noise: NormExponential, threat: str, dim: int) -> None:
    closed, exact = certificate(noise, threat, dim, "closed_form"), certificate(noise, threat, dim, "exact")
    radius = closed.radius(P)
    excess = exact.required_probability(radius) - closed.required_probability(radius)
    assert (excess >= -1e-14).all() and (excess <= CLOSE).all()
    below = closed.lower_bound(P, radius[::-1]) - exact.lower_bound(P, radius[::-1])
    assert (below >= -1e-13).all() and (below <= 2e-8).all()
    lam = np.geomspace(0.01, 100, 6)
    above = exact.discrepancy(lam, radius) - closed.discrepancy(lam, radius)
    # Tails to 1e-9, one of them multiplied by λ, each rounded down by as much as it may be off.
    assert (np.abs(above) <= 2e-9 * (1 + lam)).all()


@pytest.mark.parametrize("dim", [2, 5, 3072])
@pytest.mark.parametrize(
    ("make", "threat"),
    [(L1Exponential, "L1"), (L2Exponential, "L2"), (LinfExponential, "Linf"), (LinfExponential, "L1")],
)
def test_small_k(make: type, threat: str, dim: int) -> None:
    """``p*`` grows from that of no tilt in a line, at the rate of ``log(m'/m)``, which is of the order of 1."""
    radius = certificate(make(0, 0.5), threat, dim, "exact").radius(0.9)
    none, once, twice = (
        certificate(make(k, 0.5), threat, dim, "exact").required_probability(radius) for k in (0, 1e-4, 2e-4)
    )
    assert 0 < once - none < 1e-4
    # 1e-8: the square of k, and four times the accuracy of either.
    assert twice - none == pytest.approx(2 * (once - none), abs=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 8, 20, 64, 784, 3072])
def test_mixed_norm_without_tilt_is_gaussian(dim: int) -> None:
    bounds = ExactBounds(MaxTiltedLaw(0.0, dim))
    # In units of σ√2 a shift r in every coordinate is one of r √(2d) standard deviations.
    deviations = np.array([0.05, 0.5, 2.0])
    excess = bounds.required_probability(deviations / math.sqrt(2 * dim)) - special.ndtr(deviations)
    # The tails' errors, up to several 1e-8 (3e-7 for few summands), enter twice.
    assert (excess >= -1e-14).all() and (excess <= (2e-6 if dim < 12 else 3e-7)).all()


def discrepancy_by_quad(k: float, dim: int, radius: float, lam: float) -> float:
    """Return ``D(λ; r)`` of LinfExponential(k, 1) under Linf, from its definition as a mean, maximum by maximum.

    Given ``m = ‖z‖∞`` the shifted norm is ``m + r`` or the larger of ``|m - r|`` and ``Q + r``; over the latter the
    integrand ``(λ - φ(q)/φ(m))_+`` starts at its root, found by bisection, and is smooth from there.
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def log_phi(q: float | np.ndarray) -> float | np.ndarray:
        return -k * np.log(q) - q * q / 2

    def given(m: float) -> float:
        root = optimize.brentq(lambda q: log_phi(q) - log_phi(m) - math.log(lam), 1e-9, 60.0, xtol=1e-14)

        def part(q: float | np.ndarray) -> float | np.ndarray:
            return np.maximum(lam - np.exp(log_phi(q) - log_phi(m)), 0.0)

        near = abs(m - radius)
        total = part(m + radius) + np.clip((1 + (near - radius) / m) / 2, 0, 1) ** (dim - 1) * part(near)
        start = max(near, root)
        if start < m + radius:
            q = start + (m + radius - start) * nodes
            density = (dim - 1) / (2 * m) * ((1 + (q - radius) / m) / 2) ** (dim - 2)
            total += (m + radius - start) * (weights @ (density * part(q)))
        return 0.5 * float(total)

    def weighted(m: float) -> float:
        shape = (dim - k) / 2
        return given(m) * math.exp((dim - k - 1) * math.log(m) - m * m / 2 - math.lgamma(shape)) / 2 ** (shape - 1)

    edges = [1e-12, radius / 2, radius, *np.linspace(1.0001 * radius, 12, 25)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", integrate.IntegrationWarning)  # kinks; the comparison allows for them
        parts = [
            integrate.quad(weighted, a, b, epsabs=1e-11, epsrel=1e-10)[0]
            for a, b in itertools.pairwise(edges)
        ]
    return sum(parts)


@pytest.mark.parametrize("lam", [0.7, 1.3, 6.0])
def test_maximum_norm_by_its_definition(lam: float) -> None:
    expected = discrepancy_by_quad(1, 5, 0.8, lam)
    # 1e-10 a panel from quad, times λ; 1e-9 of the tails, times λ.
    assert certificate(LinfExponential(1, 1.0), "Linf", 5).discrepancy(lam, 0.8) == pytest.approx(expected, abs=1e-8)


def test_the_atom_at_zero() -> None:
    law = LinfExponential(1, 1.0).log_ratio_law("L1", 5)
    assert law is not None and law.has_atoms
    tails = law.tails(np.zeros(1), np.array([0.3 / math.sqrt(2)]), 1e-12)
    # P(ℓ = 0) = (d-1)/d P(z₁ > r - m | not extreme): 0.72, from E min(1, r/2m) in closed form by the Gamma law of m².
    shape = 2.0
    m0 = 0.15**2 / 2  # below r = 2m all of z₁ lies beyond
    mean_share = special.gammainc(shape, m0) + 0.15 / math.sqrt(2) * math.gamma(1.5) / math.gamma(
        2
    ) * special.gammaincc(1.5, m0)
    assert tails.at_least[0] - tails.above[0] == pytest.approx(0.8 * (1 - mean_share), abs=1e-10)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("power", [0.5, 1, 3])
@pytest.mark.parametrize(("dim", "k"), [(1, 0.0), (1, 0.9), (2, 1.999999), (3, 1e-4), (64, 63.999), (150528, 150527.9)])
def test_extremes_are_safe_and_silent(norm: float, power: float, dim: int, k: float) -> None:
    """No NaN and no warning, which the test run turns into an error; and every value in its range."""
    noise = NormExponential(norm, power, k, 1.0)
    found = certificate(noise, {1: "L1", 2: "L2"}.get(norm, "Linf"), dim, "exact")
    radii = np.array([1e-300, 1e-12, 1e-3, 1.0, 1e6])
    value = found.required_probability(radii)
    assert ((value >= 0.5) & (value <= 1)).all() and value[-1] > 0.99
    bound = found.lower_bound(np.array([[1e-12], [0.5], [0.9], [1 - 1e-12]]), radii)
    assert ((bound >= 0) & (bound <= 1)).all()
    lam = np.array([[1e-300], [0.5], [1.0], [1e300]])
    gap = found.discrepancy(lam, radii)
    assert ((gap >= np.maximum(lam - 1, 0)) & (gap <= lam)).all()


@pytest.mark.parametrize(
    ("k", "dim", "lam", "radius", "truth"),
    [(5000, 10**4, 1.64872127078631, 0.0025, 0.6487337734), (392, 784, 1.64872128467073, 0.012626906806902635 / 2**0.5,
      0.6488811565)],
)  # fmt: skip
def test_beside_the_almost_atom(k: float, dim: int, lam: float, radius: float, truth: float) -> None:
    """Half of the mass lies within 1e-10 of the largest ``ℓ``; the discrepancies are by 30 digits."""
    bounds = certificate(LinfExponential(k, 1.0), "Linf", dim)
    found = bounds.discrepancy(lam, radius * 2**0.5 * (1 - 1e-15))
    assert truth - 1e-10 <= found <= truth + 1e-8
