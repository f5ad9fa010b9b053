"""A Monte-Carlo dual for the noises of the tables: one set of draws for each family and exponent.

It is [Z]'s, made to hold for 64 radii and 48 values of λ at once, so that all cells of a table share one failure
probability. Lengths scale: a certificate of one member of a family serves every scale of it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import torch

import rs_plugin as rs
from paper_figures.families import Array
from paper_figures.scales import family_of, of_scale, rms
from rs_plugin.distributions import SmoothingDistribution

SEED: Final = 0  # of the draws


def required(noise: SmoothingDistribution, threat: str, dim: int, radii: Array, share: float, draws: int) -> Array:
    """Return ``p*`` by the dual at each radius.

    Args:
        noise: of one of the families of the tables.
        threat: ``"L1"``, ``"L2"`` or ``"Linf"``.
        dim: ``d``.
        radii: in input units.
        share: failure probability of all of it together.
        draws: that estimate the discrepancy.
    """
    unit, of_unit = _unit(*family_of(noise), threat, dim, share, draws)
    size = rms(noise, dim) / rms(unit, dim)
    return np.asarray(of_unit.required_probability(radii / size * (1.0 + 1e-12)))  # no rounding shortens a radius


def single(share: float, draws: int) -> float:
    """Return what Hoeffding's inequality adds to ``p*`` for one ``λ`` and one radius: ``√(log(2/δ) / 2n)``.

    [Z], Section 4.2, bounds the mean of ``(λ - e^ℓ)_+``, which lies in [0, λ], so. On average over the draws the dual
    then asks for ``p*`` and this much, had the best ``λ`` been known.

    Args:
        share: ``δ``.
        draws: ``n``.
    """
    return math.sqrt(math.log(2.0 / share) / (2.0 * draws))


@lru_cache(maxsize=16)
def _unit(
    family: str, k: float, threat: str, dim: int, share: float, draws: int
) -> tuple[SmoothingDistribution, rs.Certificate]:
    unit = of_scale(family, k, 1.0, dim)
    generator = torch.Generator().manual_seed(SEED)
    return unit, rs.certificate(unit, threat, dim, "dual", n=draws, alpha=share, generator=generator)
