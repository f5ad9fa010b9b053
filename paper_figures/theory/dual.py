"""The dual of [Z] Eq. 6, drawn: ``λ p - D(λ; r)`` against ``λ``, whose highest point is the bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, lines, styled


def compute(
    noise: str = "gaussian(sigma=1)",
    threat: str = "L2",
    dim: int = 1,
    radius: float = 0.8,
    ps: Sequence[float] = (0.6, 0.8, 0.95),
    most: float = 6.0,
    points: int = 121,
) -> pd.DataFrame:
    """Return the dual function on a grid of ``λ``.

    Args:
        noise: as ``parse_noise`` takes it.
        threat: of the ball.
        dim: ``d``.
        radius: ``r``, in input units.
        ps: probabilities at the centre.
        most: ``λ`` runs from 0 to this.
        points: of the grid.

    Returns:
        Columns p, lam, value (``λ p - D(λ; r)``) and bound, the certificate's ``L(p; r)``.
    """
    certificate = rs.certificate(rs.parse_noise(noise), threat, dim)
    lams = np.linspace(0.0, most, points)
    found = np.array([0.0, *(certificate.discrepancy(float(lam), radius) for lam in lams[1:])])
    frames = [
        pd.DataFrame({"p": p, "lam": lams, "value": lams * p - found, "bound": certificate.lower_bound(p, radius)})
        for p in ps
    ]
    return pd.concat(frames, ignore_index=True)


def highest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return, for each ``p``, the ``λ`` of the grid at which the dual is highest, its value there, and the bound."""
    top = frame.loc[frame.groupby("p", sort=False)["value"].idxmax()]
    return top.rename(columns={"value": "highest"}).reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Return one panel: a curve for each ``p``, its highest point marked."""
    groups = list(frame.groupby("p", sort=False))
    top = highest(frame).set_index("p")
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for line, (p, group) in zip(lines(len(groups)), groups, strict=True):
            peak = top.loc[p]
            label = f"$p={p:g}$: highest {peak['highest']:.3f} at $\\lambda={peak['lam']:.2f}$"
            axes.plot(group["lam"], group["value"], color=line.color, linestyle=line.linestyle, label=label)
            axes.plot(peak["lam"], peak["highest"], "o", color=line.color)
        axes.axhline(0.5, color="0.4", linewidth=0.8)
        axes.set_xlim(0.0, float(frame["lam"].max()))
        axes.set_ylim(-0.5, 1.0)
        axes.set_xlabel(r"$\lambda$")
        axes.set_ylabel(r"$\lambda p - D(\lambda; r)$")
        figure.legend(loc="outside right center")
        return figure
