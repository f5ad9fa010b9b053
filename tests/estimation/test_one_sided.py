"""The lower confidence sequence: monotone, valid at any time for all thresholds, tighter than the two-sided one."""

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

from rs_plugin.estimation.intervals import clopper_pearson_lower
from rs_plugin.estimation.one_sided import exceeds, lower_sequence
from rs_plugin.estimation.sequential import (
    confidence_sequence,
    excludes_below,
    least_trials_anytime,
    log_truncated_mixture,
)
from tests.estimation.schedules import geometric


def exact_truncated(s: int, n: int, x: Fraction) -> Fraction:
    """The truncated mixture: ``1 - I_x(1 + s, 1 + n - s) = P(Binomial(n + 1, x) <= s)``, over its norm."""
    tail = sum(math.comb(n + 1, k) * x**k * (1 - x) ** (n + 1 - k) for k in range(s + 1))
    return tail / ((n + 1) * math.comb(n, s) * (1 - x) * x**s * (1 - x) ** (n - s))


@pytest.mark.parametrize(("s", "n"), [(0, 0), (0, 5), (1, 1), (3, 8), (8, 8), (27, 40), (39, 40)])
def test_evidence_falls_in_the_threshold(s: int, n: int) -> None:
    """The claim behind "all thresholds share one alpha", in exact fractions."""
    values = [exact_truncated(s, n, Fraction(k, 200)) for k in range(1, 200)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert all(value <= 1 for k, value in enumerate(values, start=1) if Fraction(k, 200) >= Fraction(s, max(n, 1)))


@pytest.mark.parametrize("alpha", [0.4, 0.001, 1e-12])
@pytest.mark.parametrize(("s", "n"), [(1, 1), (1, 50), (30, 50), (50, 50), (190, 200)])
def test_bound_is_outside_and_close(s: int, n: int, alpha: float) -> None:
    lower = float(lower_sequence(s, n, alpha))
    evidence = 1 / Fraction(alpha)
    assert exact_truncated(s, n, Fraction(lower)) >= evidence
    # The margin of 1e-9 on the log of the evidence moves the bound by less than 1e-9 of its distance from s/n.
    inside = Fraction(lower) + (Fraction(s, n) - Fraction(lower)) / 10**8
    assert exact_truncated(s, n, inside) < evidence


@pytest.mark.parametrize(("s", "n"), [(99_000, 100_000), (9_000_000, 10_000_000), (100_000, 100_000)])
def test_bound_for_many_trials(s: int, n: int) -> None:
    lower = float(lower_sequence(s, n, 0.001))
    with mp.workdps(50):
        x = mp.mpf(lower)
        log_beta = mp.loggamma(1 + s) + mp.loggamma(1 + n - s) - mp.loggamma(2 + n)
        value = log_beta - s * mp.log(x) - (n - s) * mp.log1p(-x) - mp.log1p(-x)
    log_tail = math.log(stats.beta.sf(lower, 1 + s, 1 + n - s))
    # The tail is within 1e-3 of 1, so scipy gives its log to 1e-12; the margin at n = 1e7 is 5e-7.
    assert 0.0 <= float(value - mp.log(1000)) + log_tail < 1e-6


@settings(deadline=None, derandomize=True, max_examples=300)
@given(data=st.data(), n=st.integers(1, 10**6), alpha=st.floats(1e-9, 0.5), threshold=st.floats(0, 1))
def test_bound_and_test_agree_and_beat_the_two_sided_one(
    data: st.DataObject, n: int, alpha: float, threshold: float
) -> None:
    s = data.draw(st.integers(0, n))
    lower = float(lower_sequence(s, n, alpha))
    assert lower == 0.0 if s == 0 else 0.0 < lower < s / n
    if threshold >= s / n:
        assert not exceeds(s, n, threshold, alpha)
    if not math.isclose(threshold, lower, rel_tol=1e-9):  # the computed evidence wavers by 1e-10 of itself there
        assert bool(exceeds(s, n, threshold, alpha)) == (threshold < lower)
    # 1e-8: the margin of 1e-9 on the tail, which the two-sided sequence does without
    assert lower >= confidence_sequence(s, n, alpha)[0] * (1 - 1e-8)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_crossing_probability_is_below_alpha(alpha: float) -> None:
    """Exact, summed over all paths of 120 draws, all thresholds at or above p at once by way of the lower end."""
    most = 120
    n = np.broadcast_to(np.arange(most + 1)[:, None], (most + 1, most + 1))
    s = np.minimum(np.arange(most + 1)[None, :], n)
    lower = lower_sequence(s, n, alpha)
    for p in (0.05, 0.5, 0.84, 0.97):
        alive, crossed = np.array([1.0]), 0.0
        for draws in range(1, most + 1):
            step = np.zeros(draws + 1)
            step[1:] += p * alive
            step[:-1] += (1 - p) * alive
            hit = lower[draws, : draws + 1] > p
            crossed += step[hit].sum()
            alive = np.where(hit, 0.0, step)
        assert crossed <= alpha
        # Not slack by orders of magnitude, where so few draws can reach 1/alpha at all: 0.97**120 is 0.026.
        assert crossed > alpha / 20 or p == 0.97


def test_optional_stopping_simulated() -> None:
    """3000 images, growing looks up to 100 000 draws, p far below, at, and above thresholds."""
    alpha, images = 0.05, 3000
    rng = np.random.default_rng(20240608)
    totals = geometric(100, 100_000)
    for p in (0.5, 0.84, 0.99):
        s, failed = np.zeros(images, dtype=np.int64), np.zeros(images, dtype=bool)
        wrong = np.array([t for t in (0.84, 0.9, 0.99) if t >= p])
        for draws, n in zip(np.diff(totals, prepend=0), totals, strict=True):
            s += rng.binomial(draws, p, images)
            failed |= exceeds(s[:, None], n, wrong, alpha).any(axis=1)
        # A correct sequence exceeds this count with probability below 1e-6 (binomial tail at the nominal alpha).
        assert failed.sum() <= stats.binom.isf(1e-6, images, alpha)
        if p < wrong.min():
            assert not failed.any()


def test_fewest_draws() -> None:
    """With unanimous votes the evidence is ``(1 - q^(n+1)) / ((n + 1)(1 - q) q^n)``."""
    for required, alpha in [(0.5, 0.001), (0.84, 0.001), (0.99, 0.001), (0.9955, 1e-6)]:
        n = least_trials_anytime(required, alpha, test=exceeds)
        q, level = Fraction(required), Fraction(alpha)
        evidence = [(1 - q ** (m + 1)) / ((m + 1) * (1 - q) * q**m) for m in (n - 1, n)]
        assert evidence[0] < 1 / level <= evidence[1]
        assert n < least_trials_anytime(required, alpha, test=excludes_below)


def test_shapes() -> None:
    assert lower_sequence([5, 6], 10, 0.1).shape == (2,)
    assert float(lower_sequence(5, 10, 0.1)) == lower_sequence([5, 6], 10, 0.1)[0]
    assert lower_sequence(0, 0, 0.1) == 0.0
    assert exceeds(np.array([[90], [99]]), 100, [0.5, 0.9, 0.95], 0.01).tolist() == [
        [True, False, False],
        [True, True, False],
    ]
    assert log_truncated_mixture(99, 100, 0.9) > math.log(100)


def test_anytime_bound_survives_stopping_at_its_best() -> None:
    """Each image keeps the best bound it ever saw; Clopper-Pearson treated so fails far more often than alpha."""
    rng = np.random.default_rng(7)
    images, p, alpha = 1000, 0.7, 0.05
    totals = geometric(50, 20_000)
    s, best, naive = np.zeros(images, dtype=np.int64), np.zeros(images), np.zeros(images)
    for draws, n in zip(np.diff(totals, prepend=0), totals, strict=True):
        s += rng.binomial(draws, p, images)
        best = np.maximum(best, lower_sequence(s, n, alpha))
        naive = np.maximum(naive, clopper_pearson_lower(s, n, alpha))
    # Valid bounds exceed the first count with probability 1e-6; the naive ones are to show what is being avoided.
    assert (best > p).sum() <= stats.binom.isf(1e-6, images, alpha)
    assert (naive > p).sum() > 2 * alpha * images
