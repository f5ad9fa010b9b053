"""When tests of confidence sequences look."""

from __future__ import annotations

import math

import numpy as np


def geometric(first: int, cap: int) -> np.ndarray:
    """Return totals of draws, each a quarter more than the one before, in multiples of ``first``, up to ``cap``."""
    totals = [first]
    while totals[-1] < cap:
        blocks = totals[-1] // first
        totals.append(min(first * max(blocks + 1, math.ceil(1.25 * blocks)), cap))
    return np.array(totals)
