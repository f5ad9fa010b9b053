"""The two-sided confidence sequence: the mixture, its ends, its validity at any time, and the plan of looks."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import MAX_TRIALS
from rs_plugin.estimation.sequential import (
    _log_mixture,
    confidence_sequence,
    excludes_below,
    least_trials_anytime,
    log_truncated_mixture,
    wald_limit,
)
from tests.estimation.schedules import geometric

EPS = 2.0**-52

CASES = [
    (0, 0, 0.3),
    (0, 1, 0.3),
    (1, 1, 0.3),
    (3, 7, 0.5),
    (7, 7, 0.999),
    (80, 100, 0.6),
    (100, 100, 0.84),
    (60, 100, 0.84),
    (9_900, 10_000, 0.98),
    (99_000, 100_000, 0.9888),
    (90_123, 100_000, 0.9),
    (9_000_000, 10_000_000, 0.8995),
    (1, 10_000_000, 1e-9),
    (999_000_000, MAX_TRIALS, 0.99899),
]


def exact_log_mixture(s: int, n: int, q: float) -> mp.mpf:
    """Log of ``B(1 + s, 1 + n - s) / (q^s (1 - q)^(n - s))`` in 50 digits."""
    with mp.workdps(50):
        point = mp.mpf(q)
        log_beta = mp.loggamma(1 + s) + mp.loggamma(1 + n - s) - mp.loggamma(2 + n)
        return log_beta - s * mp.log(point) - (n - s) * mp.log1p(-point)


def exact_truncated(s: int, n: int, threshold: Fraction) -> Fraction:
    """The truncated mixture as a fraction: ``1 - I_x(1 + s, 1 + n - s) = P(Binomial(n + 1, x) <= s)``."""
    x = threshold
    tail = sum(math.comb(n + 1, k) * x**k * (1 - x) ** (n + 1 - k) for k in range(s + 1))
    return tail / ((n + 1) * math.comb(n, s) * (1 - x) * x**s * (1 - x) ** (n - s))


def crossing_probability(rejects: np.ndarray, p: float) -> float:
    """Exact probability that a walk of ``len(rejects)`` draws ever meets a pair ``(n, s)`` with ``rejects[n, s]``."""
    alive, crossed = np.array([1.0]), 0.0
    for n in range(1, len(rejects)):
        step = np.zeros(n + 1)
        step[1:] += p * alive
        step[:-1] += (1 - p) * alive
        hit = rejects[n, : n + 1]
        crossed += step[hit].sum()
        alive = np.where(hit, 0.0, step)
    return crossed


def all_counts(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Successes and trials of every state of a walk of ``most`` draws; impossible states repeat ``s = n``."""
    n = np.arange(most + 1)[:, None]
    return np.minimum(np.arange(most + 1)[None, :], n), np.broadcast_to(n, (most + 1, most + 1))


@pytest.mark.parametrize(("s", "n", "q"), CASES)
def test_log_mixture_against_50_digits(s: int, n: int, q: float) -> None:
    value, exact = _log_mixture(s, n, q), exact_log_mixture(s, n, q)
    assert mp.mpf(float(value)) <= exact
    # Twice the margin of 6 eps, times a bound on the sum of the parts' sizes: three log gammas and two products.
    size = n * (3 * math.log(n + 2) - math.log(q) - math.log1p(-q)) + 3
    assert float(exact) - value <= 12 * EPS * size


@pytest.mark.parametrize(("s", "n", "q"), [c for c in CASES if c[1] <= 100])
def test_mixtures_against_brute_force_integration(s: int, n: int, q: float) -> None:
    with mp.workdps(30):
        point = mp.mpf(q)

        def ratio(theta: mp.mpf) -> mp.mpf:
            return (theta / point) ** s * ((1 - theta) / (1 - point)) ** (n - s)

        whole = mp.quad(ratio, mp.linspace(0, 1, 21))
        above = mp.quad(ratio, mp.linspace(point, 1, 21)) / (1 - point)
        # 1e-11: the margins at these n are below 1e-12; the quadrature has more than 20 digits.
        assert abs(float(mp.log(whole)) - _log_mixture(s, n, q)) < 1e-11
        # 3e-9: the tail was granted 1e-9.
        assert 0 <= float(mp.log(above)) - log_truncated_mixture(s, n, q) < 3e-9


@settings(deadline=None, derandomize=True, max_examples=100)
@given(data=st.data(), n=st.integers(0, 60), threshold=st.integers(1, 127))
def test_truncated_mixture_against_exact_fractions(data: st.DataObject, n: int, threshold: int) -> None:
    s = data.draw(st.integers(0, n))
    point = Fraction(threshold, 128)  # exactly a float
    exact = exact_truncated(s, n, point)
    value = log_truncated_mixture(s, n, float(point))
    with mp.workdps(40):
        log_exact = mp.log(mp.mpf(exact.numerator) / exact.denominator)
        assert mp.mpf(float(value)) <= log_exact
        assert log_exact - mp.mpf(float(value)) < 3e-9  # the margin of 1e-9 on the tail


@pytest.mark.parametrize("threshold", [Fraction(1, 4), Fraction(27, 32), Fraction(127, 128)])
def test_one_step_expectation(threshold: Fraction) -> None:
    """Exactly a martingale at ``p = p*``, a supermartingale below; and so is what the library computes."""
    x = float(threshold)
    for n in range(25):
        for s in range(n + 1):
            now = exact_truncated(s, n, threshold)
            up, down = exact_truncated(s + 1, n + 1, threshold), exact_truncated(s, n + 1, threshold)
            assert threshold * up + (1 - threshold) * down == now
            assert up > now > down  # so any p below p* expects less
            computed = np.exp(log_truncated_mixture([s, s + 1, s], [n, n + 1, n + 1], x))
            # 3e-9: the margin of 1e-9 on each of the three
            assert x * computed[1] + (1 - x) * computed[2] == pytest.approx(computed[0], rel=3e-9)
            whole = np.exp(_log_mixture(s + np.array([0, 1, 0]), n + np.array([0, 1, 1]), x))
            # 1e-12: rounding at n = 25, margins of 6 eps times a size below 200
            assert x * whole[1] + (1 - x) * whole[2] == pytest.approx(whole[0], rel=1e-12)


@pytest.mark.parametrize(("s", "n", "threshold"), [(c[0], c[1], c[2]) for c in CASES if c[1] > 100])
def test_truncated_mixture_for_many_trials(s: int, n: int, threshold: float) -> None:
    """The tail by quadrature of the beta density, in windows of a standard deviation around its bulk."""
    with mp.workdps(40):
        a, b, x = 1 + s, 1 + n - s, mp.mpf(threshold)
        centre = mp.mpf(s) / n
        width = mp.sqrt(centre * (1 - centre) / n) + mp.mpf(1) / n
        log_norm = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)

        def density(theta: mp.mpf) -> mp.mpf:
            return mp.exp(s * mp.log(theta) + (n - s) * mp.log1p(-theta) - log_norm)

        # 20 widths above the bulk nothing above 1e-35 is left.
        ends = [x] + [centre + k * width for k in range(-12, 21) if x < centre + k * width < 1]
        log_tail = mp.log(mp.quad(density, ends))
        exact = exact_log_mixture(s, n, threshold) + log_tail - mp.log1p(-x)
    value = log_truncated_mixture(s, n, threshold)
    assert mp.mpf(float(value)) <= exact
    size = n * (3 * math.log(n + 2) - math.log(threshold) - math.log1p(-threshold)) + 3
    assert float(exact) - value <= 12 * EPS * size + 3e-9


def test_mixtures_at_the_ends() -> None:
    assert _log_mixture(3, 7, 0.0) == np.inf
    assert _log_mixture(3, 7, 1.0) == np.inf
    assert _log_mixture(0, 7, 0.0) == pytest.approx(-math.log(8), rel=1e-14)  # a few eps
    assert _log_mixture(7, 7, 1.0) == pytest.approx(-math.log(8), rel=1e-14)
    assert log_truncated_mixture(3, 7, 0.0) == np.inf
    assert log_truncated_mixture(7, 7, 1.0) == -np.inf
    assert log_truncated_mixture(0, 10**6, 0.5) == -np.inf  # the tail underflows: 0, never NaN
    assert log_truncated_mixture(500_000, 10**6, 0.84) == -np.inf
    assert _log_mixture(0, 0, 0.3) == pytest.approx(0.0, abs=1e-14)


def test_arrays_equal_scalars() -> None:
    s, n = np.array([0, 5, 99, 990])[:, None], np.array([1000, 100_000])
    points = np.array([0.0, 0.3, 0.9, 1.0])
    grid = _log_mixture(s[..., None], n[:, None], points)
    truncated = log_truncated_mixture(s[..., None], n[:, None], points)
    lower, upper = confidence_sequence(s, n, 0.001)
    below = excludes_below(s[..., None], n[:, None], points, 0.001)
    assert grid.shape == (4, 2, 4)
    for i, j in np.ndindex(4, 2):
        one = int(s[i, 0]), int(n[j])
        assert (lower[i, j], upper[i, j]) == confidence_sequence(*one, 0.001)
        for k, point in enumerate(points):
            assert grid[i, j, k] == _log_mixture(*one, point)
            assert truncated[i, j, k] == log_truncated_mixture(*one, point)
            assert below[i, j, k] == excludes_below(*one, point, 0.001)


@pytest.mark.parametrize("alpha", [0.4, 0.001, 1e-12])
@pytest.mark.parametrize(("s", "n"), [(c[0], c[1]) for c in CASES if c[1]] + [(0, 50), (50, 50), (1, 50), (49, 50)])
def test_ends_are_outside_and_close(s: int, n: int, alpha: float) -> None:
    lower, upper = (float(end) for end in confidence_sequence(s, n, alpha))
    with mp.workdps(50):
        evidence = -mp.log(mp.mpf(alpha))
        assert lower == 0.0 if s == 0 else exact_log_mixture(s, n, lower) >= evidence
        assert upper == 1.0 if s == n else exact_log_mixture(s, n, upper) >= evidence
        # A margin m on log M moves an end by m over the slope of log M, and log M is convex and at most 0 at s/n, so by
        # less than m times the distance over the evidence. m is 6e-7 at 1e7, 7e-5 at 1e9; 1e-15: the spacing of floats.
        centre = mp.mpf(s) / n
        reach = (12 * EPS * n * 5 * math.log(n + 2) + 1e-12) / evidence
        for end in (lower, upper):
            inside = end + (centre - end) * reach + mp.sign(centre - end) * mp.mpf("1e-15") * end
            if 0 < end < 1:
                assert exact_log_mixture(s, n, float(inside)) < evidence


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    data=st.data(),
    n=st.integers(0, 10**6),
    alpha=st.floats(1e-9, 0.999),
    threshold=st.floats(0, 1),
)
def test_excludes_below_is_the_lower_end_and_never_above_the_frequency(
    data: st.DataObject, n: int, alpha: float, threshold: float
) -> None:
    s = data.draw(st.integers(0, n))
    lower, upper = (float(end) for end in confidence_sequence(s, n, alpha))
    assert lower <= (s / n if n else 0.0) <= upper or n == 0
    if threshold >= s / max(n, 1):
        assert not excludes_below(s, n, threshold, alpha)
    # Ends and test use one computed function, whose rounding, 1e-9 of the evidence at n = 1e6, blurs where it changes.
    assert lower == 0.0 or excludes_below(s, n, lower * (1 - 1e-8), alpha)
    assert not excludes_below(s, n, min(1.0, lower * (1 + 1e-8)), alpha)
    if not math.isclose(threshold, lower, rel_tol=1e-8):
        assert bool(excludes_below(s, n, threshold, alpha)) == (threshold < lower)


def test_frequency_far_below_the_threshold_never_certifies() -> None:
    """The trap: at p = 0.5 against 0.84 the untruncated mixture grows, the tests must not."""
    n = np.arange(100, 100_001, 100)
    s = n // 2
    assert _log_mixture(s, n, 0.84)[-1] > 30_000
    assert not excludes_below(s, n, 0.84, 0.001).any()
    assert (log_truncated_mixture(s, n, 0.84) < 0).all()


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_crossing_probability_is_below_alpha(alpha: float) -> None:
    """Exact, summed over all paths of 300 draws with a look after each; no simulation."""
    s, n = all_counts(300)
    for threshold in (0.5, 0.84, 0.97):
        single = log_truncated_mixture(s, n, threshold) >= math.log(1 / alpha)
        for p in (threshold, threshold - 0.01, 0.5, 0.1):
            assert crossing_probability(single, p) <= alpha
        assert crossing_probability(single, min(1.0, threshold + 0.15)) > 0.2  # it has power
    for p in (0.05, 0.5, 0.84, 0.97):
        assert crossing_probability(excludes_below(s, n, p, alpha), p) <= alpha
    lower, upper = confidence_sequence(*all_counts(150), alpha)
    for p in (0.05, 0.5, 0.84, 0.97):
        assert 0 < crossing_probability((lower > p) | (upper < p), p) <= alpha


@pytest.mark.parametrize(("p", "thresholds"), [(0.84, (0.6, 0.84, 0.9)), (0.5, (0.84, 0.9)), (0.99, (0.99, 0.995))])
def test_optional_stopping_simulated(p: float, thresholds: tuple[float, ...]) -> None:
    """3000 images, growing looks up to 100 000 draws, each stops as soon as a wrong threshold is excluded."""
    alpha, images = 0.05, 3000
    rng = np.random.default_rng(20240607)
    wrong = np.array([t for t in thresholds if t >= p])
    totals = geometric(100, 100_000)
    s = np.zeros(images, dtype=np.int64)
    failed, missed = np.zeros(images, dtype=bool), np.zeros(images, dtype=bool)
    for draws, n in zip(np.diff(totals, prepend=0), totals, strict=True):
        s += rng.binomial(draws, p, images)
        failed |= excludes_below(s[:, None], n, wrong, alpha).any(axis=1)
        lower, upper = confidence_sequence(s, n, alpha)
        missed |= (lower > p) | (upper < p)
    # A correct sequence exceeds this count with probability below 1e-6 (binomial tail at the nominal alpha).
    most = stats.binom.isf(1e-6, images, alpha)
    assert failed.sum() <= most
    assert missed.sum() <= most
    if p < wrong.min():
        assert not failed.any()  # for p = 0.5 against 0.84 a single one would be a broken test


@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-6])
@pytest.mark.parametrize("required", [0.01, 0.5, 0.84, 0.99, 0.9955])
def test_least_trials_anytime(required: float, alpha: float) -> None:
    n = least_trials_anytime(required, alpha)
    exact, level = Fraction(required), Fraction(alpha)
    assert (n + 1) * exact**n <= level
    assert n * exact ** (n - 1) > level
    assert n >= wald_limit(1.0, required, alpha)


def test_least_trials_anytime_at_the_ends() -> None:
    assert least_trials_anytime(0.0, 0.001) == least_trials_anytime(-1.0, 0.001) == 1
    with pytest.raises(ParameterError, match="draws would be needed"):
        least_trials_anytime(1 - 1e-12, 0.001)


def test_wald_limit() -> None:
    p, threshold = np.array([0.9, 0.8401, 1.0, 0.5]), np.array([0.84, 0.84, 0.84, 0.25])
    with mp.workdps(30):
        for value, a, b in zip(wald_limit(p, threshold, 0.001), p, threshold, strict=True):
            a, b = mp.mpf(float(a)), mp.mpf(float(b))
            divergence = a * mp.log(a / b) + ((1 - a) * mp.log((1 - a) / (1 - b)) if a < 1 else 0)
            # 1e-10: at p - p* = 1e-4 first-order terms of size 1e-4 cancel to 4e-8, from 16 digits to 12
            assert value == pytest.approx(float(-mp.log(mp.mpf(0.001)) / divergence), rel=1e-10)
    np.testing.assert_array_equal(wald_limit([0.5, 0.84, 0.0, 1.0], [0.84, 0.84, 0.0, 1.0], 0.001), np.inf)
    assert wald_limit(0.5, 0.0, 0.001) == 0.0


def test_no_test_beats_wald() -> None:
    """Exact expected stopping times over all paths; stopping at the cap only makes them shorter."""
    alpha, p, threshold, cap = 0.01, 0.95, 0.75, 600
    rejects = excludes_below(*all_counts(cap), threshold, alpha)
    alive, expected = np.array([1.0]), 0.0
    for n in range(1, cap + 1):
        expected += alive.sum()
        step = np.zeros(n + 1)
        step[1:] += p * alive
        step[:-1] += (1 - p) * alive
        alive = np.where(rejects[n, : n + 1], 0.0, step)
    assert alive.sum() < 1e-6  # the cap does not matter
    assert wald_limit(p, threshold, alpha) < expected < 3 * wald_limit(p, threshold, alpha)
