"""[Z], Figure 4: certified accuracy of CIFAR-10 against the Linf radius, for each scale of the noise.

Gaussian noise, by way of L2, beside Eq. 13 at the same root mean square per coordinate, on the same models and images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rs_plugin as rs
from paper_figures import printed
from paper_figures.accuracy import cell
from paper_figures.drawing import TEXT_WIDTH, lines, styled
from paper_figures.profiles import DIMS, Profile, profile
from paper_figures.scales import rms
from paper_figures.tables import EXACT, Asked, certified, in_reach, votes_of
from paper_figures.votes import load


def compute(chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return certified accuracies, one row per model, noise and radius of Table 3, the radius 0 first.

    Args:
        chosen: the profile; that of ``RS_PROFILE`` if None.
        votes: those of the profile if None.

    Returns:
        Columns model, noise, family ("Gaussian" or "Eq. 13"), k, sigma0 (root mean square per coordinate, input units),
        radius (input units), certified, low, high (percent, 95 % over images; NaN where not even unanimous votes, with
        as many draws as the model may have, would be certified), images.
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    dim = DIMS[printed.CIFAR10]
    radii = np.array([0.0, *printed.of(3, printed.CIFAR10).radii])
    rows = []
    for candidate in chosen.menus[3, printed.CIFAR10]:
        noise = rs.parse_noise(candidate.noise)
        asked = Asked.of(candidate.noise, "Linf", radii, EXACT, dim, chosen)
        held = certified(votes_of(candidate, printed.CIFAR10, votes), asked)
        mixed = isinstance(noise, rs.MixedNorm)
        for radius, column, reached in zip(radii, held.T, in_reach(asked, chosen.limit(candidate.model)), strict=True):
            beyond = {} if reached else dict.fromkeys(("certified", "low", "high"), np.nan)
            rows.append(
                {
                    "model": candidate.model, "noise": candidate.noise, "family": "Eq. 13" if mixed else "Gaussian",
                    "k": noise.k if isinstance(noise, rs.MixedNorm) else 0.0, "sigma0": round(rms(noise, dim), 4),
                    "radius": radius, **cell(column), **beyond,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per model: a curve per noise, with its interval, as far as it reaches; the legend tells scales."""
    models = list(dict.fromkeys(frame["model"]))
    ticks = np.unique((255.0 * frame["radius"]).round(6))
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.9 * ((len(models) + 1) // 2)), layout="constrained")
        grid = figure.subplots((len(models) + 1) // 2, min(len(models), 2), sharey=True, squeeze=False)
        for axes, model in zip(grid.ravel(), models, strict=False):
            curves = list(frame[frame["model"] == model].groupby("noise", sort=False))
            for line, (_, curve) in zip(lines(len(curves)), curves, strict=True):
                first = curve.iloc[0]
                name = "Gaussian" if first["k"] == 0.0 else f"Eq. 13, $k={first['k']:g}$"
                axes.plot(
                    255.0 * curve["radius"], curve["certified"], color=line.color, linestyle=line.linestyle,
                    marker=line.marker, markersize=3.5, label=rf"{name}, $\sigma_0={first['sigma0']:g}$",
                )  # fmt: skip
                axes.fill_between(255.0 * curve["radius"], curve["low"], curve["high"], color=line.color, alpha=0.1)
            axes.set_title(model.removeprefix("cifar10_jpeg_"))
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xlim(-0.4, ticks[-1] + 0.4)
            axes.set_xlabel(r"$\ell_\infty$ radius (1/255)")
            axes.legend()
        for axes in grid[:, 0]:
            axes.set_ylabel("certified accuracy (%)")
        for axes in grid.ravel()[len(models) :]:
            axes.set_axis_off()
        return figure
