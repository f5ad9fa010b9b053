"""Every estimator refuses what would make its bound mean less than it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rs_plugin import estimation as est
from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import MAX_TRIALS, MIN_ALPHA, check_counts, check_not_negative, check_positive_count

COUNTED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "clopper_pearson_lower": est.clopper_pearson_lower,
    "clopper_pearson_upper": est.clopper_pearson_upper,
    "confidence_sequence": est.confidence_sequence,
    "lower_sequence": est.lower_sequence,
    "excludes_below": lambda s, n, alpha: est.excludes_below(s, n, 0.5, alpha),
    "exceeds": lambda s, n, alpha: est.exceeds(s, n, 0.5, alpha),
}
PLANNED: dict[str, Callable[[Any], Any]] = {
    "least_trials": lambda alpha: est.least_trials(0.5, alpha),
    "least_trials_anytime": lambda alpha: est.least_trials_anytime(0.5, alpha),
    "wald_limit": lambda alpha: est.wald_limit(0.9, 0.5, alpha),
    "multiclass_bounds": lambda alpha: est.multiclass_bounds([3, 4], 1, alpha),
    "bound_fixed": lambda alpha: est.bound_fixed([3, 4], [5, 6], alpha),
    "AlphaBudget": est.AlphaBudget,
}
BAD_COUNTS = {
    "negative": (-1, 10),
    "negative trials": (0, -1),
    "more successes than trials": (11, 10),
    "fraction": (3.5, 10),
    "nan": (math.nan, 10),
    "inf": (1, math.inf),
    "boolean": (True, 10),
    "text": ("3", 10),
    "none": (None, 10),
    "one bad among good": ([3, 11], 10),
    "shapes": ([1, 2, 3], [10, 10]),
    "ragged": ([[1, 2], [3]], 10),
    "beyond the supported range": (1, MAX_TRIALS + 1),
    "beyond int64": (1, 2**70),
}
BAD_ALPHAS = [0.0, 1.0, -0.1, 1.5, math.nan, math.inf, MIN_ALPHA / 2, "much", "0.5", None, True, [0.1, 0.2], [0.1], 1j]


@pytest.mark.parametrize("function", COUNTED.values(), ids=COUNTED.keys())
@pytest.mark.parametrize("counts", BAD_COUNTS.values(), ids=BAD_COUNTS.keys())
def test_bad_counts(function: Callable[..., Any], counts: tuple[Any, Any]) -> None:
    with pytest.raises(ParameterError):
        function(*counts, 0.001)


@pytest.mark.parametrize("alpha", BAD_ALPHAS, ids=repr)
def test_bad_alpha(alpha: Any) -> None:
    for function in COUNTED.values():
        with pytest.raises(ParameterError, match="alpha"):
            function(3, 10, alpha)
    for name, plan in PLANNED.items():
        with pytest.raises(ParameterError, match="total" if name == "AlphaBudget" else "alpha"):
            plan(alpha)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "half", [0.5, math.nan]], ids=repr)
def test_bad_probability(value: Any) -> None:
    for call in (
        lambda: est.log_truncated_mixture(3, 10, value),
        lambda: est.excludes_below(3, 10, value, 0.1),
        lambda: est.exceeds(3, 10, value, 0.1),
        lambda: est.wald_limit(value, 0.5, 0.1),
        lambda: est.wald_limit(0.5, value, 0.1),
    ):
        with pytest.raises(ParameterError):
            call()


@pytest.mark.parametrize("value", [1.0, 1.5, math.nan, math.inf, "half"], ids=repr)
def test_bad_required_probability(value: Any) -> None:
    for function in (est.least_trials, est.least_trials_anytime):
        with pytest.raises(ParameterError, match="required_probability"):
            function(value, 0.001)


def test_messages_name_the_value_and_a_remedy() -> None:
    with pytest.raises(ParameterError, match=r"successes = 11 exceed trials = 10; "):
        est.clopper_pearson_lower([3, 11], 10, 0.001)
    with pytest.raises(ParameterError, match=r"alpha must lie between 0 and 1, not 2\.0; give"):
        est.clopper_pearson_lower(3, 10, 2.0)
    with pytest.raises(ParameterError, match=r"threshold must be numbers in \[0, 1\], not 'half'"):
        est.exceeds(3, 10, "half", 0.1)


@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, math.inf, "3", None, True, [3], {}, np.array([3])], ids=repr)
def test_bad_single_counts(value: Any) -> None:
    with pytest.raises(ParameterError, match="n must be one whole number of at least 1, not"):
        check_positive_count("n", value)


def test_single_counts() -> None:
    for value in (7, 7.0, np.int32(7), torch.tensor(7), np.array(7)):
        assert check_positive_count("n", value) == 7
    with pytest.raises(ParameterError, match=f"{MAX_TRIALS + 1} is outside"):
        check_positive_count("n", MAX_TRIALS + 1)


def test_sizes() -> None:
    np.testing.assert_array_equal(check_not_negative("r", [0, 2, math.inf]), [0.0, 2.0, math.inf])
    with pytest.raises(ParameterError, match="r must be 0 or more, not -1"):
        check_not_negative("r", [1, -1])
    for value in ([1.0, math.nan], "1", None, True, [[1], [2, 3]], torch.ones(2, requires_grad=True)):
        with pytest.raises(ParameterError, match="r must be") as caught:
            check_not_negative("r", value)
        assert "\n" not in str(caught.value)


def test_counts_in_the_types_that_callers_have() -> None:
    expected = est.clopper_pearson_lower([90, 95], 100, 0.001)
    for counts in (np.uint8([90, 95]), np.float64([90, 95]), torch.tensor([90, 95]), np.int32([90, 95])):
        np.testing.assert_array_equal(est.clopper_pearson_lower(counts, 100, 0.001), expected)
    assert check_counts("votes", np.uint8(200)).dtype == np.int64


def test_sums_of_small_integer_types_do_not_wrap() -> None:
    votes = np.uint8([[200, 100]])
    lower, _ = est.multiclass_bounds(votes, [0], 0.01)
    assert lower[0] == est.clopper_pearson_lower(200, 300, 0.005)
