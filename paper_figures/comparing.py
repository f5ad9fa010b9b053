"""Differences of what is published from what is computed anew, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from paper_figures.drawing import drawn_by
from paper_figures.families import Array


def differences(
    published: pd.DataFrame, computed: pd.DataFrame, keys: Sequence[str], tolerances: Mapping[str, float]
) -> list[str]:
    """Return a line per number that differs, with its row, its column and both values.

    Args:
        published: as read from its file.
        computed: anew, its rows in the same order.
        keys: columns that name a row.
        tolerances: absolute, by column; columns without one must be the same.
    """
    if list(published.columns) != list(computed.columns):
        return [f"columns: published {list(published.columns)}, computed {list(computed.columns)}"]
    if len(published) != len(computed):
        return [f"rows: published {len(published)}, computed {len(computed)}"]
    if unknown := [name for name in (*keys, *tolerances) if name not in computed]:
        return [f"columns {unknown} are not there"]
    found = []
    for old, new in zip(published.to_dict("records"), computed.to_dict("records"), strict=True):
        row = ", ".join(f"{key}={new[key]}" for key in keys)
        for column, tolerance in {**dict.fromkeys(computed.columns, 0.0), **tolerances}.items():
            a, b = old[column], new[column]
            if not _alike(a, b, tolerance):
                found.append(f"row ({row}), column {column}: published {a}, computed {b}, tolerance {tolerance:g}")
    return found


def _alike(a: object, b: object, tolerance: float) -> bool:
    if not isinstance(a, float | int) or not isinstance(b, float | int):
        return bool(a == b)
    return bool(a == b or abs(a - b) <= tolerance or (math.isnan(a) and math.isnan(b)))


#: Largest difference of two pictures drawn by one minor version of matplotlib: what other processors' rounding may do
#: to the shades of edges. None was seen; a curve that is 5 % too high makes 2.4.
SAME_VERSION = 0.5
#: Between versions text has other widths and the axes move with it by a few dots: 3.9 and 3.11 differ by 8 to 12. So no
#: more than the whole can be compared; the numbers are compared apart.
OTHER_VERSION = 15.0

#: Dots on a side of the squares over which pictures are averaged before they are compared: 1/25 inch at 300 an inch.
SQUARE = 12


def coarse(path: Path) -> Array:
    """Return a picture's mean brightness, 0 to 255, in squares."""
    with Image.open(path) as image:
        dots = np.asarray(image.convert("L"), dtype=np.float64)
    high, wide = (size // SQUARE for size in dots.shape)
    return np.asarray(dots[: high * SQUARE, : wide * SQUARE].reshape(high, SQUARE, wide, SQUARE).mean(axis=(1, 3)))


def picture_difference(published: Path, computed: Path) -> float:
    """Return the root mean square difference of two pictures in squares, 0 to 255; inf if their sizes differ."""
    old, new = coarse(published), coarse(computed)
    return float(np.sqrt(np.mean((old - new) ** 2))) if old.shape == new.shape else math.inf


def tolerance(published: Path, computed: Path) -> float:
    """Return how far two pictures may differ."""
    return SAME_VERSION if drawn_by(published) == drawn_by(computed) else OTHER_VERSION
