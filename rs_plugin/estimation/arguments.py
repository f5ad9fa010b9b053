"""Checks of the counts, probabilities and failure probabilities that the estimators are given.

Everything is refused that would make a bound mean less than it says: fractions of votes, negative counts, more
successes than trials, NaN, a failure probability outside its range.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs_plugin.errors import ParameterError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

#: Up to this many trials the rounding margins of this folder were compared with 30 to 50 digit references.
MAX_TRIALS: Final = 10**9

#: Below it, tail probabilities come near the end of float64's range, where they lose their relative accuracy.
MIN_ALPHA: Final = 1e-100


def check_counts(name: str, value: ArrayLike) -> IntArray:
    """Return ``value`` as int64 counts.

    Args:
        name: The argument's name, for the message.
        value: Non-negative integers of any shape. Floats that are whole numbers are taken, booleans are not.

    Raises:
        ParameterError: Not numbers, not whole, negative, NaN, infinite, or above ``MAX_TRIALS``.
    """
    array = _array(name, value, "integers")
    if array.dtype.kind == "f":
        unfit = ~np.isfinite(array) | (np.floor(array) != array)
        if unfit.any():
            raise ParameterError(f"{name} = {array[unfit].flat[0]} is not a whole number; give integers")
    unfit = (array < 0) | (array > MAX_TRIALS)
    if unfit.any():
        raise ParameterError(
            f"{name} = {array[unfit].flat[0]} is outside 0 ... {MAX_TRIALS}; give integers in that range"
        )
    return array.astype(np.int64)


def check_positive_count(name: str, value: int) -> int:
    """Return ``value`` as one whole number above 0.

    Raises:
        ParameterError: Anything else.
    """
    number = _as_float(value)
    if number is None or not (number >= 1.0 and number % 1.0 == 0.0):
        raise ParameterError(f"{name} must be one whole number of at least 1, not {shown(value)}")
    return int(check_counts(name, value))


def check_pair(successes: ArrayLike, trials: ArrayLike) -> tuple[IntArray, IntArray]:
    """Return successes and trials as int64 arrays, checked against each other; they must broadcast.

    Raises:
        ParameterError: A count is not allowed, shapes do not broadcast, or successes exceed trials.
    """
    s, n = check_counts("successes", successes), check_counts("trials", trials)
    broadcast_shape(successes=s, trials=n)
    unfit = s > n
    if unfit.any():
        shown_s, shown_n = np.broadcast_arrays(s, n)
        raise ParameterError(
            f"successes = {shown_s[unfit].flat[0]} exceed trials = {shown_n[unfit].flat[0]}; "
            "trials is the number of all draws, not of the failures"
        )
    return s, n


def check_alpha(alpha: float, name: str = "alpha") -> float:
    """Return a failure probability as a float; the one check of it in the package.

    Raises:
        ParameterError: Not a single number, NaN, or outside ``[MIN_ALPHA, 1)``.
    """
    value = _as_float(alpha)
    if value is None or not MIN_ALPHA <= value < 1.0:
        raise ParameterError(
            f"{name} must lie between 0 and 1, not {shown(alpha)}; give a failure probability such as 0.001, at least "
            f"{MIN_ALPHA:g}"
        )
    return value


def check_probabilities(name: str, value: ArrayLike) -> FloatArray:
    """Return probabilities as float64.

    Raises:
        ParameterError: Not numbers, NaN, or outside [0, 1].
    """
    array = _array(name, value, "numbers in [0, 1]")
    unfit = ~((array >= 0.0) & (array <= 1.0))
    if unfit.any():
        raise ParameterError(f"{name} must lie in [0, 1], not {array[unfit].flat[0]}")
    return array.astype(np.float64)


def check_not_negative(name: str, value: ArrayLike) -> FloatArray:
    """Return numbers that are 0 or more, infinity included, as float64.

    Raises:
        ParameterError: Not numbers, NaN, or negative.
    """
    array = _array(name, value, "numbers of 0 or more")
    unfit = ~(array >= 0.0)
    if unfit.any():
        raise ParameterError(f"{name} must be 0 or more, not {array[unfit].flat[0]}")
    return array.astype(np.float64)


def check_required_probability(value: float) -> float:
    """Return a probability that a bound has to exceed; below 0 is allowed, as everything exceeds it.

    Raises:
        ParameterError: Not a single number, NaN, or at least 1, which no number of draws can exceed.
    """
    probability = check_number("required_probability", value)
    if not probability < 1.0:
        raise ParameterError(
            f"required_probability = {probability} is never exceeded, however many draws agree; give a number below 1"
        )
    return probability


def broadcast_shape(**arrays: NDArray[Any]) -> tuple[int, ...]:
    """Return the common shape of the named arrays.

    Raises:
        ParameterError: They do not broadcast.
    """
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ParameterError(f"shapes do not broadcast: {shapes}; add axes of length 1") from error


def check_number(name: str, value: float) -> float:
    """Return ``value`` as a float.

    Raises:
        ParameterError: Not a single number, or NaN.
    """
    number = _as_float(value)
    if number is None or math.isnan(number):
        raise ParameterError(f"{name} must be a number, not {shown(value)}; give one float")
    return number


def shown(value: object) -> str:
    """Return a value as messages show it: one short line, whatever it is."""
    return " ".join(reprlib.repr(value).split())


def _as_float(value: Any) -> float | None:
    """Return one number as a float, None for anything else: text and truth values are no numbers here."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return None
    try:
        return None if np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _array(name: str, value: ArrayLike, wanted: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; tensors of another device, or with a gradient
        raise ParameterError(f"{name} must be an array of {wanted}, not {shown(value)}") from None
    if array.dtype.kind not in "iuf":
        raise ParameterError(f"{name} must be {wanted}, not {shown(value)} of type {array.dtype}")
    return array
