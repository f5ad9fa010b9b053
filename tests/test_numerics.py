"""Quadrature rules, logarithmic gamma functions and safe rounding, against many digits."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from rs_plugin.numerics import (
    Array,
    gauss_legendre,
    integrate_panels,
    kronrod_rule,
    log_gammainc,
    log_gammainc_at,
    log_gammaincinv,
    step_down,
    step_up,
)

EPS = 2.0**-52


def test_kronrod_is_exact_on_polynomials() -> None:
    """Degree ``3 n + 1 = 31`` for the Kronrod rule, ``2 n - 1 = 19`` for the Gauss rule inside it, and no higher."""
    nodes, kronrod, difference, null = kronrod_rule()
    gauss = kronrod - difference
    assert nodes.shape == kronrod.shape == gauss.shape == (23,) and null.shape == (23, 8)
    for degree in range(32):
        # 8 eps: 21 roundings of terms that add up to the value.
        assert kronrod @ nodes**degree == pytest.approx(1 / (degree + 1), rel=8 * EPS), degree
        if degree < 20:
            assert gauss @ nodes**degree == pytest.approx(1 / (degree + 1), rel=8 * EPS), degree
    # On [-1, 1] the first failures are clear, and so are those of the null rules, of degrees 15 to 22.
    x = 2 * nodes - 1
    assert abs(2 * gauss @ x**20 - 2 / 21) > 1e-7
    assert abs(2 * kronrod @ x**32 - 2 / 33) > 1e-14
    for degree in range(23):
        sums = np.abs(x**degree @ null)
        assert np.all(sums[max(0, degree - 14) :] < 8 * EPS), degree
        if degree >= 15:
            assert sums[degree - 15] > 1e-8, degree


def test_kronrod_shape() -> None:
    nodes, kronrod, difference, _ = kronrod_rule()
    assert np.all(np.diff(nodes) > 0)
    assert 0 < nodes[0] <= 1e-8 and nodes[-1] < 1
    assert np.all(kronrod[1:-1] > 0) and kronrod[0] == kronrod[-1] == 0
    assert np.array_equal(kronrod, kronrod[::-1])
    assert np.allclose(nodes + nodes[::-1], 1.0, rtol=0, atol=EPS)
    assert np.count_nonzero(kronrod - difference) == 10


_PLACES = np.linspace(2e-8, 1 - 2e-8, 20_001)[:, None]
_WIDTHS = np.tile(np.geomspace(1e-3, 3.0, 23), 871)[: len(_PLACES), None]  # beside the places, no multiple of them


def _rise(x: Any) -> Any:
    """The integral of the normal distribution function."""
    return x * special.ndtr(x) + np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(
    ("function", "integral"),
    [
        (lambda x: x > _PLACES, lambda: 1 - _PLACES),
        (lambda x: np.maximum(x - _PLACES, 0), lambda: (1 - _PLACES) ** 2 / 2),
        (lambda x: np.maximum(x - _PLACES, 0) ** 2, lambda: (1 - _PLACES) ** 3 / 3),
        (lambda x: np.sqrt(np.maximum(x - _PLACES, 0)), lambda: (1 - _PLACES) ** 1.5 / 1.5),
        (
            lambda x: special.ndtr((x - _PLACES) / _WIDTHS),
            lambda: _WIDTHS * (_rise((1 - _PLACES) / _WIDTHS) - _rise(-_PLACES / _WIDTHS)),
        ),
    ],
    ids=["step", "kink", "second order kink", "root", "smooth step"],
)
def test_the_estimated_error_covers_the_true_one(function: Any, integral: Any) -> None:
    """Wherever in a panel one irregularity lies, beyond the outermost nodes of the Kronrod rule too."""
    rule = kronrod_rule()
    values = np.asarray(function(rule.nodes), dtype=float)
    estimate, error = rule.integrate(values)
    true = np.abs(estimate - integral()[:, 0])
    assert np.all(true <= error + 1e-15)
    # The bare difference of the two rules does not cover it; the price is a more careful estimate elsewhere.
    bare = np.abs(values @ rule.difference)
    assert np.any(true > bare + 1e-12)
    assert np.median(error) < 20 * np.median(bare)


def test_panels_are_halved_where_it_is_needed() -> None:
    """Two functions, three integrals of different shifts: a root's kink, a step, and both inside one panel."""
    shift = np.array([0.1, 1 / 3, 0.777])

    def function(x: Array, owner: NDArray[np.intp]) -> tuple[Array, Array]:
        distance = x - shift[owner][:, None]
        return np.stack([np.sqrt(np.maximum(distance, 0)), 1.0 * (distance > 0)]), np.zeros_like(x)

    owner = np.array([0, 1, 2, 0, 1, 2])
    left, right = np.array([0.0, 0, 0, 0.4, 0.5, 0.6]), np.array([0.4, 0.5, 0.6, 1, 1, 1])
    values, errors = integrate_panels(function, owner, left, right, (2, 3), 1e-9)
    truth = np.stack([(1 - shift) ** 1.5 / 1.5, 1 - shift])
    assert np.all(np.abs(values - truth) <= errors + 1e-15)
    assert np.all(errors <= 1e-9)


def test_errors_of_the_values_are_integrated_too() -> None:
    def function(x: Array, owner: NDArray[np.intp]) -> tuple[Array, Array]:
        return np.exp(x)[None], 0.01 * x

    values, errors = integrate_panels(function, np.zeros(1, int), np.zeros(1), np.full(1, 2.0), (1, 1), 1e-6)
    assert values[0, 0] == pytest.approx(math.exp(2) - 1, rel=1e-14)
    assert errors[0] == pytest.approx(0.02, rel=1e-9)


def test_what_is_noise_ends_and_says_so() -> None:
    """It has no integral; the work is bounded, and the error covers the mean of its values all the same."""
    evaluated = 0

    def function(x: Array, owner: NDArray[np.intp]) -> tuple[Array, Array]:
        nonlocal evaluated
        evaluated += x.size
        return (np.modf(np.abs(np.sin(1e9 * x)) * 1e6)[0] > 0.5)[None].astype(float), np.zeros_like(x)

    values, errors = integrate_panels(function, np.zeros(1, int), np.zeros(1), np.ones(1), (1, 1), 1e-9)
    assert evaluated < 100_000
    assert abs(values[0, 0] - 0.5) < errors[0] < 1


@pytest.mark.parametrize("order", [1, 2, 7, 20])
def test_gauss_legendre_is_exact_on_polynomials(order: int) -> None:
    nodes, weights = gauss_legendre(order)
    assert nodes.shape == weights.shape == (order,)
    for degree in range(2 * order):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=16 * EPS)


def exact_log_gammainc(shape: float, log_x: float) -> mp.mpf:
    """``log P(a, x)`` by the series ``x^a e^{-x} Σ x^n / (a)_{n+1} / Γ(a)`` below ``a + 1``, else by the complement."""
    with mp.workdps(40):
        a, x = mp.mpf(shape), mp.exp(mp.mpf(log_x))
        if x > a + 1:
            return mp.log1p(-mp.gammainc(a, x, mp.inf, regularized=True))
        total = mp.hyp1f1(1, a + 1, x)
        return a * mp.mpf(log_x) - x - mp.loggamma(a + 1) + mp.log(total)


@pytest.mark.parametrize("shape", [1e-3, 0.1, 1 / 3, 0.5, 1.0, 1 / 0.7, 3 / 0.7, 10.0, 30.0])
def test_log_gammainc_over_all_arguments(shape: float) -> None:
    """Shapes ``1/p`` and ``(order + 1)/p`` for powers from 0.1; arguments from e^{-50000} to beyond every float."""
    around = math.log(shape) + np.linspace(-3, 3, 13)
    joints = math.log(1e-8) + np.array([-1e-3, 1e-3])
    log_x = np.concatenate([[-5e4, -800.0, -745.0, -100.0, -30.0, -5.0, 3.0, 6.0], around, joints])
    found = log_gammainc(shape, log_x)
    for value, at in zip(found, log_x, strict=True):
        exact = exact_log_gammainc(shape, float(at))
        # Relative to 1 + |value|: scipy's gammainc has some tens of eps, x itself |log x| eps times a.
        allowed = 1e-14 * (1 + abs(float(exact))) * (1 + shape)
        assert abs(float(value - exact)) <= allowed, at
        assert abs(float(log_gammainc_at(shape, float(at)) - exact)) <= allowed, at
    assert np.all(np.diff(found[np.argsort(log_x)]) >= 0)


@pytest.mark.parametrize("shape", [0.1, 0.5, 1.0, 30.0, 1000.0])
def test_log_gammainc_keeps_the_complement(shape: float) -> None:
    """Near 1 the value is minus the complement, to its own relative accuracy."""
    for x in shape + np.array([3.0, 6.0, 9.0]) * math.sqrt(shape + 1):
        exact = float(exact_log_gammainc(shape, math.log(x)))
        if exact < -1e-300:
            # The logarithm of x carries eps, which moves the complement by x log(x) eps of itself.
            rel = 40 * (3 + x * math.log(x)) * EPS
            assert float(log_gammainc(shape, math.log(x))) == pytest.approx(exact, rel=rel)
            assert log_gammainc_at(shape, math.log(x)) == pytest.approx(exact, rel=rel)
    assert float(log_gammainc(shape, 800.0)) == 0.0
    assert log_gammainc(shape, -math.inf) == -math.inf


def test_log_gammainc_has_the_shape_of_its_argument() -> None:
    log_x = np.linspace(-3, 3, 6).reshape(2, 3)
    assert log_gammainc(0.5, log_x).shape == (2, 3)
    assert log_gammainc(0.5, 0.0).shape == ()
    assert np.allclose(np.exp(log_gammainc(0.5, log_x)), special.erf(np.exp(log_x / 2)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [1e-3, 0.2, 0.5, 1.0, 12.0, 1500.0, 75264.0])
@pytest.mark.parametrize("log_p", [-600.0, -41.4, -1.0, -0.01])
def test_log_gammaincinv_is_an_inverse(shape: float, log_p: float) -> None:
    found = log_gammaincinv(shape, log_p)
    assert math.isfinite(found)
    with mp.workdps(40):
        back = float(exact_log_gammainc(shape, found))
    # scipy's inverse has some 1e-13 relative in x, which is shape times that in log P; x/(a + 1) < e^{-30} is left out.
    assert back == pytest.approx(log_p, abs=1e-12 * (1 + abs(log_p)) * (1 + shape))


FLOATS = st.floats(min_value=-1e300, max_value=1e300, allow_subnormal=True)


@settings(derandomize=True, deadline=None)
@given(FLOATS, st.integers(1, 64))
def test_steps_move_by_at_least_what_they_say(value: float, ulps: int) -> None:
    up, down = float(step_up(value, ulps)), float(step_down(value, ulps))
    reach = Fraction(ulps) * Fraction(float(np.spacing(abs(value))))
    assert Fraction(up) >= Fraction(value) + reach * Fraction(99, 100)
    assert Fraction(down) <= Fraction(value) - reach * Fraction(99, 100)
    assert Fraction(up) <= Fraction(value) + 3 * reach
    assert Fraction(down) >= Fraction(value) - 3 * reach
    assert step_down(-value, ulps) == -up


def test_steps_of_arrays() -> None:
    value = np.array([[0.0, 1.0], [-1.0, 0.5]])
    assert step_up(value, 1).shape == (2, 2)
    assert np.array_equal(step_up(value, 1), np.nextafter(value, np.inf)[...] + [[0, 0], [-EPS / 2 + EPS, 0]])
    assert step_up(0.0, 1) == 5e-324
    assert step_down(0.0, 1) == -5e-324
    assert step_down(1.0, 1) == 1 - EPS
    assert step_up(1, 2) == 1 + 2 * EPS
