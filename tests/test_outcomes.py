"""From votes to verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rs_plugin.certificates import certificate
from rs_plugin.distributions import Gaussian
from rs_plugin.errors import ParameterError
from rs_plugin.outcomes import Outcome, Status, anytime_outcome, fixed_outcomes, judge, predicted

CERTIFICATE = certificate(Gaussian(1.0), "L2", 4)


def counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("prediction", "label", "status"),
    [(1, 1, Status.CERTIFIED), (1, 0, Status.WRONG), (None, 0, Status.ABSTAINED), (None, None, Status.ABSTAINED),
     (0, None, Status.CERTIFIED), (0, 0, Status.CERTIFIED)],
)  # fmt: skip
def test_judgements(prediction: int | None, label: int | None, status: Status) -> None:
    assert judge(prediction, label) is status


def test_certified_at_a_radius_means_right_and_far_enough() -> None:
    right = Outcome(1, counts(0, 9), 9, 0.9, 0.5, Status.CERTIFIED)
    assert right.holds_at(0.0) and right.holds_at(0.5) and not right.holds_at(0.5000001)
    assert not Outcome(1, counts(0, 9), 9, 0.9, 0.5, Status.WRONG).holds_at(0.0)
    assert not Outcome(None, counts(5, 4), 9, 0.2, 0.0, Status.ABSTAINED).holds_at(0.0)


def test_the_bound_is_of_the_class_that_the_selection_chose() -> None:
    selection, votes = counts(0, 10, 0), counts(990, 10, 0)
    (outcome,) = fixed_outcomes(selection[None], votes[None], [0], CERTIFICATE, 0.01)
    assert (outcome.prediction, outcome.status, outcome.radius) == (None, Status.ABSTAINED, 0.0)
    assert outcome.p_lower < 0.02


def test_a_bound_of_one_half_is_no_prediction() -> None:
    # The lower bound of n unanimous votes is alpha^(1/n): with 10 votes and alpha = 2^-10 it is exactly 1/2.
    votes = counts(0, 10)[None]
    assert fixed_outcomes(votes.copy(), votes, [1], CERTIFICATE, 2.0**-10)[0].prediction is None
    assert fixed_outcomes(votes.copy(), votes, [1], CERTIFICATE, 1.01 * 2.0**-10)[0].prediction == 1


def test_anytime_radius_is_the_largest_listed_one_that_holds() -> None:
    radii = [0.0, 0.5, 1.0, 2.0]
    required = CERTIFICATE.required_probability(radii).tolist()
    outcome = anytime_outcome(counts(0, 9), counts(20, 980), 1, radii, required, 0.001)
    assert (outcome.prediction, outcome.radius, outcome.status) == (1, 1.0, Status.CERTIFIED)
    assert stats.norm.cdf(1.0) < outcome.p_lower < 0.98
    undecided = anytime_outcome(counts(0, 9), counts(500, 500), 1, radii, required, 0.001)
    assert (undecided.prediction, undecided.radius, undecided.status) == (None, 0.0, Status.ABSTAINED)
    wrong = anytime_outcome(counts(0, 9), counts(20, 980), 0, radii, required, 0.001)
    assert (wrong.status, wrong.radius, wrong.holds_at(0.0)) == (Status.WRONG, 1.0, False)


def test_anytime_gives_up_votes_far_below_one_half() -> None:
    # The untruncated mixture grows on both sides of p*: 0 votes of 1000 must show nothing about p > 1/2.
    outcome = anytime_outcome(counts(9, 0), counts(0, 1000), 0, [0.0], [0.5], 0.001)
    assert outcome.prediction is None and outcome.p_lower == 0.0


def test_predictions_need_significance() -> None:
    assert predicted(counts(3, 97), 0.001).prediction == 1
    assert predicted(counts(45, 55), 0.001).prediction is None
    assert predicted(counts(0, 0, 1), 0.5).prediction is None  # a single vote has p-value 1
    assert math.isnan(predicted(counts(3, 97), 0.001).p_lower)
    with pytest.raises(ParameterError, match="alpha must lie between 0 and 1, not 2"):
        predicted(counts(3, 97), 2)
