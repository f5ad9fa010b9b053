"""Is the family of [Z] better than a baseline, on the same images? McNemar's test, and the difference.

Both rows certify some images at a radius; only those that one of the two certifies tell them apart. Rows are taken as
*chosen on other images*: what was chosen on the test images would be compared with its own luck. Several radii are
tested at once, so p-values are also given after Holm's correction over a table's radii.

The test takes images as independent of each other given what was chosen. Each half of them is, given what the other
half chose for it; the two halves choose for each other, which the test does not see.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from paper_figures.accuracy import INTERVAL, Held
from paper_figures.profiles import Profile, profile
from paper_figures.tables import BASELINE, FAMILY, FAMILY_DUAL, RETUNED, menu
from paper_figures.votes import load

PAIRS: Final = (
    (FAMILY, BASELINE), (FAMILY, RETUNED), (FAMILY_DUAL, BASELINE), (FAMILY_DUAL, RETUNED), (RETUNED, BASELINE)
)  # fmt: skip


def compute(table: int, chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the comparisons of a table, one row per data set, pair of rows and radius.

    Args:
        table: 1, 2 or 3.
        chosen: the profile; that of ``RS_PROFILE`` if None.
        votes: those of the profile if None.

    Returns:
        Columns table, dataset, shown (the radius), row, against, difference, low, high (percentage points, with a 95 %
        interval), only_row and only_against (images that only one certifies), p_value (exact McNemar test, two-sided),
        p_holm (over the radii), printed (points between family and baseline in [Z], NaN for other pairs).
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    frames = []
    for part in chosen.parts(table):
        held = {row: options.chosen()[0] for row in {r for pair in PAIRS for r in pair}
                if (options := menu(row, part, chosen, votes)) is not None}  # fmt: skip
        for row, against in PAIRS:
            rows = [paired(held[row][:, i], held[against][:, i]) for i in range(len(part.radii))]
            frame = pd.DataFrame(rows)
            frame.insert(0, "shown", part.shown)
            for name, value in (("against", against.name), ("row", row.name)):
                frame.insert(1, name, value)
            frame.insert(0, "dataset", part.dataset)
            frame.insert(0, "table", table)
            frame["p_holm"] = multipletests(frame["p_value"], method="holm")[1]
            of_paper = np.array(part.family) - np.array(part.baseline)
            frame["printed"] = of_paper if row in (FAMILY, FAMILY_DUAL) and against == BASELINE else math.nan
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def paired(first: Held, second: Held) -> dict[str, Any]:
    """Compare what two rows certify of the same images, ``first`` and ``second`` of shape (images,).

    The interval is Wald's after half an image was added to each of the four cells (Agresti & Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005).

    Returns:
        difference, low, high (percentage points), only_row, only_against, p_value.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    images = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    p_value = float(mcnemar([[both, only_first], [only_second, neither]], exact=True).pvalue)
    b, c, n = only_first + 0.5, only_second + 0.5, images + 2.0
    middle = (b - c) / n
    reach = float(special.ndtri((1.0 + INTERVAL) / 2.0)) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return {
        "difference": 100.0 * (only_first - only_second) / images, "low": 100.0 * (middle - reach),
        "high": 100.0 * (middle + reach), "only_row": only_first, "only_against": only_second, "p_value": p_value,
    }  # fmt: skip
