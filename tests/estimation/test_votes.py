"""Votes to bounds: the class on its own draws, directions that do not mix, coverage of the two stages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.intervals import clopper_pearson_lower
from rs_plugin.estimation.one_sided import lower_sequence
from rs_plugin.estimation.sequential import look_schedule
from rs_plugin.estimation.votes import VoteBound, bound_anytime, bound_fixed, select_class


def test_select_class() -> None:
    assert select_class([3, 9, 1]) == 1
    np.testing.assert_array_equal(select_class([[5, 5, 0], [0, 4, 4], [1, 2, 3]]), [0, 1, 2])


@pytest.mark.parametrize("votes", [[0, 0], [[1, 2], [0, 0]], 5, [5], [1.5, 2], [-1, 2]], ids=repr)
def test_select_class_refusals(votes: object) -> None:
    with pytest.raises(ParameterError):
        select_class(votes)


def test_bounds_use_the_other_draws() -> None:
    selection, votes = [[60, 40], [10, 90]], [[880, 120], [700, 300]]
    for bound, function in ((bound_fixed, clopper_pearson_lower), (bound_anytime, lower_sequence)):
        selected, result = bound(selection, votes, 0.001)
        np.testing.assert_array_equal(selected, [0, 1])  # the second class has fewer votes; it stays selected
        np.testing.assert_array_equal(result.value, function([880, 300], 1000, 0.001))
        assert (result.direction, result.failure_probability) == ("lower", 0.001)
    assert bound_fixed(selection[0], votes[0], 0.01)[1].value == clopper_pearson_lower(880, 1000, 0.01)


@pytest.mark.parametrize("bound", [bound_fixed, bound_anytime])
def test_selection_draws_are_not_reused(bound) -> None:
    votes = np.array([[60, 40]])
    listed = [[60, 40]]
    for second in (votes, votes[:1], votes.view()):
        with pytest.raises(ParameterError, match="did not choose"):
            bound(votes, second, 0.001)
    with pytest.raises(ParameterError, match="did not choose"):
        bound(listed, listed, 0.001)
    stages = np.array([[[6, 4], [60, 40]]])  # two stages side by side in one array are two sets of draws
    bound(stages[:, 0], stages[:, 1], 0.001)


@pytest.mark.parametrize("votes", [[[1, 2, 3]], [1, 2], [[1, 2], [3, 4]]], ids=repr)
def test_shapes_must_agree(votes: object) -> None:
    with pytest.raises(ParameterError):
        bound_fixed([[5, 6]], votes, 0.001)


def test_two_stage_coverage_is_exact() -> None:
    """Two classes at p = 0.5 are selected at random; reused draws would fail here, fresh ones keep alpha."""
    n0, n, alpha = 10, 30, 0.05
    k0, k = np.meshgrid(np.arange(n0 + 1), np.arange(n + 1), indexing="ij")
    for p in (0.5, 0.55, 0.8):
        selected, bound = bound_fixed(np.stack([k0, n0 - k0], axis=-1), np.stack([k, n - k], axis=-1), alpha)
        truth = np.where(selected == 0, p, 1 - p)
        weights = stats.binom.pmf(k0, n0, p) * stats.binom.pmf(k, n, p)
        # 1e-12: rounding of the sum
        assert 0 < weights[bound.value > truth].sum() <= alpha * (1 + 1e-12)


def test_anytime_bound_survives_stopping_at_its_best() -> None:
    """Each image keeps the best bound it ever saw; Clopper-Pearson treated so fails far more often than alpha."""
    rng = np.random.default_rng(7)
    images, p, alpha = 1000, 0.7, 0.05
    totals = np.array(look_schedule(50, 20_000))
    s, best, naive = np.zeros(images, dtype=np.int64), np.zeros(images), np.zeros(images)
    for draws, n in zip(np.diff(totals, prepend=0), totals, strict=True):
        s += rng.binomial(draws, p, images)
        votes = np.stack([s, n - s], axis=-1)
        best = np.maximum(best, bound_anytime(np.ones((images, 2)) * [1, 0], votes, alpha)[1].value)
        naive = np.maximum(naive, clopper_pearson_lower(s, n, alpha))
    # Valid bounds exceed the first count with probability 1e-6; the naive ones are to show what is being avoided.
    assert (best > p).sum() <= stats.binom.isf(1e-6, images, alpha)
    assert (naive > p).sum() > 2 * alpha * images


def test_tighten() -> None:
    low = VoteBound(np.array([0.5, 0.7]), "lower", 0.01, "a")
    other = VoteBound(np.array([0.6, 0.6]), "lower", 0.02, "b")
    both = low.tighten(other)
    np.testing.assert_array_equal(both.value, [0.6, 0.7])
    assert both.failure_probability == pytest.approx(0.03, rel=1e-15)  # one addition
    assert (both.direction, both.method) == ("lower", "a and b")
    up = VoteBound(np.array([0.9, 0.8]), "upper", 0.01, "c").tighten(
        VoteBound(np.array([0.8, 0.9]), "upper", 0.01, "d")
    )
    np.testing.assert_array_equal(up.value, [0.8, 0.8])
    with pytest.raises(ParameterError, match="do not combine"):
        low.tighten(up)
    with pytest.raises(ParameterError, match="same images"):
        low.tighten(VoteBound(np.array([0.5]), "lower", 0.01, "e"))
    with pytest.raises(ParameterError, match="failure_probability"):
        VoteBound(np.array(0.5), "lower", 0.6, "f").tighten(VoteBound(np.array(0.5), "lower", 0.6, "g"))


def test_a_bound_cannot_be_changed_afterwards() -> None:
    source = np.array([0.5, 0.7])
    bound = VoteBound(source, "lower", 0.01, "a")
    source[0] = 0.99
    assert bound.value[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        bound.value[0] = 0.99
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.direction = "upper"  # type: ignore[misc]


@pytest.mark.parametrize(
    "arguments",
    [
        (np.array([1.1]), "lower", 0.01, "a"),
        (np.array([np.nan]), "lower", 0.01, "a"),
        (np.array([0.5]), "sideways", 0.01, "a"),
        (np.array([0.5]), "lower", 0.0, "a"),
        (np.array([0.5]), "lower", 1.0, "a"),
    ],
    ids=repr,
)
def test_bound_refusals(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ParameterError):
        VoteBound(*arguments)
