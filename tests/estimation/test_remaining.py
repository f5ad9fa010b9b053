"""Draws left in a run, against another package's survival function and against runs that were played to the end."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from rs_plugin.errors import ParameterError
from rs_plugin.estimation import draws_left


def by_summing(ended, ages, waiting, cap, fearful):
    """Return an end of the range, draw by draw, with the survival function of statsmodels."""
    lives = np.concatenate([ended, [age for age in ages if age]])
    known = SurvfuncRight(lives, np.arange(len(lives)) < len(ended))

    def share(t):
        at = np.searchsorted(known.surv_times, t, side="right")
        value = 1.0 if at == 0 else known.surv_prob[at - 1]
        if fearful:
            return max(value, 1.0 / (len(ended) + 1)) if t >= min(lives) else 1.0
        return value if t < max(lives) else 0.0

    table = np.array([share(t) for t in range(cap)])
    mean, variance, spread = 0.0, 0.0, 0.0
    for age in [*ages, *[0] * waiting]:
        if share(age):
            rest = table[age:] / share(age)
            first, second = rest.sum(), (rest * (2 * np.arange(len(rest)) + 1)).sum()
            deviation = np.sqrt(max(second - first**2, 0.0))
            mean, variance, spread = mean + first, variance + deviation**2, spread + deviation
    deviation = 1.28 * np.sqrt(variance + spread**2 / len(ended))
    if fearful:
        return min(mean + deviation, sum(cap - age for age in ages) + waiting * cap)
    return max(0.0, mean - deviation)


@pytest.mark.parametrize("seed", range(8))
def test_both_ends_are_integrals_of_the_survival_function(seed):
    generator = np.random.default_rng(seed)
    ended = generator.integers(1, 200, generator.integers(1, 30))
    ages = generator.integers(0, 200, generator.integers(0, 10))
    low, high = draws_left(ended, ages, 7, 250)
    assert low == pytest.approx(by_summing(ended, ages, 7, 250, False), abs=1e-6)  # a difference of squares
    assert high == pytest.approx(by_summing(ended, ages, 7, 250, True), abs=1e-6)
    assert low <= high


def test_a_run_of_equal_images_is_known():
    assert draws_left([100] * 5, [0, 0], 3, 100) == (500.0, 500.0)


def test_nothing_is_known_at_the_start():
    assert draws_left([], [0, 40], 3, 100) == (0.0, 460.0)


def test_nothing_is_left_at_the_end():
    assert draws_left([3, 50, 100], [], 0, 100) == (0.0, 0.0)


def played(seed, images=200, cap=10_000, side_by_side=8, at=0.3):
    """Play a run of very unequal images, some at a time; return the truth and the estimate at a share of the way."""
    generator = np.random.default_rng(seed)
    lives = np.minimum(np.ceil(np.exp(generator.normal(5.0, 2.0, images))).astype(int), cap)
    ages = np.zeros(images, int)
    begun = side_by_side
    while ages.sum() < at * lives.sum():
        for i in range(begun):
            if ages[i] < lives[i]:
                ages[i] = min(ages[i] + 64, lives[i])
                if ages[i] == lives[i] and begun < images:
                    begun += 1
    over = ages == lives
    waiting = images - begun
    open_ = [ages[i] for i in range(begun) if not over[i]]
    return lives.sum() - ages.sum(), draws_left(lives[over], open_, waiting, cap)


@pytest.mark.parametrize("at", [0.1, 0.3, 0.6, 0.9])
def test_the_truth_lies_within_most_of_the_time(at):
    """Of 60 runs 48 are expected, and fewer than 39 with probability 0.003."""
    found = [played(seed, at=at) for seed in range(60)]
    assert sum(low <= truth <= high for truth, (low, high) in found) >= 39
    assert np.median([high / truth for truth, (_, high) in found]) < 4.0


@pytest.mark.parametrize(
    ("ended", "ages", "cap"), [([0], [], 5), ([6], [], 5), ([1], [6], 5), ([1.5], [], 5), ([-1], [], 5)]
)
def test_lives_outside_the_cap_are_refused(ended, ages, cap):
    with pytest.raises(ParameterError):
        draws_left(ended, ages, 0, cap)
