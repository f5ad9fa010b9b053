"""Mass at the centre and in the tails: what [Z], Section 4, asks of a good noise.

Taken as the statement, in this project's words: a good noise is centripetal, with more mass near 0 than Gaussian noise,
and heavy-tailed, and ``k > 0`` makes it so. "More" needs a common size: noises are compared at the second moment per
coordinate of Gaussian noise of width 1. Tails are measured by the kurtosis of one coordinate, 3 for a Gaussian, and by
the radius. ``helps`` asks what a certificate gains by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special

import rs_plugin as rs
from paper_figures.families import Family
from paper_figures.theory.claims import row
from paper_figures.theory.spherical import ray_cells, required_by_sorting

GAUSSIAN_KURTOSIS = 3.0

KINDS: dict[str, type[Any]] = {
    "Eq. 10": rs.L1Exponential, "Eq. 11": rs.L2Exponential, "Eq. 12": rs.LinfExponential, "Eq. 13": rs.MixedNorm,
}  # fmt: skip


def kurtosis(
    dim: int = 5, ks: Sequence[float] = (0.0, 1.0, 2.0, 4.0), draws: int = 400_000, seed: int = 0
) -> pd.DataFrame:
    """Compare the kurtosis ``E z_1⁴ / (E z_1²)²`` of every family with that of a Gaussian, in ``dim <= 5`` dimensions.

    Returns:
        Rows of ``claims.row``: claimed is 3, and to be heavy-tailed is to have no less. Computed by integration over
        rays, independent from draws of the package; the error is five standard errors of the latter.
    """
    rows = []
    for equation, kind in KINDS.items():
        for k in ks:
            family = Family.of(kind(k, 1.0), dim)
            fourth = family.moment(lambda w: np.mean(w**4, axis=-1), 4.0)
            exact = fourth / family.moment(lambda w: np.mean(w**2, axis=-1), 2.0) ** 2
            sample, doubt = _sampled_kurtosis(kind(k, 1.0), dim, draws, seed)
            rows.append(
                row(
                    "Section 4: heavy tails, kurtosis of a coordinate", noise=equation, dim=dim, k=k, relation=">=",
                    claimed=GAUSSIAN_KURTOSIS, computed=exact, independent=sample, error=5.0 * doubt,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def spherical_kurtosis(
    dims: Sequence[int] = (5, 100, 3072, 150_528), shares: Sequence[float] = (0.0, 0.08, 0.5, 0.99)
) -> pd.DataFrame:
    """Compare the kurtosis of a coordinate under Eq. 11, ``3 d (d-k+2) / ((d+2)(d-k))``, with moments of the radius.

    Returns:
        Rows of ``claims.row``, and a column excess, kurtosis less 3: what ``k`` adds to the tails of a coordinate.
        Computed from the package's law of the radius, independent by Gamma functions.
    """
    rows = []
    for dim in dims:
        for share in shares:
            k = share * dim
            law = rs.L2Exponential(k, 1.0).radial_law(dim)
            shape = (dim - k) / 2.0
            direction = 3.0 * dim / (dim + 2.0)  # E u_1⁴ / (E u_1²)² of a uniform direction
            fourth, second = (special.poch(shape, order) for order in (2, 1))
            closed = 3.0 * dim * (dim - k + 2.0) / ((dim + 2.0) * (dim - k))
            rows.append(
                row(
                    "Section 4: kurtosis under Eq. 11", noise="Eq. 11", dim=dim, k=k, excess=closed - 3.0,
                    claimed=closed,
                    computed=direction * float(law.moment(4)) / float(law.moment(2)) ** 2,
                    independent=direction * fourth / second**2, error=1e-9 * closed,
                )
            )  # fmt: skip
    return pd.DataFrame(rows)


def centre(
    dims: Sequence[int] = (5, 100, 3072), shares: Sequence[float] = (0.3, 0.6, 0.9), probability: float = 0.01
) -> pd.DataFrame:
    """Compare the mass of Eq. 11 within, and beyond, the radii where Gaussian noise of its second moment has little.

    Returns:
        Rows of ``claims.row``: claimed is ``probability``, which the Gaussian has within its lower quantile and beyond
        its upper one, and to be centripetal and heavy-tailed is to have no less there. Computed from the package's law
        of the radius, independent by Gamma functions.
    """
    rows = []
    for dim in dims:
        gaussian = rs.Gaussian(1.0).radial_law(dim)
        ends = {"within": float(gaussian.ppf(probability)), "beyond": float(gaussian.isf(probability))}
        for share in shares:
            k = share * dim
            noise = rs.L2Exponential(k, math.sqrt(1.0 / (1.0 - share)))
            law, shape = noise.radial_law(dim), (dim - k) / 2.0
            for side, radius in ends.items():
                level = radius**2 * (1.0 - share) / 2.0
                computed = law.cdf(radius) if side == "within" else law.sf(radius)
                gamma = special.gammainc if side == "within" else special.gammaincc
                rows.append(
                    row(
                        f"Section 4: mass {side} a Gaussian's {probability:g} quantile", noise="Eq. 11", dim=dim, k=k,
                        relation=">=", claimed=probability, computed=float(computed),
                        independent=float(gamma(shape, level)), error=1e-9,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def helps(
    dims: Sequence[int] = (5, 100, 3072), shares: Sequence[float] = (0.08, 0.3, 0.6, 0.9),
    ratios: Sequence[float] = (0.1, 0.5, 1.5),
) -> pd.DataFrame:  # fmt: skip
    """Ask whether ``k > 0`` lowers ``p*`` under L2 at equal second moment.

    Args:
        dims: ``d``.
        shares: ``k / d``.
        ratios: ``r`` in units of the root mean square of a coordinate.

    Returns:
        Rows of ``claims.row``: claimed is Gaussian noise's ``Φ(r/σ)``, and to help is to need no more. Computed from
        the certificate, independent by sorting nodes of radius and angle.
    """
    rows = []
    for dim in dims:
        for share in shares:
            noise = rs.L2Exponential(share * dim, math.sqrt(1.0 / (1.0 - share)))
            certificate = rs.certificate(noise, "L2", dim)
            for ratio in ratios:
                fine, rough = (required_by_sorting(*ray_cells(noise, dim, ratio, count)) for count in (64, 48))
                rows.append(
                    row(
                        "k > 0 needs no more probability at equal second moment", noise="Eq. 11", dim=dim,
                        k=share * dim, radius=ratio, relation="<=", claimed=float(special.ndtr(ratio)),
                        computed=certificate.required_probability(ratio), independent=fine,
                        error=4.0 * abs(fine - rough) + 5e-6,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def _sampled_kurtosis(noise: rs.SmoothingDistribution, dim: int, draws: int, seed: int) -> tuple[float, float]:
    """Return the kurtosis of draws, coordinates pooled, and its standard error by the delta method."""
    z = noise.sample((draws, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
    second, fourth = np.mean(z**2, axis=1), np.mean(z**4, axis=1)
    value = float(fourth.mean() / second.mean() ** 2)
    influence = fourth / second.mean() ** 2 - 2.0 * value * second / second.mean()
    return value, float(influence.std() / math.sqrt(draws))
