"""What smoothing does and what a certificate proves, on the line, where everything can be drawn.

The base classifier ``f`` is 1 on some intervals and 0 elsewhere. With Gaussian noise the smoothed one is
``F(x) = E f(x + z) = Σ Φ((b_i - x)/σ) - Φ((a_i - x)/σ)``. From ``p = F(x0)`` alone follows ``F(x) >= L(p; |x - x0|)``
(Eq. 6, here Eq. 8), and the answer is proved to stay as long as the right side is above 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special

import rs_plugin as rs
from paper_figures.drawing import TEXT_WIDTH, lines, styled

#: Where f answers 1: a base classifier with a hole near x0 = 0, which an attacker would look for.
INTERVALS = ((-1.4, 0.08), (0.14, 0.9), (1.6, 1.8))


def compute(
    sigma: float = 0.5, intervals: Sequence[tuple[float, float]] = INTERVALS, reach: float = 2.0, points: int = 401
) -> pd.DataFrame:
    """Return the two classifiers and the bound from ``x0 = 0``.

    Args:
        sigma: of the Gaussian noise, in input units.
        intervals: where ``f`` is 1, in ascending order.
        reach: of ``x`` to both sides.
        points: of ``x``; odd, so that 0 is among them.

    Returns:
        Columns x, base (``f``), smoothed (``F``), bound (``L(F(0); |x|)``) and radius, within which the bound is above
        1/2 (input units).
    """
    if points % 2 == 0:
        raise ValueError(f"points must be odd, not {points}: the bound starts at 0")
    x = np.linspace(-reach, reach, points)
    base = sum(((a <= x) & (x <= b)).astype(np.float64) for a, b in intervals)
    smoothed = sum(special.ndtr((b - x) / sigma) - special.ndtr((a - x) / sigma) for a, b in intervals)
    certificate = rs.certificate(rs.Gaussian(sigma), "L2", 1)
    p = float(np.asarray(smoothed)[points // 2])
    columns = {"x": x, "base": base, "smoothed": smoothed, "bound": certificate.lower_bound(p, np.abs(x))}
    return pd.DataFrame({**columns, "radius": certificate.radius(p)})


def draw(frame: pd.DataFrame) -> Figure:
    """Return one panel: ``f`` as grey ground, ``F``, the bound, and the certified interval."""
    radius = float(frame["radius"].iloc[0])
    smooth, bound = lines(2)
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(frame["x"], frame["base"], step="mid", color="0.88", label="base classifier $f$")
        curves = ((smooth, "smoothed", "smoothed $E\\,f(x+z)$"), (bound, "bound", "proved from $p$ at 0 alone"))
        for line, column, label in curves:
            axes.plot(frame["x"], frame[column], color=line.color, linestyle=line.linestyle, label=label)
        axes.axhline(0.5, color="0.4", linewidth=0.8)
        arrow = {"arrowstyle": "<|-|>", "color": "black", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (-radius, 0.5), (radius, 0.5), arrowprops=arrow)
        note = f"certified: $|x| < {radius:.2f}$"
        axes.annotate(note, (0.0, 0.5), (0.0, -12.0), textcoords="offset points", ha="center")
        axes.set_xlim(frame["x"].min(), frame["x"].max())
        axes.set_ylim(0.0, 1.05)
        axes.set_xlabel("$x$ (input units)")
        axes.set_ylabel("answer, or its probability")
        figure.legend(loc="outside lower center", ncols=3)
        return figure
