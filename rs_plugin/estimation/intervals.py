"""One-sided Clopper-Pearson bounds, rounded outward, for numbers of draws fixed beforehand.

C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26 (1934). J. Cohen, E. Rosenfeld and J. Z. Kolter, "Certified adversarial robustness via randomized
smoothing", ICML 2019, use the lower one. They must not be applied to votes whose number was chosen by looking at them;
``sequential`` and ``one_sided`` are for those.

Rounding. The bound is the root in ``q`` of a binomial tail, an incomplete beta function. Its inverse,
``scipy.special.betaincinv``, is not used: it was seen to leave a relative error of 5e-9 in the tail at n = 1e6, 3e-7 at
1e7, and to answer 7.61e-6 where the root is 3.3e-6 (scipy 1.17: 1000 of 259069897, alpha 4.7e-7, a lower bound above
the observed frequency). The forward function ``scipy.special.betainc`` was never off by more than 3e-11 against 40
digits, n up to 1e9. So the tail is bisected, and a probability counts as excluded only when its tail is below alpha
by ``_TAIL_MARGIN``, 30 times that error. This moves the bound by less than 1e-9 of its standard error.
"""

from __future__ import annotations

from typing import Final, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import (
    BoolArray,
    FloatArray,
    IntArray,
    check_alpha,
    check_counts,
    check_pair,
    check_required_probability,
)
from rs_plugin.estimation.search import bisect_outward, least_count

#: Relative margin for the error of the incomplete beta function; see the module's docstring.
_TAIL_MARGIN: Final = 1e-9

_EPS: Final = float(np.finfo(np.float64).eps)


@overload
def clopper_pearson_lower(successes: int, trials: int, alpha: float) -> float: ...
@overload
def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: float) -> FloatArray: ...
def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: float) -> float | FloatArray:
    """Lower confidence bound of a success probability, one-sided (Clopper and Pearson 1934).

    The largest ``q`` with ``P(Binomial(n, q) >= s) = I_q(s, n - s + 1) <= alpha``, rounded down: 0 for ``s = 0``,
    ``alpha**(1/n)`` for ``s = n``. For every ``p``, ``P(bound > p) <= alpha``.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, fixed before the draws, broadcast against ``s``. No trials give 0.
        alpha: Failure probability of each bound, in (0, 1).

    Returns:
        Bounds in [0, 1) of the broadcast shape; a float for scalars.

    Raises:
        ParameterError: Counts negative, not whole or more successes than trials; ``alpha`` outside (0, 1).

    Example:
        >>> round(clopper_pearson_lower(990, 1000, 0.001), 6)
        0.976036
    """
    s, n, level, interior = _prepared(successes, trials, alpha)
    inner_s, inner_n = np.where(interior, s, 1), np.where(interior, n, 2)

    def excluded(q: FloatArray) -> BoolArray:
        return np.asarray(special.betainc(inner_s, inner_n - inner_s + 1, q) <= level * (1.0 - _TAIL_MARGIN))

    bound = bisect_outward(excluded, np.ones(s.shape), np.zeros(s.shape))
    bound = np.where(interior, bound, np.where(s > 0, _root_down(level, n), 0.0))
    return bound if bound.ndim else float(bound)


@overload
def clopper_pearson_upper(successes: int, trials: int, alpha: float) -> float: ...
@overload
def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: float) -> FloatArray: ...
def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: float) -> float | FloatArray:
    """Upper confidence bound of a success probability, one-sided (Clopper and Pearson 1934).

    The smallest ``q`` with ``P(Binomial(n, q) <= s) = 1 - I_q(s + 1, n - s) <= alpha``, rounded up: 1 for ``s = n``,
    ``1 - alpha**(1/n)`` for ``s = 0``. For every ``p``, ``P(bound < p) <= alpha``.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, fixed before the draws, broadcast against ``s``. No trials give 1.
        alpha: Failure probability of each bound, in (0, 1).

    Returns:
        Bounds in (0, 1] of the broadcast shape; a float for scalars.

    Raises:
        ParameterError: Counts negative, not whole or more successes than trials; ``alpha`` outside (0, 1).
    """
    s, n, level, interior = _prepared(successes, trials, alpha)
    inner_s, inner_n = np.where(interior, s, 1), np.where(interior, n, 2)

    def excluded(q: FloatArray) -> BoolArray:
        return np.asarray(special.betaincc(inner_s + 1, inner_n - inner_s, q) <= level * (1.0 - _TAIL_MARGIN))

    bound = bisect_outward(excluded, np.zeros(s.shape), np.ones(s.shape))
    bound = np.where(interior, bound, np.where(s < n, _root_complement_up(level, n), 1.0))
    return bound if bound.ndim else float(bound)


def least_trials(required_probability: float, alpha: float) -> int:
    """Least number of draws at which a unanimous vote can certify.

    The least ``n`` with ``clopper_pearson_lower(n, n, alpha) > p*``, that is ``n > log(alpha) / log(p*)`` up to the
    bound's rounding.

    Args:
        required_probability: ``p*``, the probability that the bound must exceed; at most 0 needs one draw.
        alpha: Failure probability of the bound, in (0, 1).

    Returns:
        The number of draws.

    Raises:
        ParameterError: ``p*`` is NaN or at least 1, ``alpha`` outside (0, 1), or no number of draws up to the supported
            maximum is enough.

    Example:
        >>> least_trials(0.5, 0.001), least_trials(0.9955, 0.001)
        (10, 1532)
    """
    required = check_required_probability(required_probability)
    level = check_alpha(alpha)
    return least_count(lambda n: clopper_pearson_lower(n, n, level) > required)


def multiclass_bounds(votes: ArrayLike, selected: ArrayLike, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Lower bound of the selected class and upper bound of every other class, jointly valid.

    ``p_A`` is the Clopper-Pearson lower bound of the selected class at ``alpha / 2``; ``p_B`` the largest upper bound
    of the other classes, each at ``alpha / (2 (C - 1))`` (Bonferroni), and at most ``1 - p_A``. The
    statements ``p_selected >= p_A`` and ``p_c <= p_B`` for every other ``c`` hold together with probability at least
    ``1 - alpha``.

    Args:
        votes: Counts per class, shape ``(..., classes)``, of a number of draws fixed beforehand.
        selected: Class index per image, shape ``(...)``, chosen without these votes.
        alpha: Failure probability of all the statements about one image together, in (0, 1).

    Returns:
        ``(p_A, p_B)``, each of shape ``(...)``, rounded down and up.

    Raises:
        ParameterError: Counts not allowed, fewer than two classes, ``selected`` of another shape or out of range,
            ``alpha`` outside (0, 1).
    """
    counts, chosen = check_counts("votes", votes), check_counts("selected", selected)
    level = check_alpha(alpha)
    if counts.ndim < 1 or counts.shape[-1] < 2:
        raise ParameterError(f"votes have shape {counts.shape}; the last axis is the classes, two or more")
    if chosen.shape != counts.shape[:-1]:
        raise ParameterError(f"selected has shape {chosen.shape}, votes {counts.shape}; give one class per image")
    classes = counts.shape[-1]
    if (chosen >= classes).any():
        raise ParameterError(f"selected = {chosen.max()} is not one of {classes} classes; indices begin at 0")
    trials = counts.sum(axis=-1)
    own = np.arange(classes) == chosen[..., None]
    successes = np.where(own, counts, 0).sum(axis=-1)
    rival = np.where(own, 0, counts).max(axis=-1)
    p_a = np.asarray(clopper_pearson_lower(successes, trials, level / 2.0))
    p_b = np.asarray(clopper_pearson_upper(rival, trials, level / (2.0 * (classes - 1))))
    rest = 1.0 - p_a
    rest = np.where(1.0 - rest > p_a, np.nextafter(rest, 2.0), rest)
    return p_a, np.minimum(p_b, rest)


def _prepared(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[IntArray, IntArray, float, BoolArray]:
    """Return both counts in their common shape, the checked ``alpha``, and where ``0 < s < n``: no closed form."""
    s, n = np.broadcast_arrays(*check_pair(successes, trials))
    return s, n, check_alpha(alpha), np.asarray((s > 0) & (s < n))


def _root_down(alpha: float, trials: IntArray) -> FloatArray:
    """``alpha**(1/n)``, rounded down; ``exp`` adds 1 eps and carries the error of its exponent over, 1 eps of it."""
    exponent = np.log(alpha) / np.maximum(trials, 1)
    return np.asarray(np.exp(exponent) * (1.0 - _EPS * (2.0 - 2.0 * exponent)))


def _root_complement_up(alpha: float, trials: IntArray) -> FloatArray:
    """``1 - alpha**(1/n)``, rounded up; ``expm1`` shrinks the relative error of its exponent, which is 1 eps."""
    exponent = np.log(alpha) / np.maximum(trials, 1)
    return np.asarray(np.minimum(1.0, -np.expm1(exponent) * (1.0 + 4.0 * _EPS)))
