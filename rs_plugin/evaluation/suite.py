"""The comparison that ``rs-plugin evaluate`` makes by default: the paper's families beside their baselines.

For each threat model every noise has the same second moment per coordinate, so that what differs is the shape alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rs_plugin.distributions import parse_noise
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import Threat
from rs_plugin.zoo import load_base

#: The baseline of each threat model, as its network was trained under it; its second moment is that of all.
BASELINES: Final[dict[Threat, str]] = {
    "L1": "laplace(b=0.1768)",
    "L2": "gaussian(sigma=0.25)",
    "Linf": "gaussian(sigma=0.25)",
}

#: Radii of each threat model, in input units.
RADII: Final[dict[Threat, tuple[float, ...]]] = {
    "L1": (0.0, 0.15, 0.3, 0.45, 0.6),
    "L2": (0.0, 0.15, 0.3, 0.45, 0.6),
    "Linf": (0.0, 0.015, 0.03, 0.045, 0.06),
}


class Entry(NamedTuple):
    """One run: a threat model, a bundled base network, and its baseline or a noise given up to its scale."""

    threat: Threat
    base: str
    noise: str


SUITE: Final = (
    Entry("L1", "digits_laplace_0.25", BASELINES["L1"]),
    Entry("L1", "digits_laplace_0.25", "l1_exponential(k=8, b=1)"),
    Entry("L2", "digits_gaussian_0.25", BASELINES["L2"]),
    Entry("L2", "digits_gaussian_0.25", "l2_exponential(k=8, sigma=1)"),
    Entry("Linf", "digits_gaussian_0.25", BASELINES["Linf"]),
    Entry("Linf", "digits_gaussian_0.25", "linf_exponential(k=8, sigma=1)"),
    Entry("Linf", "digits_mixednorm_0.25", "mixed_norm(k=8, sigma=1)"),
)


def smoothed(entry: Entry, dim: int) -> SmoothedClassifier:
    """Return the smoothed classifier of an entry: the baseline as it is, another noise with its second moment."""
    baseline, noise = parse_noise(BASELINES[entry.threat]), parse_noise(entry.noise)
    if noise != baseline:
        noise = noise.with_second_moment(baseline.second_moment(dim), dim)
    return SmoothedClassifier(load_base(entry.base), noise, 10)
