"""Gauss rules in thirty digits, which the oracles of several tests share."""

from __future__ import annotations

from functools import lru_cache

import mpmath as mp
import numpy as np


@lru_cache
def legendre(order: int) -> list[tuple[mp.mpf, mp.mpf]]:
    """Nodes and weights of the Gauss rule on [0, 1], in 30 digits."""
    with mp.workdps(30):
        x = [mp.findroot(lambda t: mp.legendre(order, t), node) for node in np.polynomial.legendre.leggauss(order)[0]]
        slopes = [order * (mp.legendre(order - 1, t) - t * mp.legendre(order, t)) / (1 - t * t) for t in x]
        return [((1 + t) / 2, 1 / ((1 - t * t) * slope**2)) for t, slope in zip(x, slopes, strict=True)]
