"""From class votes to a bound that says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import FloatArray, IntArray, check_alpha, check_counts, check_probabilities
from rs_plugin.estimation.intervals import clopper_pearson_lower

DIRECTIONS: Final = ("lower", "upper")


@dataclass(frozen=True, eq=False)
class VoteBound:
    """One-sided confidence bounds of success probabilities, one per image.

    Attributes:
        value: Bounds in [0, 1], shape ``(...)``, read-only; rounded in the safe direction.
        direction: ``"lower"`` or ``"upper"``.
        failure_probability: Of each image's bound by itself, in (0, 1).
        method: How the bound was made, for the record.

    Raises:
        ParameterError: A value outside [0, 1], another direction, a failure probability outside (0, 1).
    """

    value: FloatArray
    direction: Literal["lower", "upper"]
    failure_probability: float
    method: str

    def __post_init__(self) -> None:
        value = check_probabilities("value", self.value).copy()
        value.flags.writeable = False
        object.__setattr__(self, "value", value)
        object.__setattr__(
            self, "failure_probability", check_alpha(self.failure_probability, name="failure_probability")
        )
        if self.direction not in DIRECTIONS:
            raise ParameterError(f"direction = {self.direction!r}; give one of {', '.join(DIRECTIONS)}")


def select_class(selection_votes: ArrayLike) -> IntArray:
    """Return the class with most votes, the lowest index in a tie.

    Args:
        selection_votes: Counts, shape ``(..., classes)``, of draws that are used for nothing else.

    Returns:
        Class indices of shape ``(...)``.

    Raises:
        ParameterError: Counts not allowed, fewer than two classes, or an image without votes.
    """
    counts = _check_votes("selection_votes", selection_votes)
    if (counts.sum(axis=-1) == 0).any():
        raise ParameterError("selection_votes holds an image without votes; draw at least one before selecting")
    return np.asarray(counts.argmax(axis=-1), dtype=np.int64)


def bound_fixed(selection_votes: ArrayLike, votes: ArrayLike, alpha: float) -> tuple[IntArray, VoteBound]:
    """Two-stage bound for a number of draws fixed beforehand (Cohen, Rosenfeld and Kolter 2019).

    The class is chosen by ``selection_votes``; the bound is its Clopper-Pearson lower bound in ``votes``, other draws.

    Args:
        selection_votes: Counts of the ``n0`` selection draws, shape ``(..., classes)``.
        votes: Counts of the ``n`` other draws, same shape.
        alpha: Failure probability per image, in (0, 1).

    Returns:
        Class indices of shape ``(...)`` and lower bounds of their probabilities.

    Raises:
        ParameterError: Counts not allowed, shapes that differ, the same array given twice, ``alpha`` outside (0, 1).
    """
    selected, successes, trials = _two_stages(selection_votes, votes)
    value = np.asarray(clopper_pearson_lower(successes, trials, alpha))
    return selected, VoteBound(value, "lower", alpha, "Clopper-Pearson")


def _check_votes(name: str, votes: ArrayLike) -> IntArray:
    counts = check_counts(name, votes)
    if counts.ndim < 1 or counts.shape[-1] < 2:
        raise ParameterError(f"{name} has shape {counts.shape}; the last axis is the classes, two or more")
    return counts


def _two_stages(selection_votes: ArrayLike, votes: ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
    """Return the class chosen by the first votes, and its count and the total in the second."""
    if selection_votes is votes or np.shares_memory(np.asarray(selection_votes), np.asarray(votes)):
        raise ParameterError("votes are the selection votes; the bound needs draws that did not choose the class")
    selected = select_class(selection_votes)
    counts = _check_votes("votes", votes)
    if counts.shape != np.shape(selection_votes):
        raise ParameterError(
            f"votes have shape {counts.shape}, selection_votes {np.shape(selection_votes)}; give the same images"
        )
    successes = np.take_along_axis(counts, selected[..., None], axis=-1)[..., 0]
    return selected, successes, np.asarray(counts.sum(axis=-1))
