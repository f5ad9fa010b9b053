"""Certified accuracy against radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rs_plugin.errors import counted
from rs_plugin.evaluation.results import Run
from rs_plugin.outcomes import Status
from rs_plugin.report.tables import short_noise

#: Colours that people with any colour vision tell apart (Okabe & Ito 2008), and a line style each.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_LINE_INCHES = 0.17  # of a legend


def plot_runs(runs: Sequence[Run]) -> Figure:
    """Return a figure with one panel per threat model and one curve per run, the legend below its panel.

    Fixed-n runs give the whole curve, a step at the radius of every image. Anytime runs certify the listed radii only:
    those are marked, and up to each of them the curve is as low as there.
    """
    threats = list(dict.fromkeys(run.certificate.threat_model for run in runs))
    groups = [[run for run in runs if run.certificate.threat_model == threat] for threat in threats]
    height = 3.9 + _LINE_INCHES * max(len(group) for group in groups)
    figure = Figure(figsize=(4.6 * len(threats), height), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(threats), sharey=True))
    for panel, threat, group in zip(panels, threats, groups, strict=True):
        _draw(panel, group)
        panel.set_title(threat)
        panel.set_xlabel(f"{threat} radius (pixels in [0, 1])")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), handlelength=4, frameon=False)
        panel.set_xlim(0, 1.03 * max(_last_radius(run) for run in group) or 1.0)
        panel.set_ylim(-2, 102)
    first = runs[0]
    panels[0].set_ylabel("certified accuracy (%)")
    draws = " and ".join(dict.fromkeys(_draws(run) for run in runs))
    images = counted(len(first.outcomes), "image")
    figure.suptitle(f"{first.dataset}, {images}, {draws}, alpha = {first.alpha:g} per image", fontsize=10)
    return figure


def _draw(panel: Any, group: Sequence[Run]) -> None:
    """Draw the curves; the legend says which runs certify nothing, and so does the panel if all of them."""
    for i, run in enumerate(group):
        style = {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _STYLES[i % len(_STYLES)], "linewidth": 1.8}
        style["label"] = _label(run, len({other.config["stopping"] for other in group}) > 1)
        if run.config["stopping"] == "fixed":
            panel.step(*_curve(run), where="post", **style)
        else:
            panel.step(run.radii, 100 * run.table()["certified_accuracy"], where="pre", marker="o", ms=4, **style)
    if all(run.smoothed_accuracy == 0.0 for run in group):
        panel.text(0.5, 0.5, "no image certified", ha="center", transform=panel.transAxes)


def _label(run: Run, with_stopping: bool) -> str:
    parts = [short_noise(str(run.certificate.noise))]
    parts += [run.config["stopping"]] if with_stopping else []
    if run.smoothed_accuracy == 0.0:
        parts.append("abstained on every image" if run.abstention_rate == 1.0 else "no image certified")
    return ", ".join(parts)


def _curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of certified accuracy in %, from the radius of every image."""
    radii = np.sort([o.radius for o in run.outcomes if o.status is Status.CERTIFIED])
    x = np.concatenate([[0.0], radii])
    left = np.arange(len(radii), -1, -1)
    return x, 100.0 * left / len(run.outcomes)


def _last_radius(run: Run) -> float:
    return max(radius for radius in [*run.radii, *(o.radius for o in run.outcomes)] if np.isfinite(radius))


def _draws(run: Run) -> str:
    return f"n {'<=' if run.config['stopping'] == 'anytime' else '='} {run.config['n']}"
