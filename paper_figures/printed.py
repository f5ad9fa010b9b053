"""The numbers that [Z] prints in Tables 1 to 3: certified accuracy in percent.

Table 2's ImageNet baseline at 1.5 is missing in print; 29 is that of Cohen, Rosenfeld & Kolter (2019), whose models [Z]
takes. The family's own figure there cannot be read and is NaN.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import pandas as pd

from rs_plugin.threats import Threat

CIFAR10, IMAGENET = "CIFAR-10", "ImageNet"


class Printed(NamedTuple):
    """One table of [Z] on one data set; ``printed`` radii are in units of ``1 / unit``, 255 for those of pixels."""

    table: int
    dataset: str
    threat: Threat
    unit: float
    printed: tuple[float, ...]
    baseline: tuple[float, ...]
    family: tuple[float, ...]

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii in input units."""
        return tuple(radius / self.unit for radius in self.printed)

    @property
    def shown(self) -> tuple[str, ...]:
        """The radii as text."""
        return tuple(f"{radius:g}" + ("/255" if self.unit == 255.0 else "") for radius in self.printed)


_QUARTERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25)
_HALVES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)

PRINTED: Final = (
    Printed(
        1, CIFAR10, "L1", 1.0, _QUARTERS,
        (62, 49, 38, 30, 23, 19, 17, 14, 12), (64, 51, 41, 34, 27, 22, 18, 17, 14),
    ),
    Printed(1, IMAGENET, "L1", 1.0, _HALVES, (50, 41, 33, 29, 25, 18, 15), (51, 42, 36, 30, 26, 22, 16)),
    Printed(
        2, CIFAR10, "L2", 1.0, _QUARTERS,
        (60, 43, 34, 23, 17, 14, 12, 10, 8), (61, 46, 37, 25, 19, 16, 14, 11, 9),
    ),
    Printed(2, IMAGENET, "L2", 1.0, _HALVES, (49, 37, 29, 19, 15, 12, 9), (50, 39, math.nan, 21, 17, 13, 10)),
    Printed(3, CIFAR10, "Linf", 255.0, (2, 4, 6, 8, 10, 12), (58, 42, 31, 25, 18, 13), (60, 47, 38, 32, 23, 17)),
)  # fmt: skip


def of(table: int, dataset: str) -> Printed:
    """Return a table's part.

    Raises:
        KeyError: [Z] has none.
    """
    for part in PRINTED:
        if (part.table, part.dataset) == (table, dataset):
            return part
    raise KeyError(f"[Z] prints no Table {table} for {dataset}")


def compute() -> pd.DataFrame:
    """Return the numbers, one row per table, data set and radius.

    Returns:
        Columns table, dataset, threat, radius (input units), shown (the radius as printed), baseline, family (percent).
    """
    rows = [
        {
            "table": part.table, "dataset": part.dataset, "threat": part.threat, "radius": radius, "shown": shown,
            "baseline": float(baseline), "family": float(family),
        }
        for part in PRINTED
        for radius, shown, baseline, family in zip(part.radii, part.shown, part.baseline, part.family, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)
