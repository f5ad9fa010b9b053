"""Certified accuracy against radius."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rs_plugin.evaluation.results import Run
from rs_plugin.outcomes import Status

#: Colours that people with any colour vision tell apart (Okabe & Ito 2008), and a line style each.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")


def plot_runs(runs: Sequence[Run]) -> Figure:
    """Return a figure with one panel per threat model and one curve per run.

    Fixed-n runs give the whole curve, a step at the radius of every image; anytime runs give the listed radii only.
    """
    threats = list(dict.fromkeys(run.certificate.threat_model for run in runs))
    figure = Figure(figsize=(4.6 * len(threats), 3.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(threats), sharey=True))
    for panel, threat in zip(panels, threats, strict=True):
        group = [run for run in runs if run.certificate.threat_model == threat]
        for i, run in enumerate(group):
            style = {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _STYLES[i % len(_STYLES)], "linewidth": 1.8}
            label = _label(run)
            if run.config["stopping"] == "fixed":
                panel.step(*_curve(run), where="post", label=label, **style)
            else:
                panel.plot(run.radii, 100 * run.table()["certified_accuracy"], marker="o", label=label, **style)
        panel.set_title(threat)
        panel.set_xlabel(f"{threat} radius (pixels in [0, 1])")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, loc="lower left")
        panel.set_xlim(left=0)
        panel.set_ylim(0, 100)
    first = runs[0]
    panels[0].set_ylabel("certified accuracy (%)")
    figure.suptitle(
        f"{first.dataset}, {len(first.outcomes)} images, n = {first.config['n']}, alpha = {first.alpha:g} per image",
        fontsize=10,
    )
    return figure


def _curve(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of certified accuracy in %, from the radius of every image."""
    radii = np.sort([o.radius for o in run.outcomes if o.status is Status.CERTIFIED])
    x = np.concatenate([[0.0], radii])
    left = np.arange(len(radii), -1, -1)
    return x, 100.0 * left / len(run.outcomes)


def _label(run: Run) -> str:
    noise = run.certificate.noise
    numbers = ", ".join(f"{key}={value:.4g}" for key, value in noise.parameters.items())
    return f"{noise.name}({numbers})"
