"""The comparison that ``rs-plugin evaluate`` makes by default: the paper's families beside their baselines.

For each threat model every noise has the same second moment per coordinate, so that what differs is the shape alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rs_plugin.distributions import parse_noise
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import Threat
from rs_plugin.zoo import load_base

#: Root of the second moment per coordinate, in units of pixels in [0, 1].
RMS: Final = 0.25

#: Radii of each threat model, in input units.
RADII: Final[dict[Threat, tuple[float, ...]]] = {
    "L1": (0.0, 0.15, 0.3, 0.45, 0.6),
    "L2": (0.0, 0.15, 0.3, 0.45, 0.6),
    "Linf": (0.0, 0.015, 0.03, 0.045, 0.06),
}


class Entry(NamedTuple):
    """One run: a threat model, a bundled base network, and a noise given up to its scale."""

    threat: Threat
    base: str
    noise: str


SUITE: Final = (
    Entry("L1", "digits_laplace_0.25", "laplace(b=1)"),
    Entry("L1", "digits_laplace_0.25", "l1_exponential(k=8, b=1)"),
    Entry("L2", "digits_gaussian_0.25", "gaussian(sigma=1)"),
    Entry("L2", "digits_gaussian_0.25", "l2_exponential(k=8, sigma=1)"),
    Entry("Linf", "digits_gaussian_0.25", "gaussian(sigma=1)"),
    Entry("Linf", "digits_gaussian_0.25", "linf_exponential(k=8, sigma=1)"),
    Entry("Linf", "digits_mixednorm_0.25", "mixed_norm(k=8, sigma=1)"),
)


def smoothed(entry: Entry, dim: int) -> SmoothedClassifier:
    """Return the smoothed classifier of an entry, its noise scaled to the common second moment."""
    noise = parse_noise(entry.noise).with_second_moment(RMS**2, dim)
    return SmoothedClassifier(load_base(entry.base), noise, 10)
