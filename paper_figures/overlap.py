"""The discrepancy by adaptive cubature of the overlap, from the two densities alone, in one or two dimensions."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import integrate

from paper_figures.families import Array, Family

_CUT = 40.0  # the integral ends where the exponential part of the density has fallen to e^{-40}
_TOLERANCE = {1: 1e-10, 2: 1e-6}  # of one panel, by dimension


def discrepancy_by_cubature(family: Family, shift: Array, lam: float) -> tuple[float, float]:
    """Return ``λ - ∫ min(λ π0, π_δ)`` and three times scipy's estimate of its error, which kinks can mislead.

    The overlap is bounded and continuous also where either density is infinite. The plane is cut at both centres.
    """
    if family.dim > 2:
        raise ValueError(f"cubature is for one or two dimensions, not {family.dim}")
    constant = family.log_normaliser()

    def overlap(z: Array) -> Array:
        centred = np.log(lam) + family.log_kernel(z)
        return np.asarray(np.exp(np.minimum(centred, family.log_kernel(z - shift)) - constant))

    reach = 2.0 * (_CUT * family.scale) ** (1.0 / family.power)
    cuts = [sorted({-reach, 0.0, float(at), reach}) for at in shift]
    total = error = 0.0
    for panel in itertools.product(*(itertools.pairwise(edges) for edges in cuts)):
        low, high = np.array(panel, dtype=np.float64).T
        tolerance = {"atol": _TOLERANCE[family.dim], "rtol": 1e-11, "max_subdivisions": 500}
        found = integrate.cubature(overlap, low, high, rule="gk21", **tolerance)
        total += float(found.estimate)
        error += float(found.error)
    return lam - total, 3.0 * error
