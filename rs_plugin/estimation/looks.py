"""When a sequential test stops, and when it looks next.

A confidence sequence holds however the number of draws was chosen, so a rule may use any ground, guesses included:
nothing here can make a certificate wrong, only dearer or rarer than need be.
"""

from __future__ import annotations

import math
from typing import Final

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
    check_positive_count,
    check_probabilities,
    shown,
)
from rs_plugin.estimation.one_sided import exceeds
from rs_plugin.estimation.search import first_true
from rs_plugin.estimation.sequential import log_truncated_mixture, wald_limit

#: Part of the key of a run that stops early: raised whenever the same votes would lead to other looks.
RULE_VERSION: Final = 2

#: A threshold is given up when the votes so far would have no more than this probability, were it to be shown.
_HOPELESS: Final = 0.01

#: How much of the predicted way to a decision is gone between two looks. The prediction is a guess: going all of it
#: would overshoot often, and looks are cheap.
_SHARE: Final = 0.25


class StoppingRule:
    """Decides for several thresholds ``p*`` at once whether ``p > p*`` is shown, or not worth further draws.

    *Shown* is ``exceeds``. *Given up* is a threshold that takes so many successes at the last draw, the ``N``-th, that
    the ``N - n`` to come would need a rate that the votes contradict: under a ``p`` of that rate so few successes as
    ``s`` have a probability of at most 0.01. (The tail of the binomial law is that of Beta(s + 1, n - s); its counts
    are shrunk by ``1 - n / N`` so that the spread of the draws to come is in it.) Evidence grows by about
    ``KL(p || p*)`` a draw, which tells how far a decision is; a quarter of that way lies between two looks, at least a
    block, at most as many draws as there are.

    Args:
        thresholds: ``p*`` in [0, 1], shape ``(thresholds,)``.
        limits: most draws ``N`` spent on each, same shape.
        alpha: failure probability over all times and thresholds, in (0, 1).
        block: unit of the draws, at least 1.

    Raises:
        ParameterError: thresholds outside [0, 1], limits that are not whole numbers above 0, ``alpha`` outside (0, 1).
    """

    def __init__(self, thresholds: ArrayLike, limits: ArrayLike, alpha: float, block: int) -> None:
        self._points = np.atleast_1d(check_probabilities("thresholds", thresholds))
        self._limits = np.atleast_1d(check_counts("limits", limits))
        if self._points.ndim != 1 or self._limits.shape != self._points.shape or not (self._limits >= 1).all():
            raise ParameterError(
                f"limits = {shown(limits)} must be as many whole numbers above 0 as there are thresholds"
            )
        self._alpha, self._block = check_alpha(alpha), check_positive_count("block", block)
        self._needed = np.array([self._least(p, n) for p, n in zip(self._points, self._limits, strict=True)])

    def next_look(self, successes: ArrayLike, trials: ArrayLike) -> IntArray:
        """Return the total of draws at which to look next; ``n`` itself, never 0, where it is time to stop.

        Args:
            successes: ``s``, integers of shape ``(...)``.
            trials: ``n``, same shape; 0 before the first look.

        Raises:
            ParameterError: counts not allowed.
        """
        s, n = (np.asarray(counts)[..., None] for counts in check_pair(successes, trials))
        undecided = ~(exceeds(s, n, self._points, self._alpha) | self._given_up(s, n)) | (n == 0)
        ahead = np.clip(_SHARE * self._missing(s, n), self._block, np.maximum(n, self._block))
        total = np.minimum(n + self._block * np.ceil(ahead / self._block).astype(np.int64), self._limits)
        return np.asarray(np.max(np.where(undecided, total, n), axis=-1))

    def _least(self, point: float, limit: int) -> int:
        """Return the successes that show the threshold at its last draw, one more than the draws if none do."""
        return first_true(lambda s: bool(exceeds(s, limit, point, self._alpha)), limit)

    def _given_up(self, s: IntArray, n: IntArray) -> BoolArray:
        left = self._limits - n
        ahead = np.maximum(left, 1)
        rate = np.clip((self._needed - s) / ahead, 0.0, 1.0)
        shrink = np.maximum(left, 0) / self._limits
        failures = np.where(s < n, (n - s) * shrink, 1.0)
        chance = np.where(s < n, special.betaincc(s * shrink + 1.0, failures, rate), 1.0)  # unanimous: all is open
        return np.asarray((left <= 0) | (self._needed - s > ahead) | (chance <= _HOPELESS))

    def _missing(self, s: IntArray, n: IntArray) -> FloatArray:
        """Return the draws until a decision, if ``p`` is what it looks like; finite."""
        # Half a success and half a failure more: unanimous draws do not make the divergence infinite at p* near 1.
        guess = (s + 0.5) / (n + 1.0)
        above = wald_limit(guess, self._points, self._alpha)  # log(1/alpha) / KL, for a test that begins now
        below = wald_limit(1.0 - guess, 1.0 - self._points, self._alpha)
        share = 1.0 + log_truncated_mixture(s, n, self._points) / math.log(self._alpha)  # of the evidence
        ahead = above * np.clip(share, 1e-300, 2.0)  # not 0: the limit may be infinite
        missing = np.where(guess > self._points, ahead, below)
        return np.where(np.isfinite(missing), missing, float(self._limits.max()))
