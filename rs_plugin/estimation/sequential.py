"""Confidence at any time: bounds that stay valid however the number of draws was chosen.

With ``s`` successes in ``n`` draws, the likelihood ratio of ``theta`` against ``q``, averaged over ``theta`` uniform on
(0, 1), is ``M(q) = B(1 + s, 1 + n - s) / (q^s (1 - q)^(n - s))``. At the true probability ``q = p`` it is a
non-negative martingale that begins at 1, so it ever reaches ``1/alpha`` with probability at most ``alpha``
(J. Ville, *Etude critique de la notion de collectif*, 1939; H. Robbins, "Statistical methods related to the law of the
iterated logarithm", Annals of Mathematical Statistics 41 (1970)). One may look after every block of draws and stop for
any reason.

Every ``log M`` here is rounded down, so that comparing it with ``log(1/alpha)`` is safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from rs_plugin.estimation.arguments import (
    BoolArray,
    FloatArray,
    IntArray,
    broadcast_shape,
    check_alpha,
    check_pair,
    check_probabilities,
    check_required_probability,
)
from rs_plugin.estimation.search import bisect_outward, least_count

#: Relative error of a sum of logarithms, per unit of the sum of their absolute values: each of ``gammaln``, ``log`` and
#: ``log1p`` is good to 1.5 eps, a product and up to six additions add half an eps each.
_LOG_MARGIN: Final = 6.0 * float(np.finfo(np.float64).eps)

#: Relative error granted to the incomplete beta function, 30 times the largest seen (see ``intervals``).
_TAIL_MARGIN: Final = 1e-9

#: A tail probability below this has lost digits, or all of them; it counts as 0.
_SMALLEST_TAIL: Final = 1e-290


def log_truncated_mixture(successes: ArrayLike, trials: ArrayLike, threshold: ArrayLike) -> FloatArray:
    """Log of the mixture over ``theta`` uniform on ``(p*, 1)``, against ``p*``, rounded down.

    ``M = B(1+s, 1+n-s) (1 - I_{p*}(1+s, 1+n-s)) / ((1 - p*) p*^s (1 - p*)^(n-s))``, ``I`` the regularised incomplete
    beta function. A supermartingale for every ``p <= p*``: given a draw, its expected factor is
    ``p theta / p* + (1 - p)(1 - theta) / (1 - p*)``, which rises with ``p`` and is 1 at ``p*``. So ``M >= 1/alpha``
    at any time shows ``p > p*``, with failure probability ``alpha``.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, broadcast against ``s``.
        threshold: ``p*`` in [0, 1], broadcast against both.

    Returns:
        Array of the broadcast shape (0-d for scalars); ``-inf`` where the tail underflows, and at ``p* = 1``.

    Raises:
        ParameterError: Counts not allowed, ``threshold`` outside [0, 1], shapes that do not broadcast.
    """
    s, n = check_pair(successes, trials)
    points = check_probabilities("threshold", threshold)
    broadcast_shape(successes=s, trials=n, threshold=points)
    tail = np.asarray(special.betaincc(1 + s, 1 + n - s, points))
    usable = (tail > _SMALLEST_TAIL) & (points < 1.0)
    above = np.where(points < 1.0, points, 0.0)
    log_tail = np.log(np.where(usable, tail, 1.0)) - _TAIL_MARGIN
    log_width = np.log1p(-above)
    whole = _log_mixture(s, n, above)
    impossible = np.isinf(whole)
    whole = np.where(impossible, 0.0, whole)
    rounding = _LOG_MARGIN * (np.abs(whole) + np.abs(log_tail) + np.abs(log_width))
    value = np.where(impossible, np.inf, whole + log_tail - log_width - rounding)
    return np.where(usable, value, -np.inf)


def confidence_sequence(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Interval that contains the true probability at all times at once, with probability ``1 - alpha``.

    The ``q`` with ``M(q) < 1/alpha``; an interval, as ``log M`` is convex. Each end is rounded outward. The ends at
    different times hold together, so a caller may keep the largest lower and the smallest upper end seen.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, broadcast against ``s``.
        alpha: Failure probability over all times and both sides, in (0, 1).

    Returns:
        ``(lower, upper)``, arrays of the broadcast shape (0-d for scalars); 0 for ``s = 0``, 1 for ``s = n``.

    Raises:
        ParameterError: Counts not allowed, ``alpha`` outside (0, 1).

    Example:
        >>> lower, upper = confidence_sequence([99, 990], [100, 1000], alpha=0.001)
        >>> lower.round(3), upper.round(3)
        (array([0.867, 0.966]), array([1.   , 0.999]))
    """
    s, n = check_pair(successes, trials)
    evidence = log_evidence(alpha)
    centre = np.asarray(np.where(n > 0, s / np.maximum(n, 1), 0.5))

    def excluded(q: FloatArray) -> BoolArray:
        return np.asarray(_log_mixture(s, n, q) >= evidence)

    lower = bisect_outward(excluded, np.where(s > 0, centre, 0.0), np.zeros_like(centre))
    upper = bisect_outward(excluded, np.where(s < n, centre, 1.0), np.ones_like(centre))
    return lower, upper


def excludes_below(successes: ArrayLike, trials: ArrayLike, thresholds: ArrayLike, alpha: float) -> BoolArray:
    """Whether each threshold lies below the lower end of the confidence sequence.

    True where ``p* < s/n`` and ``M(p*) >= 1/alpha``. With probability ``1 - alpha``, at all times and for all
    thresholds at once, true answers are given only for thresholds below ``p``. The condition ``p* < s/n`` carries the
    direction: without it every threshold far *above* ``p`` would be excluded too.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, broadcast against ``s``.
        thresholds: ``p*`` in [0, 1], broadcast against both; for radii, give the counts an axis of length 1.
        alpha: Failure probability over all times and thresholds, in (0, 1).

    Returns:
        Boolean array of the broadcast shape (0-d for scalars).

    Raises:
        ParameterError: Counts not allowed, thresholds outside [0, 1], ``alpha`` outside (0, 1).
    """
    points = check_probabilities("thresholds", thresholds)
    s, n = check_pair(successes, trials)
    broadcast_shape(successes=s, trials=n, thresholds=points)
    evidence = log_evidence(alpha)
    below = points < s / np.maximum(n, 1)
    return np.asarray(below & (_log_mixture(s, n, points) >= evidence))


def least_trials_anytime(
    required_probability: float,
    alpha: float,
    *,
    test: Callable[[int, int, float, float], BoolArray] = excludes_below,
) -> int:
    """Least number of draws at which a unanimous vote certifies under a confidence sequence.

    The least ``n`` at which ``test(n, n, p*, alpha)`` holds; for the uniform mixture ``(n + 1) p*^n <= alpha``.

    Args:
        required_probability: ``p*``, the probability to be exceeded; at most 0 needs one draw.
        alpha: Failure probability over all times, in (0, 1).
        test: ``excludes_below``, or ``one_sided.exceeds``.

    Returns:
        The number of draws.

    Raises:
        ParameterError: ``p*`` is NaN or at least 1, ``alpha`` outside (0, 1), or no number of draws up to the supported
            maximum is enough.
    """
    required = max(0.0, check_required_probability(required_probability))
    level = check_alpha(alpha)
    return least_count(lambda n: bool(test(n, n, required, level)))


def wald_limit(p: ArrayLike, threshold: ArrayLike, alpha: float) -> FloatArray:
    """Expected number of draws that no test of ``p <= p*`` can beat, ``log(1/alpha) / KL(p || p*)``.

    ``KL(p || q) = p log(p/q) + (1 - p) log((1 - p)/(1 - q))`` in nats; A. Wald, "Sequential tests of statistical
    hypotheses", Annals of Mathematical Statistics 16 (1945), for tests that stop with certainty when ``p > p*``. A
    number to plan with, not a bound: nothing is rounded.

    Args:
        p: True probabilities in [0, 1].
        threshold: ``p*`` in [0, 1], broadcast against ``p``.
        alpha: Failure probability, in (0, 1).

    Returns:
        Draws, array of the broadcast shape (0-d for scalars); ``inf`` where ``p <= p*``, 0 for ``p* = 0 < p``.

    Raises:
        ParameterError: Probabilities outside [0, 1], ``alpha`` outside (0, 1), shapes that do not broadcast.
    """
    truth, points = check_probabilities("p", p), check_probabilities("threshold", threshold)
    broadcast_shape(p=truth, threshold=points)
    level = check_alpha(alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = truth - points
        divergence = truth * np.log1p(gap / points) + special.xlog1py(1.0 - truth, -gap / (1.0 - points))
        draws = -math.log(level) / divergence
    return np.where(truth > points, draws, np.inf)


def log_evidence(alpha: float) -> float:
    """``log(1/alpha)`` rounded up: what a log mixture has to reach.

    Raises:
        ParameterError: ``alpha`` outside (0, 1).
    """
    return -math.log(check_alpha(alpha)) * (1.0 + _LOG_MARGIN)


def _log_mixture(s: IntArray, n: IntArray, q: FloatArray) -> FloatArray:
    """Log of the uniform mixture's likelihood ratio against ``q``, of checked arguments, rounded down.

    ``log M(q) = log B(1 + s, 1 + n - s) - s log q - (n - s) log(1 - q)``, with ``1 / B = (n + 1) C(n, s)``; ``inf``
    where the data are impossible at ``q``. Convex in ``q``, at its least, at most 0, at ``q = s/n``. It is no test of
    ``p <= q``: it grows as well when ``p`` lies far below ``q``. The shortfall grows with ``n``: 4e-7 at n = 1e7.
    """
    with np.errstate(divide="ignore"):
        at_q = special.xlogy(s, q), special.xlog1py(n - s, -q)
    impossible = np.isinf(at_q[0]) | np.isinf(at_q[1])
    parts = (
        special.gammaln(s + 1),
        special.gammaln(n - s + 1),
        -special.gammaln(n + 1),
        -np.log(n + 1.0),
        np.where(impossible, 0.0, -at_q[0]),
        np.where(impossible, 0.0, -at_q[1]),
    )
    size = sum(np.abs(part) for part in parts)
    return np.where(impossible, np.inf, sum(parts) - _LOG_MARGIN * size)
