"""The root finders return the safe end of their bracket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import MAX_TRIALS
from rs_plugin.estimation.search import bisect_outward, first_true, least_count


@settings(deadline=None, derandomize=True, max_examples=200)
@given(root=st.floats(1e-17, 1.0, exclude_max=True))
def test_lower_and_upper_ends_are_neighbours_of_the_root(root: float) -> None:
    at = np.array([root])
    lower = bisect_outward(lambda q: q <= at, np.ones(1), np.zeros(1))
    upper = bisect_outward(lambda q: q >= at, np.zeros(1), np.ones(1))
    # The root is itself a float and is excluded, so the answer is the root itself once the floats are separated.
    assert lower[0] == root
    assert upper[0] == root


def test_a_root_too_small_for_the_halvings_is_missed_on_the_safe_side() -> None:
    at = np.array([1e-60])
    assert bisect_outward(lambda q: q <= at, np.ones(1), np.zeros(1))[0] <= 1e-60
    assert bisect_outward(lambda q: q >= at, np.zeros(1), np.ones(1))[0] >= 1e-60


def test_a_test_that_never_decides_gives_the_outside_end() -> None:
    def undecided(q: np.ndarray) -> np.ndarray:
        return np.full_like(q, np.nan) <= 0.1

    assert bisect_outward(undecided, np.array([0.7]), np.array([0.0]))[0] == 0.0
    assert bisect_outward(undecided, np.array([0.7]), np.array([1.0]))[0] == 1.0


def test_elements_do_not_disturb_each_other() -> None:
    roots = np.array([[1e-12, 0.3], [0.999999, 0.5]])
    together = bisect_outward(lambda q: q <= roots, np.ones((2, 2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(together, roots)


@pytest.mark.parametrize("least", [1, 2, 3, 7, 8, 9, 1000, 123_456_789, MAX_TRIALS - 1, MAX_TRIALS])
def test_least_count(least: int) -> None:
    assert least_count(lambda n: n >= least) == least


@pytest.mark.parametrize("most", [0, 1, 2, 7, 1000, MAX_TRIALS])
def test_first_true(most: int) -> None:
    for least in {0, min(1, most), most // 3, max(0, most - 1), most}:
        seen: list[int] = []
        assert first_true(lambda n, least=least, seen=seen: (seen.append(n), n >= least)[1], most) == least  # type: ignore[misc]
        assert all(0 <= n <= most for n in seen)
    assert first_true(lambda n: False, most) == most + 1


def test_least_count_that_is_not_reached() -> None:
    with pytest.raises(ParameterError, match="draws would be needed"):
        least_count(lambda n: False)
