"""[Z], Figure 1: the density of ``‖z‖₂`` for the noise of Eq. 11 in high dimension.

``‖z‖₂`` has density ``∝ s^{d-k-1} exp(-s² / 2σ²)``. A growing ``k`` moves its mean towards 0 and leaves its spread at
``σ / √2``; a falling ``σ`` shrinks both. The ``σ`` on the right are by default those that give the second moment of the
``k`` on the left, so that curves of one style are to be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, lines, styled

GROWING_K, FALLING_SIGMA = "k grows", "sigma falls"


def compute(
    dim: int = 100,
    sigma: float = 1.0,
    ks: Sequence[float] = (0, 20, 40, 60, 80),
    sigmas: Sequence[float] | None = None,
    points: int = 400,
) -> pd.DataFrame:
    """Return the densities, one row per point of a curve.

    Args:
        dim: ``d``.
        sigma: ``σ`` of the curves with growing ``k``, in input units.
        ks: exponents, ``0 <= k < dim``.
        sigmas: widths of the curves with ``k = 0``; by default ``σ √(1 - k/d)``, the second moments of ``ks``.
        points: of each curve.

    Returns:
        Columns panel, k, sigma, radius (``s``), density (1 / input unit), mean and spread (standard deviation) of
        ``‖z‖₂`` in input units.
    """
    widths = [sigma * math.sqrt(1.0 - k / dim) for k in ks] if sigmas is None else list(sigmas)
    members = [(GROWING_K, float(k), sigma) for k in ks] + [(FALLING_SIGMA, 0.0, float(width)) for width in widths]
    far = max(float(rs.L2Exponential(k, width).radial_law(dim).ppf(1.0 - 1e-6)) for _, k, width in members)
    radius = np.linspace(0.0, far, points)
    frames = []
    for panel, k, width in members:
        law = rs.L2Exponential(k, width).radial_law(dim)
        curve = {"panel": panel, "k": k, "sigma": width, "radius": radius, "density": law.pdf(radius)}
        frames.append(pd.DataFrame({**curve, "mean": float(law.mean()), "spread": float(law.std())}))
    return pd.concat(frames, ignore_index=True)


def shell(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean, spread and their ratio, one row per curve of ``compute``."""
    facts = frame[["panel", "k", "sigma", "mean", "spread"]].drop_duplicates(ignore_index=True)
    return facts.assign(relative_spread=facts["spread"] / facts["mean"])


def draw(frame: pd.DataFrame) -> Figure:
    """Return two panels side by side: ``k`` growing, ``σ`` falling; ``k = 0`` of the first in black."""
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.9), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, (name, group) in zip(panels, frame.groupby("panel", sort=False), strict=True):
            curves = list(group.groupby(["k", "sigma"], sort=False))
            for line, ((k, width), curve) in zip(lines(len(curves)), curves, strict=True):
                label = f"$k={k:g}$" if name == GROWING_K else rf"$\sigma={width:.3g}$"
                label += f"  (mean {curve['mean'].iloc[0]:.2f}, sd {curve['spread'].iloc[0]:.2f})"
                seen = np.flatnonzero(curve["density"] > 0.01 * curve["density"].max())
                axes.plot(
                    curve["radius"], curve["density"], color=line.color, linestyle=line.linestyle, marker=line.marker,
                    markersize=3.5, markevery=list(seen[:: max(1, len(seen) // 9)]), label=label,
                )  # fmt: skip
            fixed = rf"$\sigma={curves[0][0][1]:g}$" if name == GROWING_K else "$k=0$"
            axes.set_title(f"{'$k$ grows' if name == GROWING_K else r'$σ$ falls'}, {fixed}")
            axes.set_xlabel(r"$\|z\|_2$ (input units)")
            axes.legend(loc="upper left", borderaxespad=0.2, labelspacing=0.35)
        highest = float(frame["density"].max())
        panels[0].set_ylabel("density (1 / input unit)")
        panels[0].set_xlim(0.0, float(frame["radius"].max()))
        panels[0].set_ylim(0.0, 1.75 * highest)  # the legend stands above the curves
        panels[0].set_yticks([tick for tick in panels[0].get_yticks() if tick <= 1.1 * highest])
        return figure
