"""When a sequential test stops and looks: what it may not get wrong, and what its guesses cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rs_plugin.errors import ParameterError
from rs_plugin.estimation import StoppingRule, exceeds, least_trials_anytime, wald_limit

ALPHA = 0.001


def followed(rule: StoppingRule, p: float, paths: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return successes and draws of many paths at their end."""
    s, n, going = np.zeros(paths, np.int64), np.zeros(paths, np.int64), np.arange(paths)
    while len(going):
        total = rule.next_look(s[going], n[going])
        more = total > n[going]
        going, total = going[more], total[more]
        s[going] += rng.binomial(total - n[going], p)
        n[going] = total
    return s, n


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    n=st.integers(0, 3000),
    share=st.floats(0, 1),
    points=st.lists(st.floats(0.3, 0.9999), min_size=1, max_size=3),
    block=st.integers(1, 100),
)
def test_looks_move_on_in_blocks_and_stop_where_all_is_decided(
    n: int, share: float, points: list[float], block: int
) -> None:
    limit = 4000
    n, s = n // block * block, round(share * (n // block * block))
    rule = StoppingRule(points, [limit] * len(points), ALPHA, block)
    total = int(rule.next_look(s, n))
    assert n <= total <= limit and (total % block == 0 or total == limit)
    shown = exceeds(s, n, points, ALPHA)
    if n == 0 or (s == n and not shown.all() and bool(exceeds(limit, limit, np.array(points)[~shown], ALPHA).any())):
        assert total > n  # something is open while all draws fall one way
    if n and shown.all():
        assert total == n
    if total > n:
        assert total - n <= max(n, block) + block
    more = rule.next_look([s, s], [n, n])
    assert more.tolist() == [total, total]


@pytest.mark.parametrize("alpha", [1e-99, 0.5, 0.999, 1 - 1e-12])
def test_no_count_is_beyond_it(alpha: float) -> None:
    """Warnings are errors here: of infinite limits at p = p*, and of logarithms of a level near 1."""
    rule = StoppingRule([0.0, 0.5, 0.9, 1.0 - 1e-12, 1.0], [2000] * 5, alpha, 1)
    n = np.repeat(np.arange(200), 200)
    s = np.minimum(np.tile(np.arange(200), 200), n)
    total = rule.next_look(s, n)
    assert ((n <= total) & (total <= 2000)).all()


def test_limits_are_kept_each_by_its_threshold() -> None:
    rule = StoppingRule([0.5, 0.9], [320, 10_000], ALPHA, 64)
    assert int(rule.next_look(165, 320)) == 320  # 0.9 is out of reach, 0.5 had its draws
    assert int(rule.next_look(158, 256)) == 320
    near = int(rule.next_look(290, 320))
    assert 320 < near <= 640
    assert exceeds(940, 960, 0.9, ALPHA)
    assert int(StoppingRule([0.9], [1000], ALPHA, 64).next_look(940, 960)) == 960
    assert int(StoppingRule([0.9], [30], ALPHA, 64).next_look(0, 0)) == 30


@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.999, 0.99999])
def test_unanimous_draws_go_on_until_they_show_it(threshold: float) -> None:
    """Nothing is given up that the remaining draws could still show, at whatever threshold near 1."""
    least = least_trials_anytime(threshold, ALPHA, test=exceeds)
    block = 64
    for blocks in (-(-least // block), -(-10 * least // block)):
        rule, n = StoppingRule([threshold], [block * blocks], ALPHA, block), 0
        while (total := int(rule.next_look(n, n))) > n:
            n = total
        assert least <= n < least + block  # looks come block by block near a decision
    short = StoppingRule([threshold], [least - 1], ALPHA, block)
    assert int(short.next_look(0, 0)) == min(block, least - 1)  # one look, and then it is known to be in vain
    n = min(block, least - 1)
    assert int(short.next_look(n, n)) == n


@pytest.mark.parametrize(("p", "threshold"), [(0.84, 0.84), (0.6, 0.6), (0.5, 0.5), (0.98, 0.98)])
def test_false_certificates_are_as_rare_as_promised(p: float, threshold: float) -> None:
    """At the threshold itself, 20 000 paths at alpha = 0.05, threshold of the count from the binomial tail at 1e-6."""
    alpha, paths = 0.05, 20_000
    rule = StoppingRule([threshold], [5000], alpha, 64)
    s, n = followed(rule, p, paths, np.random.default_rng(11))
    wrong = int(exceeds(s, n, threshold, alpha).sum())
    assert wrong <= stats.binom.ppf(1 - 1e-6, paths, alpha)


@pytest.mark.parametrize(("threshold", "most"), [(0.6, 0.025), (0.8413, 0.025), (0.9772, 0.025), (0.999, 0.08)])
def test_giving_up_costs_little(threshold: float, most: float) -> None:
    """The share of paths that are given up though the cap would show them, wherever ``p`` lies.

    Each look gives up with a probability of 0.01 at most and there are some ten, but most of what is given up would
    not have been shown. Near 1 a handful of failures decides, and more is lost. The tolerance is five standard
    deviations of the count.
    """
    limit, paths, rng = 20_000, 10_000, np.random.default_rng(5)
    gap = math.sqrt(threshold * (1 - threshold) / limit)
    for p in threshold + gap * np.array([3.0, 3.7, 4.5, 5.2, 6.0, 9.0]):
        if p >= 1:
            continue
        s, n = followed(StoppingRule([threshold], [limit], ALPHA, 64), p, paths, rng)
        whole = exceeds(s + rng.binomial(limit - n, p), limit, threshold, ALPHA)  # the same paths, to their end
        lost = int((whole & ~exceeds(s, n, threshold, ALPHA)).sum())
        assert whole.any() and lost <= paths * most + 5 * math.sqrt(paths * most), (p, lost)


@pytest.mark.parametrize("threshold", [0.8413, 0.9772])
def test_hopeless_thresholds_cost_little(threshold: float) -> None:
    """Ten standard deviations of the last count below the threshold: a tenth of the draws at most is spent."""
    limit = 100_000
    p = threshold - 10 * math.sqrt(threshold * (1 - threshold) / limit)
    _, n = followed(StoppingRule([threshold], [limit], ALPHA, 64), p, 500, np.random.default_rng(6))
    assert n.mean() < limit / 10


@pytest.mark.parametrize(("p", "threshold"), [(0.9, 0.8413), (0.95, 0.9), (0.99, 0.9772), (0.69, 0.6), (0.999, 0.99)])
def test_draws_are_within_twice_what_any_test_needs(p: float, threshold: float) -> None:
    """The median of 2 000 paths against Wald's limit, where that is several blocks."""
    limit = float(wald_limit(p, threshold, ALPHA))
    assert limit > 5 * 64
    _, n = followed(StoppingRule([threshold], [100_000], ALPHA, 64), p, 2000, np.random.default_rng(7))
    assert np.median(n) < 2 * limit
    assert n.mean() < 2 * limit


@pytest.mark.parametrize(
    ("thresholds", "limits", "alpha", "block"),
    [
        ([1.5], [10], 0.1, 1),
        ([0.5], [0], 0.1, 1),
        ([0.5], [10, 20], 0.1, 1),
        ([0.5], [10], 0.0, 1),
        ([0.5], [10], 0.1, 0),
        ([0.5], [10.7], 0.1, 1),
        ([0.5], [math.nan], 0.1, 1),
        ([0.5], [True], 0.1, 1),
        ([0.5], ["x"], 0.1, 1),
        ([0.5], None, 0.1, 1),
    ],
)
def test_refusals(thresholds: list[float], limits: Any, alpha: float, block: int) -> None:
    with pytest.raises(ParameterError):
        StoppingRule(thresholds, limits, alpha, block)
