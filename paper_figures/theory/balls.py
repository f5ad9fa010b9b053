"""Theorems 2 and 3, drawn in the plane: ``D(λ; δ)`` over all shifts, the attack's ball and the worst shift in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, styled
from paper_figures.families import Array, Family, discrepancy

#: The pairs of the theorems, by the equation of the noise.
PAIRS: dict[str, tuple[type[Any], str]] = {
    "Eq. 10": (rs.L1Exponential, "L1"), "Eq. 11": (rs.L2Exponential, "L2"), "Eq. 13": (rs.MixedNorm, "Linf"),
}  # fmt: skip


def compute(
    k: float = 1.0, lam: float = 1.0, radius: float = 0.6, reach: float = 0.8, points: int = 41
) -> pd.DataFrame:
    """Return the discrepancy on a square grid of shifts, noise of scale 1.

    Args:
        k: exponent, ``0 <= k < 2``.
        lam: ``λ``.
        radius: ``r`` of the ball.
        reach: the grid spans ``[-reach, reach]²``.
        points: of the grid along each axis; odd. An eighth of them is computed, the others are its mirror images.

    Returns:
        Columns family, threat, k, lam, radius, x, y (the shift), discrepancy, worst_x and worst_y (the certificate's
        ``δ*``).
    """
    axis = np.linspace(-reach, reach, points)
    half = axis[points // 2 :]
    frames = []
    for name, (kind, threat) in PAIRS.items():
        noise = kind(k, 1.0)
        family = Family.of(noise, 2)
        z, mass = family.plane_nodes(24, 160)
        corner = np.zeros((len(half), len(half)))
        for i, x in enumerate(half):
            for j, y in enumerate(half[: i + 1]):
                corner[i, j] = corner[j, i] = discrepancy(family.log_ratio(z, np.array([x, y])), mass, lam)
        whole = np.concatenate([corner[:0:-1], corner])
        whole = np.concatenate([whole[:, :0:-1], whole], axis=1)
        x, y = np.meshgrid(axis, axis, indexing="xy")
        worst = rs.certificate(noise, threat, 2).worst_shift(radius)
        columns = {
            "family": name, "threat": threat, "k": k, "lam": lam, "radius": radius, "x": x.ravel(), "y": y.ravel(),
            "discrepancy": whole.ravel(), "worst_x": worst[0], "worst_y": worst[1],
        }  # fmt: skip
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per pair: level lines of ``D``, the ball's edge, ``δ*``."""
    groups = list(frame.groupby("family", sort=False))
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.75), layout="constrained")
        panels = figure.subplots(1, len(groups), sharex=True, sharey=True)
        for axes, (name, group) in zip(panels, groups, strict=True):
            first = group.iloc[0]
            axis = np.unique(group["x"])
            table = group["discrepancy"].to_numpy().reshape(len(axis), len(axis))
            axes.contourf(axis, axis, table, levels=9, cmap="Greys", alpha=0.55)
            axes.contour(axis, axis, table, levels=9, colors="0.35", linewidths=0.6)
            axes.plot(*_edge(first["threat"], first["radius"]), color="#b35806")
            axes.plot(first["worst_x"], first["worst_y"], "o", color="black", label=r"$\delta^*$")
            axes.annotate(
                r"$\delta^*$", (first["worst_x"], first["worst_y"]), (-14.0, -11.0), textcoords="offset points",
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )  # fmt: skip
            axes.set_title(f"{name} under {first['threat']}, $k={first['k']:g}$")
            axes.set_xlabel(r"$\delta_1$ (input units)")
            axes.set_aspect("equal")
        panels[0].set_ylabel(r"$\delta_2$ (input units)")
        return figure


def _edge(threat: str, radius: float) -> tuple[Array, Array]:
    """Return the edge of a ball in the plane."""
    turn = np.linspace(0.0, 2.0 * math.pi, 361)
    u = np.stack([np.cos(turn), np.sin(turn)])
    length = {"L1": np.abs(u).sum(0), "L2": np.ones_like(turn), "Linf": np.abs(u).max(0)}[threat]
    return radius * u[0] / length, radius * u[1] / length
