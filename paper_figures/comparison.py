"""Is the family of [Z] better than a baseline, on the same images? McNemar's test, and the difference.

Both rows certify some images at a radius; only those that one of the two certifies tell them apart. Rows are taken as
*chosen on other images*: what was chosen on the test images would be compared with its own luck. Several radii are
tested at once, so p-values are also given after Holm's correction over a table's radii. Radii at which one of the rows
cannot certify anything, whatever the votes, are not tested: the number of draws would be compared there.

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
        Columns table, dataset, shown (the radius), row, against, in_reach (of both), certified, of_against (percent),
        difference, low, high (percentage points, with a 95 % interval), only_row and only_against (images that only one
        certifies), p_value (exact McNemar test, two-sided), p_holm (over the radii in reach; NaN for others, as is
        p_value), printed (points between family and baseline in [Z], NaN for other pairs) and printed_share (those
        points in percent of [Z]'s baseline).
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    frames = []
    for part in chosen.parts(table):
        menus = {row: menu(row, part, chosen, votes) for row in {row for pair in PAIRS for row in pair}}
        held = {row: options.chosen()[0] for row, options in menus.items()}
        of_paper = np.array(part.family) - np.array(part.baseline)
        for row, against in PAIRS:
            family = row in (FAMILY, FAMILY_DUAL) and against == BASELINE
            cells = {
                "table": table, "dataset": part.dataset, "shown": part.shown, "row": row.name, "against": against.name,
                "in_reach": menus[row].in_reach & menus[against].in_reach,
            }  # fmt: skip
            compared = [paired(held[row][:, i], held[against][:, i]) for i in range(len(part.radii))]
            frame = pd.DataFrame(cells).join(pd.DataFrame(compared))
            frame.loc[~frame["in_reach"], "p_value"] = math.nan
            known = frame["p_value"].notna()
            frame["p_holm"] = math.nan
            if known.any():
                frame.loc[known, "p_holm"] = multipletests(frame.loc[known, "p_value"], method="holm")[1]
            frame["printed"] = of_paper if family else math.nan
            frame["printed_share"] = 100.0 * of_paper / np.array(part.baseline) if family else math.nan
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def paired(first: Held, second: Held) -> dict[str, Any]:
    """Compare what two rows certify of the same images, ``first`` and ``second`` of shape (images,).

    The interval is Wald's after half an image was added to each of the four cells (Agresti & Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005).

    Returns:
        certified, of_against (percent), difference, low, high (percentage points), only_row, only_against, p_value.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    images = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    p_value = float(mcnemar([[both, only_first], [only_second, neither]], exact=True).pvalue)
    b, c, n = only_first + 0.5, only_second + 0.5, images + 2.0
    middle = (b - c) / n
    reach = float(special.ndtri((1.0 + INTERVAL) / 2.0)) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return {
        "certified": 100.0 * first.mean(), "of_against": 100.0 * second.mean(),
        "difference": 100.0 * (only_first - only_second) / images, "low": 100.0 * (middle - reach),
        "high": 100.0 * (middle + reach), "only_row": only_first, "only_against": only_second, "p_value": p_value,
    }  # fmt: skip
