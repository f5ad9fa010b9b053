"""Two root finders that return the safe end of their bracket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import MAX_TRIALS, BoolArray, FloatArray

#: Halvings of the bracket. About 60 bring two floats near 1 together; an end near 1e-17 takes 110.
_MOST_HALVINGS: Final = 128


def bisect_outward(excluded: Callable[[FloatArray], BoolArray], inside: FloatArray, outside: FloatArray) -> FloatArray:
    """Return the end of a confidence interval, never inside the interval.

    Between ``inside`` (a point of the interval) and ``outside`` (a point that is excluded, or the end of [0, 1], beyond
    which nothing lies) ``excluded`` changes once. The bracket is halved until its ends are neighbouring floats, and the
    outside end is returned. A test that cannot decide and says False makes the answer worse, not wrong.

    Args:
        excluded: Elementwise test of an array of probabilities.
        inside: Points that belong to the interval, shape ``(...)``.
        outside: Points at its far side, same shape; below ``inside`` for a lower end, above it for an upper one.

    Returns:
        Float64 array of the same shape: points at which ``excluded`` was seen to hold, or ``outside`` as given.
    """
    for _ in range(_MOST_HALVINGS):
        middle = 0.5 * (inside + outside)
        split = (middle != inside) & (middle != outside)
        if not split.any():
            break
        out = split & excluded(middle)
        outside = np.where(out, middle, outside)
        inside = np.where(split & ~out, middle, inside)
    return outside


def least_count(reached: Callable[[int], bool]) -> int:
    """Return the least ``n >= 1`` at which ``reached(n)``, a test that stays true once it is.

    Raises:
        ParameterError: It is not reached at ``MAX_TRIALS``.
    """
    high = 1
    while not reached(high):
        if high == MAX_TRIALS:
            raise ParameterError(
                f"more than {MAX_TRIALS} draws would be needed; ask for a smaller probability or a larger alpha"
            )
        high = min(2 * high, MAX_TRIALS)
    return _least_above(reached, high // 2, high)


def first_true(reached: Callable[[int], bool], most: int) -> int:
    """Return the least count, from 0, at which ``reached``, a test that stays true, holds; else ``most + 1``."""
    return _least_above(reached, -1, most + 1)


def _least_above(reached: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least count above ``low``, where ``reached`` does not hold, up to ``high``, where it is taken to."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
