"""Clopper-Pearson bounds against statsmodels, high precision, and exact coverage."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.intervals import clopper_pearson_lower, clopper_pearson_upper, least_trials, multiclass_bounds

# How far a bound may lie from the exact one, in standard errors. The margin of 1e-9 on alpha moves it by 1e-9 times
# alpha over the tail's density, which is below one standard error for alpha <= 1/2; the neighbouring float adds 1 eps.
LOOSENESS = 2e-9

LARGE = [
    (99_000, 100_000, 1e-3),
    (50_123, 100_000, 1e-6),
    (99_999, 100_000, 1e-3),
    (1, 100_000, 1e-3),
    (9_000_000, 10_000_000, 1e-3),
    (9_999_998, 10_000_000, 0.05),
    (3, 10_000_000, 1e-9),
    (999_999_000, 1_000_000_000, 1e-3),
    (1000, 259_069_897, 4.734887863278908e-07),  # scipy 1.17's betaincinv gives 7.6e-6 here, twice s/n
]


def upper_tail(s: int, n: int, q: mp.mpf) -> mp.mpf:
    """``P(Binomial(n, q) >= s)`` by the continued fraction of DLMF 8.17.22, in 50 digits."""
    a, b = mp.mpf(s), mp.mpf(n - s + 1)
    if q >= (a + 1) / (a + b + 2):
        return 1 - lower_tail(s - 1, n, q)
    return _fraction(a, b, q)


def lower_tail(s: int, n: int, q: mp.mpf) -> mp.mpf:
    """``P(Binomial(n, q) <= s)``."""
    a, b = mp.mpf(n - s), mp.mpf(s + 1)
    if 1 - q >= (a + 1) / (a + b + 2):
        return 1 - _fraction(b, a, q)
    return _fraction(a, b, 1 - q)


def _fraction(a: mp.mpf, b: mp.mpf, x: mp.mpf) -> mp.mpf:
    if x == 0:
        return mp.mpf(0)
    c, d, m = mp.mpf(1), 1 / (1 - (a + b) * x / (a + 1)), 0
    value = d
    while True:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < mp.mpf(10) ** -30:
            break
    log_front = a * mp.log(x) + b * mp.log1p(-x) - mp.loggamma(a) - mp.loggamma(b) + mp.loggamma(a + b)
    return mp.exp(log_front) * value / a


def assert_safe_and_tight(s: int, n: int, alpha: float) -> None:
    """The tail at each bound is at most alpha, and above it a little further inside."""
    with mp.workdps(50):
        level = mp.mpf(alpha)
        lower, upper = clopper_pearson_lower(s, n, alpha), clopper_pearson_upper(s, n, alpha)
        if s == 0:
            assert lower == 0.0
        else:
            assert upper_tail(s, n, mp.mpf(lower)) <= level
            inside = mp.mpf(lower) + LOOSENESS * mp.sqrt(mp.mpf(lower) * (1 - mp.mpf(lower)) / n) + 1e-15 * lower
            assert inside >= 1 or upper_tail(s, n, inside) > level
        if s == n:
            assert upper == 1.0
        else:
            assert lower_tail(s, n, mp.mpf(upper)) <= level
            # 1e-15: where the bound is near 1 its spacing, not the margin, decides
            inside = mp.mpf(upper) - LOOSENESS * mp.sqrt(mp.mpf(upper) * (1 - mp.mpf(upper)) / n) - 1e-15 * upper
            assert inside <= 0 or lower_tail(s, n, inside) > level


def test_the_oracle_itself() -> None:
    with mp.workdps(50):
        for s, n, q in [(1, 3, "0.2"), (7, 9, "0.9"), (30, 100, "0.35"), (99, 100, "0.5")]:
            direct = mp.fsum(mp.binomial(n, k) * mp.mpf(q) ** k * (1 - mp.mpf(q)) ** (n - k) for k in range(s, n + 1))
            assert mp.almosteq(upper_tail(s, n, mp.mpf(q)), direct, rel_eps=mp.mpf(10) ** -28)
            assert mp.almosteq(lower_tail(s - 1, n, mp.mpf(q)), 1 - direct, rel_eps=mp.mpf(10) ** -28)


@pytest.mark.parametrize("alpha", [0.4, 0.05, 0.001, 1e-8])
@pytest.mark.parametrize("trials", [1, 2, 10, 101, 1000, 100_000])
def test_statsmodels(trials: int, alpha: float) -> None:
    s = np.unique(np.linspace(0, trials, 13).astype(int))
    lower, upper = proportion_confint(s, trials, alpha=2 * alpha, method="beta")
    # statsmodels inverts by scipy's betaincinv, whose error grows to 5e-9 of the tail at these n.
    np.testing.assert_allclose(clopper_pearson_lower(s, trials, alpha), lower, rtol=1e-8)
    np.testing.assert_allclose(clopper_pearson_upper(s, trials, alpha), upper, rtol=1e-8)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data(), trials=st.integers(1, 3000), exponent=st.floats(-30, -0.31))
def test_safe_and_tight(data: st.DataObject, trials: int, exponent: float) -> None:
    assert_safe_and_tight(data.draw(st.integers(0, trials)), trials, 10**exponent)


@pytest.mark.parametrize(("successes", "trials", "alpha"), LARGE)
def test_safe_and_tight_for_many_trials(successes: int, trials: int, alpha: float) -> None:
    assert_safe_and_tight(successes, trials, alpha)


@pytest.mark.parametrize("alpha", [0.5, 0.7, 0.999])
def test_a_useless_alpha_is_still_answered_safely(alpha: float) -> None:
    for s in range(1, 12):
        with mp.workdps(50):
            assert upper_tail(s, 12, mp.mpf(clopper_pearson_lower(s, 12, alpha))) <= mp.mpf(alpha)
            assert lower_tail(s - 1, 12, mp.mpf(clopper_pearson_upper(s - 1, 12, alpha))) <= mp.mpf(alpha)


@pytest.mark.parametrize("trials", [1, 2, 3, 10, 1000, 100_000, 10**9])
@pytest.mark.parametrize("alpha", [0.9999, 0.5, 0.001, 1e-30, 1e-100])
def test_unanimous_votes_have_a_closed_form(trials: int, alpha: float) -> None:
    lower, upper = clopper_pearson_lower(trials, trials, alpha), clopper_pearson_upper(0, trials, alpha)
    with mp.workdps(50):
        root = mp.mpf(alpha) ** (mp.mpf(1) / trials)
        # 2 eps, and 2 eps per unit of the exponent, is the margin; the error that it covers may come on top.
        slack = mp.mpf(2) ** -52 * (4 + 4 * abs(mp.log(mp.mpf(alpha))) / trials)
        assert root * (1 - slack) <= mp.mpf(lower) <= root
        assert 1 - root <= mp.mpf(upper) <= (1 - root) * (1 + mp.mpf(2) ** -52 * 8)


def test_edges() -> None:
    assert clopper_pearson_lower(0, 50, 0.001) == 0.0
    assert clopper_pearson_upper(50, 50, 0.001) == 1.0
    assert clopper_pearson_lower(0, 0, 0.001) == 0.0
    assert clopper_pearson_upper(0, 0, 0.001) == 1.0
    assert isinstance(clopper_pearson_lower(3, 5, 0.1), float)
    assert isinstance(clopper_pearson_upper(3, 5, 0.1), float)
    assert clopper_pearson_lower(np.zeros((0, 2), dtype=int), 5, 0.1).shape == (0, 2)


@pytest.mark.parametrize("bound", [clopper_pearson_lower, clopper_pearson_upper])
def test_arrays_equal_scalars_and_broadcast(bound) -> None:
    s, n = np.array([0, 1, 40, 99, 100])[:, None], np.array([100, 1000, 10**7])
    table = bound(s, n, 0.001)
    assert table.shape == (5, 3)
    for i, j in itertools.product(range(5), range(3)):
        assert table[i, j] == bound(int(s[i, 0]), int(n[j]), 0.001)


def test_monotone_and_mirrored() -> None:
    s = np.arange(0, 1001)
    lower, upper = clopper_pearson_lower(s, 1000, 0.01), clopper_pearson_upper(s, 1000, 0.01)
    assert (np.diff(lower) > 0).all()
    assert (np.diff(upper) > 0).all()
    # Both are within LOOSENESS standard errors, themselves below 0.016, of mirror images.
    np.testing.assert_allclose(upper, 1.0 - lower[::-1], atol=2 * LOOSENESS * 0.016)
    assert (clopper_pearson_lower(s, 1000, 1e-6) <= lower).all()


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("trials", [1, 2, 5, 17, 60, 400])
def test_exact_coverage(trials: int, alpha: float) -> None:
    """Summed over all outcomes, at the least favourable p (just beyond each bound) and between."""
    s = np.arange(trials + 1)
    lower, upper = clopper_pearson_lower(s, trials, alpha), clopper_pearson_upper(s, trials, alpha)
    edges = np.concatenate([np.nextafter(lower, 0), np.nextafter(upper, 1), np.linspace(0, 1, 301)])
    for p in np.clip(edges, 0, 1):
        weights = stats.binom.pmf(s, trials, p)
        # 1e-12 of alpha: rounding of the pmf and of its sum; the bounds' own margin, 1e-9, is not needed for it.
        assert weights[lower > p].sum() <= alpha * (1 + 1e-12)
        assert weights[upper < p].sum() <= alpha * (1 + 1e-12)
    just_below = np.nextafter(lower[-1], 0)
    assert stats.binom.pmf(s, trials, just_below)[lower > just_below].sum() > alpha * (1 - 1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-6])
@pytest.mark.parametrize("required", [0.01, 0.5, 0.84, 0.99, 0.9955, 0.999999])
def test_least_trials(required: float, alpha: float) -> None:
    n = least_trials(required, alpha)
    assert clopper_pearson_lower(n, n, alpha) > required
    assert n == 1 or clopper_pearson_lower(n - 1, n - 1, alpha) <= required
    with mp.workdps(30):
        ratio = mp.log(mp.mpf(alpha)) / mp.log(mp.mpf(required))
        assert n == mp.floor(ratio) + 1  # none of these ratios lies within 1e-6 of an integer


def test_least_trials_at_the_ends() -> None:
    assert least_trials(0.0, 0.001) == 1
    assert least_trials(-3.0, 0.001) == 1
    # alpha**(1/n) equals the requirement exactly at n = 3, and must lie strictly above it.
    assert least_trials(0.5, 0.125) == 4
    n = least_trials(1 - 1e-8, 0.001)
    assert clopper_pearson_lower(n, n, 0.001) > 1 - 1e-8
    with pytest.raises(ParameterError, match="draws would be needed"):
        least_trials(1 - 1e-12, 0.001)


def test_multiclass_parts_against_statsmodels() -> None:
    votes = np.array([[700, 200, 60, 40], [10, 20, 950, 20]])
    p_a, p_b = multiclass_bounds(votes, [0, 2], 0.01)
    expected_a = [proportion_confint(k, 1000, alpha=0.01, method="beta")[0] for k in (700, 950)]
    expected_b = [proportion_confint(k, 1000, alpha=2 * 0.01 / 6, method="beta")[1] for k in (200, 20)]
    # As in test_statsmodels; the second 1 - p_A does not bind.
    np.testing.assert_allclose(p_a, expected_a, rtol=1e-8)
    np.testing.assert_allclose(p_b, np.minimum(expected_b, 1 - np.array(expected_a)), rtol=1e-8)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(votes=st.lists(st.integers(0, 5000), min_size=2, max_size=6), alpha=st.floats(1e-6, 0.5), data=st.data())
def test_multiclass_rivals_never_exceed_the_rest(votes: list[int], alpha: float, data: st.DataObject) -> None:
    selected = data.draw(st.integers(0, len(votes) - 1))
    p_a, p_b = multiclass_bounds(votes, selected, alpha)
    rest = 1 - Fraction(float(p_a))
    # rounded up to a float, so at most one spacing (2**-53 below 1) above the exact complement
    assert Fraction(float(p_b)) <= rest + Fraction(1, 2**53)
    if Fraction(float(p_b)) < rest:
        rival = max(v for c, v in enumerate(votes) if c != selected)
        assert p_b == clopper_pearson_upper(rival, sum(votes), alpha / (2 * (len(votes) - 1)))


def test_multiclass_coverage_by_enumeration() -> None:
    """All outcomes of 14 draws of four classes, every statement at once, class 0 chosen beforehand."""
    n, alpha = 14, 0.1
    outcomes = np.array([k for k in itertools.product(range(n + 1), repeat=4) if sum(k) == n])
    p_a, p_b = multiclass_bounds(outcomes, np.zeros(len(outcomes), dtype=int), alpha)
    worst = 0.0
    for p in np.array(
        [[0.4, 0.3, 0.2, 0.1], [0.25] * 4, [0.9, 0.1, 0, 0], [0.05, 0.6, 0.3, 0.05], [0.5, 0.17, 0.17, 0.16]]
    ):
        fails = (p_a > p[0]) | (p_b < p[1:].max())
        worst = max(worst, stats.multinomial.pmf(outcomes, n, p)[fails].sum())
    assert 0.0 < worst <= alpha


def test_multiclass_edges() -> None:
    p_a, p_b = multiclass_bounds([0, 0, 0], 1, 0.01)
    assert (p_a, p_b) == (0.0, 1.0)
    p_a, p_b = multiclass_bounds([50, 0], 0, 0.01)
    assert p_b == clopper_pearson_upper(0, 50, 0.005)
    assert math.isclose(p_a, 0.005 ** (1 / 50), rel_tol=1e-14)  # closed form, a few eps


@pytest.mark.parametrize(
    ("votes", "selected"), [([5], 0), (5, 0), ([5, 6], 2), ([5, 6], -1), ([5, 6], [0]), ([[5, 6]], [0, 0])], ids=repr
)
def test_multiclass_refusals(votes: object, selected: object) -> None:
    with pytest.raises(ParameterError):
        multiclass_bounds(votes, selected, 0.01)
