"""What is known of one image after its votes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import stats

from rs_plugin.certificates import Certificate
from rs_plugin.estimation import bound_fixed, check_alpha, exceeds, lower_sequence, select_class
from rs_plugin.voting import Counts


class Status(str, Enum):
    """The verdict on one image."""

    CERTIFIED = "certified"
    WRONG = "wrong"
    ABSTAINED = "abstained"

    def __str__(self) -> str:
        """Return the value, as it is stored and printed."""
        return self.value


@dataclass(frozen=True, eq=False)
class Outcome:
    """The smoothed classifier's answer for one image.

    Attributes:
        prediction: the class, None where the classifier abstains.
        votes: counts per class of the draws behind the bound, shape (classes,).
        n: their number.
        p_lower: lower confidence bound on the probability of the class chosen; NaN where none was computed.
        radius: certified radius in input units, rounded down; 0 where nothing is certified. Anytime runs give the
            largest listed radius that holds.
        status: ``certified`` (for the label, where one is given), ``wrong`` or ``abstained``.
    """

    prediction: int | None
    votes: Counts
    n: int
    p_lower: float
    radius: float
    status: Status

    def holds_at(self, radius: float) -> bool:
        """Return whether the label is certified at ``radius``."""
        return self.status is Status.CERTIFIED and self.radius >= radius


def judge(prediction: int | None, label: int | None) -> Status:
    """Return the status of a prediction; an abstention is never correct, whatever the label."""
    if prediction is None:
        return Status.ABSTAINED
    return Status.CERTIFIED if label is None or prediction == label else Status.WRONG


def fixed_outcomes(
    selection: Counts, votes: Counts, labels: Sequence[int | None], certificate: Certificate, alpha: float
) -> list[Outcome]:
    """Return the outcomes of votes whose numbers were fixed beforehand.

    Args:
        selection: counts of the draws that choose the class, shape (images, classes).
        votes: counts of the draws that bound it, shape (images, classes).
        labels: true classes, None where unknown.
        certificate: turns bounds into radii.
        alpha: failure probability of each image's bound.
    """
    classes, bound = bound_fixed(selection, votes, alpha)
    radii = np.atleast_1d(certificate.radius(bound.value))
    outcomes = []
    for i, label in enumerate(labels):
        p_lower = float(bound.value[i])
        prediction = int(classes[i]) if p_lower > 0.5 else None
        radius = float(radii[i]) if prediction is not None else 0.0
        outcomes.append(Outcome(prediction, votes[i], int(votes[i].sum()), p_lower, radius, judge(prediction, label)))
    return outcomes


def anytime_outcome(
    selection: Counts, votes: Counts, label: int | None, radii: Sequence[float], required: Sequence[float], alpha: float
) -> Outcome:
    """Return the outcome of votes whose number may have been chosen by looking at them.

    Args:
        selection: counts of the draws that choose the class, shape (classes,).
        votes: counts of the other draws, shape (classes,).
        label: true class, None where unknown.
        radii: the listed radii, 0 included, increasing.
        required: the required probability at each.
        alpha: failure probability over all radii and times.
    """
    chosen, n = int(select_class(selection)), int(votes.sum())
    shown = exceeds(int(votes[chosen]), n, np.asarray(required), alpha)
    holding = [r for r, ok in zip(radii, np.atleast_1d(shown), strict=True) if ok]
    p_lower = float(lower_sequence(int(votes[chosen]), n, alpha))
    prediction = chosen if holding else None
    return Outcome(prediction, votes, n, p_lower, max(holding, default=0.0), judge(prediction, label))


def predicted(votes: Counts, alpha: float) -> Outcome:
    """Return the prediction of ``votes``, or an abstention, wrong with probability at most ``alpha``.

    The top class is returned if a two-sided binomial test tells it from the runner-up (Hung & Fithian 2019; Cohen,
    Rosenfeld & Kolter 2019, PREDICT).
    """
    check_alpha(alpha)
    order = np.argsort(-votes, kind="stable")
    first, second = int(votes[order[0]]), int(votes[order[1]])
    significant = stats.binomtest(first, first + second, 0.5).pvalue <= alpha
    prediction = int(order[0]) if significant else None
    return Outcome(prediction, votes, int(votes.sum()), math.nan, 0.0, judge(prediction, None))
