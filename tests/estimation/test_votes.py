"""Votes to bounds: the class on its own draws, what a bound says of itself, coverage of the two stages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.intervals import clopper_pearson_lower
from rs_plugin.estimation.votes import VoteBound, bound_fixed, select_class


def test_select_class() -> None:
    assert select_class([3, 9, 1]) == 1
    np.testing.assert_array_equal(select_class([[5, 5, 0], [0, 4, 4], [1, 2, 3]]), [0, 1, 2])


@pytest.mark.parametrize("votes", [[0, 0], [[1, 2], [0, 0]], 5, [5], [1.5, 2], [-1, 2]], ids=repr)
def test_select_class_refusals(votes: object) -> None:
    with pytest.raises(ParameterError):
        select_class(votes)


def test_bounds_use_the_other_draws() -> None:
    selection, votes = [[60, 40], [10, 90]], [[880, 120], [700, 300]]
    selected, result = bound_fixed(selection, votes, 0.001)
    np.testing.assert_array_equal(selected, [0, 1])  # the second class has fewer votes; it stays selected
    np.testing.assert_array_equal(result.value, clopper_pearson_lower([880, 300], 1000, 0.001))
    assert (result.direction, result.failure_probability) == ("lower", 0.001)
    assert bound_fixed(selection[0], votes[0], 0.01)[1].value == clopper_pearson_lower(880, 1000, 0.01)


def test_selection_draws_are_not_reused() -> None:
    votes = np.array([[60, 40]])
    listed = [[60, 40]]
    for second in (votes, votes[:1], votes.view()):
        with pytest.raises(ParameterError, match="did not choose"):
            bound_fixed(votes, second, 0.001)
    with pytest.raises(ParameterError, match="did not choose"):
        bound_fixed(listed, listed, 0.001)
    stages = np.array([[[6, 4], [60, 40]]])  # two stages side by side in one array are two sets of draws
    bound_fixed(stages[:, 0], stages[:, 1], 0.001)


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
