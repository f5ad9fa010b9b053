"""Noises of one size: the root mean square of a coordinate is what all families have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import rs_plugin as rs
from rs_plugin.distributions import SmoothingDistribution

FAMILIES: Final[Mapping[str, type[Any]]] = {
    "l1_exponential": rs.L1Exponential, "l2_exponential": rs.L2Exponential, "mixed_norm": rs.MixedNorm,
}  # fmt: skip


def family_of(noise: SmoothingDistribution) -> tuple[str, float]:
    """Return the name of a noise's family and its exponent ``k``.

    Raises:
        TypeError: the noise is of none of the three families.
    """
    for name, kind in FAMILIES.items():
        if isinstance(noise, kind):
            return name, noise.k
    raise TypeError(f"{noise} is of none of the families {', '.join(FAMILIES)}")


def rms(noise: SmoothingDistribution, dim: int) -> float:
    """Return the root mean square of a coordinate in ``dim`` dimensions, in input units."""
    return math.sqrt(noise.second_moment(dim))


def of_scale(family: str, k: float, wanted: float, dim: int) -> SmoothingDistribution:
    """Return a family's member with exponent ``k`` and root mean square ``wanted`` per coordinate.

    Args:
        family: ``"l1_exponential"`` (Eq. 10), ``"l2_exponential"`` (Eq. 11) or ``"mixed_norm"`` (Eq. 13).
        k: exponent; with 0 the noise has its plain name, Laplace or Gaussian.
        wanted: in input units.
        dim: ``d``.
    """
    if k == 0:
        return rs.Laplace(wanted / math.sqrt(2.0)) if family == "l1_exponential" else rs.Gaussian(wanted)
    scale = "b" if family == "l1_exponential" else "sigma"
    unit = rs.parse_noise(f"{family}(k={k:g}, {scale}=1)")
    return rs.parse_noise(f"{family}(k={k:g}, {scale}={wanted / rms(unit, dim):.6g})")
