"""What Linf asks for at the size of ImageNet, ``d = 150 528``, and why no family of [Z] gets around it.

A certificate at ``r`` needs ``p > p*(r)``. ``n`` draws that all answer alike prove ``p > α^{1/n}`` and no more.
Whatever the noise, ``f(x) = 1(Σ x_i <= d r)`` has probability 1/2 at the shift ``(r, …, r)``, by symmetry, so that
``p* >= P(Σ z_i <= d r)``: near ``Φ(√d r / rms)`` for every noise of uncorrelated coordinates of one root mean square,
by the central limit theorem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

import rs_plugin as rs
from paper_figures.families import legendre
from paper_figures.theory.claims import row

IMAGENET = 3 * 224 * 224


def compute(
    dim: int = IMAGENET, radius: float = 2.0 / 255.0, levels: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    shares: Sequence[float] = (0.0, 0.01, 0.1), n: int = 100_000, alpha: float = 1e-3,
) -> pd.DataFrame:  # fmt: skip
    """Compare ``p*`` of every family with what the classifier ``Σ x_i <= d r`` alone requires.

    Args:
        dim: ``d``.
        radius: ``r`` in the Linf norm, pixels in [0, 1].
        levels: root mean square of one coordinate of the noise, in pixels.
        shares: ``k / d``; Gaussian and Laplace noise are ``k = 0`` of Eqs. 11 and 10.
        n: draws of one image.
        alpha: failure probability of one image.

    Returns:
        Rows of ``claims.row`` and the columns log10_missing (of ``1 - p*``), draws (the fewest that can prove
        ``p > p*``, all answers alike), in_reach (no more than ``n``), tight (the certificate is exact; for Eq. 10 it
        comes from the L1 ball of radius ``d r`` around this ball) and limit: ``p*`` at the shift ``(r, …, r)`` for
        large ``d``, ``Φ(√d r √I)`` with Fisher information ``I`` per coordinate of ``1/rms²`` for Eq. 11 and
        ``2/rms²`` for Eq. 10, and ``1 - e^{-a}/2``, ``a = d r / (√3 rms)``, for Eq. 12 (module ``cube``). Claimed is
        ``Φ(√d r / rms)``, which ``p*`` reaches or exceeds: ``P(Σ z_i <= d r)`` in the limit of large ``d``. Independent
        is that probability for Eq. 11; for others there is none.
    """
    rows = []
    for level in levels:
        size = math.sqrt(dim) * radius / level
        for share in shares:
            k = round(share * dim)
            members: tuple[tuple[str, rs.SmoothingDistribution], ...] = (
                ("Eq. 10", rs.L1Exponential(k, 1.0)), ("Eq. 11", rs.L2Exponential(k, 1.0)),
                ("Eq. 12", rs.LinfExponential(k, 1.0)), ("Eq. 13", rs.MixedNorm(k, 1.0)),
            )  # fmt: skip
            for equation, unit in members:
                noise = unit.with_second_moment(level**2, dim)
                required = rs.certificate(noise, "Linf", dim).required_probability(radius)
                half_space = _half_space(dim, k, size) if equation == "Eq. 11" else None
                draws = math.log(alpha) / math.log(required) if required < 1.0 else math.inf
                rows.append(
                    row(
                        "Linf at 2/255 in 150 528 dimensions" if dim == IMAGENET else f"Linf in {dim} dimensions",
                        noise=equation, dim=dim, k=k, rms=level, radius=radius,
                        log10_missing=math.log10(1.0 - required) if required < 1.0 else -math.inf,
                        draws=math.ceil(draws) if math.isfinite(draws) else math.inf, in_reach=draws <= n,
                        tight=equation != "Eq. 10", limit=_limit(equation, dim, size), relation=">=",
                        claimed=float(special.ndtr(size)), computed=required, independent=half_space,
                        error=2.0 * float(special.ndtr(-size)) * (1.0 + size**4) / (dim - k) + 1e-12,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def _limit(equation: str, dim: int, size: float) -> float:
    """Return ``p*`` at ``(r, …, r)`` for large ``d``; of Eq. 13 none is known here."""
    if equation == "Eq. 12":
        return 1.0 - 0.5 * math.exp(-size * math.sqrt(dim / 3.0))
    information = {"Eq. 10": 2.0, "Eq. 11": 1.0, "Eq. 13": math.nan}[equation]
    return float(special.ndtr(size * math.sqrt(information)))


def _half_space(dim: int, k: float, size: float) -> float:
    """Return ``P(Σ z_i <= d r)`` for Eq. 11: a mean over the radius of the law of one coordinate of the direction.

    ``size`` is ``√d r`` in root mean squares of a coordinate; ``Σ z_i / √d`` is ``‖z‖₂ cos θ``, and
    ``‖z‖₂² = 2 σ² Gamma((d-k)/2)`` with ``σ² (d-k)/d`` the mean square.
    """
    nodes, weights = legendre(8)
    u = ((np.arange(64)[:, None] + nodes) / 64).ravel()
    shape = (dim - k) / 2.0
    square = dim * special.gammaincinv(shape, u) / shape  # of ‖z‖₂, in mean squares of a coordinate
    share = np.minimum(size**2 / square, 1.0)
    beyond = 0.5 * special.betainc((dim - 1) / 2.0, 0.5, 1.0 - share)
    return 1.0 - float(np.tile(weights, 64) @ beyond) / 64
