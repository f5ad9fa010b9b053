"""[Z], Figure 2: the overlap of ``λ π0`` and ``π_δ`` in two dimensions, for Eq. 11 and Eq. 13 under Linf.

The discrepancy ``D(λ; r) = ∫ (λ π0 - π_δ)_+ = λ - ∫ min(λ π0, π_δ)`` is what the overlap leaves of ``λ``. It is
computed twice: by the certificate, from the law of the log likelihood ratio, and here by integration over the plane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import special

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, styled
from paper_figures.families import Family
from paper_figures.overlap import discrepancy_by_cubature

NOISES: Mapping[str, type[rs.L2Exponential] | type[rs.MixedNorm]] = {"Eq. 11": rs.L2Exponential, "Eq. 13": rs.MixedNorm}

SHIFTED = "#b35806"  # of the lines of π_δ, which are dashed as well


def compute(
    k: float = 1.0, sigma: float = 1.0, radius: float = 0.5, lam: float = 1.0, reach: float = 2.5, points: int = 240
) -> pd.DataFrame:
    """Return the two densities on a square grid, and the discrepancy.

    Args:
        k: exponent, ``0 <= k < 2``.
        sigma: in input units.
        radius: ``r`` of the Linf ball; ``δ = (r, r)``.
        lam: ``λ``.
        reach: the grid spans ``[-reach, reach]²``, in input units.
        points: of the grid, along each axis; even, so that no point is the origin.

    Returns:
        Columns family, k, sigma, radius, lam, x, y, centred (``λ π0``), shifted (``π_δ``), overlap (their minimum), and
        of each family discrepancy (certificate), integral (plane) and error (what the integral may be off by).
    """
    if points % 2:
        raise ValueError(f"points must be even, not {points}: the densities are infinite at the origin")
    axis = np.linspace(-reach, reach, points)
    grid = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1).reshape(-1, 2)
    shift = np.full(2, radius)
    frames = []
    for name, kind in NOISES.items():
        family = Family.of(kind(k, sigma), 2)
        constant = family.log_normaliser()
        centred = lam * np.exp(family.log_kernel(grid) - constant)
        shifted = np.exp(family.log_kernel(grid - shift) - constant)
        integral, error = discrepancy_by_cubature(family, shift, lam)
        columns = {
            "family": name, "k": k, "sigma": sigma, "radius": radius, "lam": lam, "x": grid[:, 0], "y": grid[:, 1],
            "centred": centred, "shifted": shifted, "overlap": np.minimum(centred, shifted),
            "discrepancy": rs.certificate(kind(k, sigma), "Linf", 2).discrepancy(lam, radius),
            "integral": integral, "error": error,
        }  # fmt: skip
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def compare(
    ks: Sequence[float] = (0.5, 1.0, 1.8),
    radii: Sequence[float] = (0.1, 0.5, 1.0),
    lams: Sequence[float] = (0.5, 1.0, 2.0),
) -> pd.DataFrame:
    """Ask which family has the smaller discrepancy at the same ``k`` and ``σ = 1``; the law of ``‖z‖₂`` is one.

    Returns:
        Columns k, radius, lam, ``Eq. 11`` and ``Eq. 13`` (certificates), ``integral Eq. 11`` and ``integral Eq. 13``
        (plane), error (of the latter two together) and smaller: the family, or "neither" within the error.
    """
    rows = []
    for k in ks:
        for radius in radii:
            for lam in lams:
                found: dict[str, Any] = {"k": k, "radius": radius, "lam": lam, "error": 1e-6}
                for name, kind in NOISES.items():
                    noise = kind(k, 1.0)
                    integral, error = discrepancy_by_cubature(Family.of(noise, 2), np.full(2, radius), lam)
                    found[name] = rs.certificate(noise, "Linf", 2).discrepancy(lam, radius)
                    found[f"integral {name}"] = integral
                    found["error"] += error
                gap = found["Eq. 13"] - found["Eq. 11"]
                smaller = "Eq. 11" if gap > 0.0 else "Eq. 13"
                rows.append({**found, "smaller": smaller if abs(gap) > found["error"] else "neither"})
    return pd.DataFrame(rows)


def required(ks: Sequence[float] = (0.5, 1.0, 1.8), radii: Sequence[float] = (0.1, 0.5, 1.0)) -> pd.DataFrame:
    """Ask the same of ``p*(r)``, which takes the ``λ`` that is best for each: what a certificate needs.

    Returns:
        Columns k, radius, ``Eq. 11`` and ``Eq. 13`` (``p*``, ``σ = 1``, ``d = 2``), less (the family that needs less,
        or "neither" within 2e-6, to which certificates are rounded up) and gaussian: ``Φ(√2 r / σ)`` of the Gaussian of
        their second moment, ``σ² = (2 - k)/2``.
    """
    rows = []
    for k in ks:
        for radius in radii:
            found = {
                name: float(rs.certificate(kind(k, 1.0), "Linf", 2).required_probability(radius))
                for name, kind in NOISES.items()
            }
            gap = found["Eq. 13"] - found["Eq. 11"]
            less = "neither" if abs(gap) <= 2e-6 else "Eq. 11" if gap > 0.0 else "Eq. 13"
            gaussian = float(special.ndtr(2.0 * radius / math.sqrt(2.0 - k)))
            rows.append({"k": k, "radius": radius, **found, "less": less, "gaussian": gaussian})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per family: shades of the overlap, level lines of both densities, the discrepancy in numbers."""
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 3.9), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        groups = list(frame.groupby("family", sort=False))
        levels = float(frame["overlap"].max()) * 0.5 ** np.arange(5.0)[::-1]
        for axes, (name, group) in zip(panels, groups, strict=True):
            first = group.iloc[0]
            axis = np.unique(group["x"])
            table = group[["centred", "shifted", "overlap"]].to_numpy().T.reshape(3, len(axis), len(axis))
            centred, shifted, overlap = table
            filled = axes.contourf(axis, axis, overlap, levels=levels, colors=["0.93", "0.82", "0.7", "0.55"])
            axes.contour(axis, axis, centred, levels=levels, colors="black", linewidths=1.0)
            axes.contour(axis, axis, shifted, levels=levels, colors=SHIFTED, linewidths=1.2, linestyles="--")
            arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (first["radius"], first["radius"]), (0.0, 0.0), arrowprops=arrow)
            axes.set_title(
                f"{name}, $k={first['k']:g}$, $\\sigma={first['sigma']:g}$\n"
                f"$D$ = {first['discrepancy']:.4f} (certificate), {first['integral']:.4f} (plane)"
            )
            axes.set_xlabel("$z_1$ (input units)")
            axes.set_aspect("equal")
        panels[0].set_ylabel("$z_2$ (input units)")
        first = frame.iloc[0]
        label = r"overlap $\min(\lambda\pi_0, \pi_\delta)$"
        figure.colorbar(filled, ax=list(panels), label=label, shrink=0.8, format="%.2f")
        handles = [
            Line2D([], [], color="black", label=r"$\lambda\pi_0$"),
            Line2D([], [], color=SHIFTED, linestyle="--", label=r"$\pi_\delta$"),
            Patch(facecolor="0.7", label="overlap, at the same levels"),
        ]
        title = rf"$\delta=({first['radius']:g}, {first['radius']:g})$, $\lambda={first['lam']:g}$"
        figure.legend(handles=handles, loc="outside lower center", ncols=3, title=title, title_fontsize=9)
        return figure
