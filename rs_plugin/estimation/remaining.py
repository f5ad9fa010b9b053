"""How many draws a run still takes, from those that its images took so far."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import FloatArray, check_counts

_SPREAD: Final = 1.28  # of a normal law, four fifths lie within so many standard deviations


def draws_left(ended: ArrayLike, open_: ArrayLike, waiting: int, cap: int) -> tuple[float, float]:
    """Return a range in which the draws left in a run lie, four times in five or so.

    Images that are easy to decide end first, so the mean over those that have ended is too low for the others. Draws
    of an image are a life time here, those of open images are censored, and ``S(t)``, the share of images that takes
    more than ``t``, is estimated by E. L. Kaplan and P. Meier ("Nonparametric estimation from incomplete
    observations", Journal of the American Statistical Association 53 (1958)). An image that waits takes
    ``∫ S`` from 0 to ``cap``, one that is open at ``c`` takes ``∫ S / S(c)`` from ``c`` on.

    Nothing is known beyond the longest life seen. The lower end takes it that no image goes there, the upper end that
    one in ``ended + 1`` goes on to the cap. Each is moved outward by 1.28 standard deviations, of the lives to come and
    of their mean as it is known from ``ended`` images. A guess to plan with, no bound.

    Args:
        ended: draws that each image took which has ended, at least 1, shape ``(images,)``.
        open_: draws so far of each image that was begun, shape ``(images,)``.
        waiting: images that were not begun.
        cap: most draws of an image.

    Raises:
        ParameterError: counts not allowed, more draws than the cap.
    """
    lives, ages = (np.atleast_1d(check_counts(name, value)) for name, value in (("ended", ended), ("open", open_)))
    if max(lives.max(initial=0), ages.max(initial=0)) > cap or lives.min(initial=1) < 1:
        raise ParameterError(f"an image takes from 1 to cap = {cap} draws")
    seen = np.concatenate([lives, ages[ages > 0]])
    if not len(lives):  # all may go to the cap, and none need
        return 0.0, float((cap - ages).sum() + waiting * cap)
    censored = np.arange(len(seen)) >= len(lives)
    estimated = stats.ecdf(stats.CensoredData.right_censored(seen, censored)).sf
    times, shares = estimated.quantiles.astype(np.float64), np.asarray(estimated.probabilities)
    hopeful = np.where(times >= seen.max(), 0.0, shares)
    fearful = np.maximum(shares, 1.0 / (len(lives) + 1))
    least, most = (
        _left(times, values, ages.astype(np.float64), waiting, cap, len(lives)) for values in (hopeful, fearful)
    )
    limit = float((cap - ages).sum() + waiting * cap)
    low = max(0.0, least[0] - _SPREAD * least[1])
    return low, max(low, min(most[0] + _SPREAD * most[1], limit))


def _left(
    times: FloatArray, shares: FloatArray, ages: FloatArray, waiting: int, cap: int, known: int
) -> tuple[float, float]:
    """Return mean and standard deviation of the draws left, if a share ``shares[i]`` lives on from ``times[i]``.

    A life that is open at ``c`` goes on for a mean of ``∫ S / S(c)`` and a mean square of ``∫ 2 (t - c) S / S(c)``.
    """
    edges = np.concatenate([[0.0], times, [float(cap)]])
    heights = np.concatenate([[1.0], shares])
    begun = np.concatenate([ages, np.zeros(1)])  # the last is one that waits
    place = np.minimum(np.searchsorted(edges, begun, side="right") - 1, len(heights) - 1)
    alive = heights[place]
    first, second = (_from_each(heights * np.diff(edges**power) / power) for power in (1, 2))
    area = first[place] - heights[place] * (begun - edges[place])
    moment = second[place] - heights[place] * (begun**2 - edges[place] ** 2) / 2.0
    scale = np.where(alive > 0.0, alive, 1.0)
    mean = np.where(alive > 0.0, area / scale, 0.0)
    square = np.where(alive > 0.0, 2.0 * (moment - begun * area) / scale, 0.0)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0))
    times_each = np.concatenate([np.ones(len(ages)), [float(waiting)]])
    own, shared = float(times_each @ spread**2), float(times_each @ spread) ** 2 / known
    return float(times_each @ mean), math.sqrt(own + shared)


def _from_each(parts: FloatArray) -> FloatArray:
    """Return the sum of parts from each of them on."""
    return np.asarray(np.cumsum(parts[::-1])[::-1])
