"""The lower confidence bound at any time, for all thresholds at one alpha.

Let ``N(q)`` be the likelihood ratio of ``theta`` against ``q``, averaged over ``theta`` uniform on ``(q, 1)``: the
truncated mixture of ``sequential.log_truncated_mixture``. At ``q = p`` it is a non-negative martingale that begins
at 1, so with probability ``1 - alpha`` it never reaches ``1/alpha`` (Ville 1939; Robbins 1970). And it falls in ``q``,
so whenever some ``q >= p`` had ``N(q) >= 1/alpha``, ``N(p)`` would have it too: all thresholds share one alpha.

Proof that it falls: with ``f(q) = q^s (1 - q)^(n-s)`` and ``theta = q + (1 - q) u``, ``N(q)`` is the mean over ``u``
uniform on (0, 1) of ``f(theta) / f(q)``. With ``h(q) = (1 - q) (log f)'(q) = s (1 - q)/q - (n - s)``, decreasing, the
logarithm of the ratio has the derivative ``(h(theta) - h(q)) / (1 - q) <= 0``.

Against the two-sided sequence it gains the factor ``1/(1 - q)`` of evidence, for it bets on nothing below ``q``: 6 at
q = 0.84, 100 at q = 0.99.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rs_plugin.estimation.arguments import BoolArray, FloatArray, check_pair
from rs_plugin.estimation.search import bisect_outward
from rs_plugin.estimation.sequential import log_evidence, log_truncated_mixture


def lower_sequence(successes: ArrayLike, trials: ArrayLike, alpha: float) -> FloatArray:
    """Lower bound that holds at all times at once, with probability ``1 - alpha``.

    The largest ``q`` with ``N(q) >= 1/alpha``, rounded down; 0 for ``s = 0``. A caller may keep the largest one seen.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, broadcast against ``s``; it may have been chosen by looking.
        alpha: Failure probability over all times, in (0, 1).

    Returns:
        Array of the broadcast shape (0-d for scalars), below ``s/n`` where ``s > 0``.

    Raises:
        ParameterError: Counts not allowed, ``alpha`` outside (0, 1).
    """
    s, n = check_pair(successes, trials)
    evidence = log_evidence(alpha)
    centre = np.asarray(s / np.maximum(n, 1))

    def excluded(q: FloatArray) -> BoolArray:
        return np.asarray(log_truncated_mixture(s, n, q) >= evidence)

    return bisect_outward(excluded, centre, np.zeros_like(centre))


def exceeds(successes: ArrayLike, trials: ArrayLike, thresholds: ArrayLike, alpha: float) -> BoolArray:
    """Whether ``p > p*`` is shown, for each threshold; all answers share one ``alpha``.

    True where ``N(p*) >= 1/alpha``. With probability ``1 - alpha``, at all times and for all thresholds at once, true
    answers are given only for thresholds below ``p``. ``N`` is at most 1 where ``p* >= s/n``, so no such threshold
    passes.

    Args:
        successes: ``s``, integers of shape ``(...)``.
        trials: ``n``, broadcast against ``s``; it may have been chosen by looking.
        thresholds: ``p*`` in [0, 1], broadcast against both; for radii, give the counts an axis of length 1.
        alpha: Failure probability over all times and thresholds, in (0, 1).

    Returns:
        Boolean array of the broadcast shape (0-d for scalars).

    Raises:
        ParameterError: Counts not allowed, thresholds outside [0, 1], ``alpha`` outside (0, 1).
    """
    evidence = log_evidence(alpha)
    return np.asarray(log_truncated_mixture(successes, trials, thresholds) >= evidence)
