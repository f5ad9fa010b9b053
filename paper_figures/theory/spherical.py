"""[Z], Proposition 4: for spherical noise the Linf ball of radius ``r`` is as hard as the L2 ball of radius ``√d r``.

Taken as the statement: where ``π0`` depends on ``‖z‖₂`` alone, ``D`` and with it every bound under Linf at ``r`` equals
that under L2 at ``√d r``. The Linf ball lies in that L2 ball and touches it at ``(r, …, r)``, a worst shift of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

import rs_plugin as rs
from paper_figures.families import Array, Family, legendre
from paper_figures.overlap import discrepancy_by_cubature
from paper_figures.theory.claims import row


def equivalence(
    ks: Sequence[float] = (0.0, 1.0, 1.8), lams: Sequence[float] = (0.5, 1.0, 2.0), radii: Sequence[float] = (0.1, 0.5)
) -> pd.DataFrame:
    """Compare ``D`` at ``(r, r)`` in the plane, by cubature, with the certificates under Linf and under L2 at ``√2 r``.

    Returns:
        Rows of ``claims.row``: claimed is the certificate under L2 at ``√2 r``, computed that under Linf at ``r``.
    """
    rows = []
    for k in ks:
        noise = rs.L2Exponential(k, 1.0)
        linf, l2 = rs.certificate(noise, "Linf", 2), rs.certificate(noise, "L2", 2)
        for radius in radii:
            for lam in lams:
                integral, error = discrepancy_by_cubature(Family.of(noise, 2), np.full(2, radius), lam)
                rows.append(
                    row(
                        "Proposition 4: D at (r, r)", noise=str(noise), dim=2, radius=radius, lam=lam,
                        claimed=l2.discrepancy(lam, math.sqrt(2.0) * radius), computed=linf.discrepancy(lam, radius),
                        independent=integral, error=error + 1e-6,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def required(
    dims: Sequence[int] = (5, 100, 3072), shares: Sequence[float] = (0.0, 0.3, 0.9),
    ratios: Sequence[float] = (0.1, 0.5, 1.5),
) -> pd.DataFrame:  # fmt: skip
    """Compare ``p*`` under Linf at ``r`` with that under L2 at ``√d r``, in more dimensions.

    Args:
        dims: ``d``.
        shares: ``k / d``.
        ratios: ``√d r`` in units of the noise's root mean square per coordinate.

    Returns:
        Rows of ``claims.row``: independent sorts ``π_δ / π0`` over nodes of radius and angle, with an error
        of four times its change with their number, which falls at least like 1 / nodes; for ``k = 0`` claimed is
        Eq. 8's ``Φ(√d r / σ)``, else the certificate under L2.
    """
    rows = []
    for dim in dims:
        for share in shares:
            noise = rs.L2Exponential(share * dim, 1.0)
            rms = math.sqrt(noise.second_moment(dim))
            linf, l2 = rs.certificate(noise, "Linf", dim), rs.certificate(noise, "L2", dim)
            for ratio in ratios:
                size = ratio * rms
                fine, rough = (required_by_sorting(*ray_cells(noise, dim, size, count)) for count in (64, 48))
                claimed = float(special.ndtr(size)) if share == 0.0 else l2.required_probability(size)
                rows.append(
                    row(
                        "Proposition 4: p* under Linf", noise=str(noise), dim=dim, radius=size / math.sqrt(dim),
                        claimed=claimed, computed=linf.required_probability(size / math.sqrt(dim)), independent=fine,
                        error=4.0 * abs(fine - rough) + 5e-6,
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def ray_cells(noise: rs.NormExponential, dim: int, size: float, panels: int) -> tuple[Array, Array]:
    """Return masses under ``π0`` and ``π_δ``, ``‖δ‖₂ = size``, of nodes of radius and angle of spherical noise.

    ``‖z‖₂`` and ``(1 + cos θ)/2 ~ Beta((d-1)/2, (d-1)/2)`` are independent; 8 nodes in each of ``panels`` equal parts
    of either's probability.
    """
    nodes, weights = legendre(8)
    u = ((np.arange(panels)[:, None] + nodes) / panels).ravel()
    mass = np.tile(weights, panels) / panels
    level = special.gammaincinv((dim - noise.k) / noise.power, u)
    radius = np.asarray(noise.length_scale * level ** (1.0 / noise.power))
    half = (dim - 1) / 2.0
    cosine = 2.0 * special.betaincinv(half, half, u) - 1.0
    square = radius[:, None] ** 2
    shifted = square - 2.0 * size * radius[:, None] * cosine + size * size
    ratio = (square ** (noise.power / 2.0) - shifted ** (noise.power / 2.0)) / noise.scale
    ratio -= 0.5 * noise.k * np.log(shifted / square)
    both = np.outer(mass, mass)
    return np.asarray(both.ravel()), np.asarray((both * np.exp(ratio)).ravel())


def required_by_sorting(mass: Array, shifted: Array) -> float:
    """Return ``p*``: cells are taken in the order of ``π_δ / π0`` until ``π_δ`` has 1/2, the last one in part."""
    order = np.argsort(shifted / mass, kind="stable")
    held = np.cumsum(shifted[order])
    last = int(np.searchsorted(held, 0.5))
    part = (held[last] - 0.5) / shifted[order[last]]
    return float(mass[order[: last + 1]].sum() - part * mass[order[last]])
