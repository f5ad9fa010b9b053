"""Every statement of [Z] that is tried, with the number of its cases that agree."""

from __future__ import annotations

import pandas as pd

from paper_figures.theory import (
    claims,
    corollaries,
    cube,
    high_dim,
    radius,
    shape,
    spherical,
    theorem1,
    worst_shift,
)


def compute() -> pd.DataFrame:
    """Return ``claims.summary`` of all modules' cases, which takes about a minute.

    Returns:
        Columns statement, cases, agree, verdict, worst, error.
    """
    return claims.summary(
        theorem1.duality(), theorem1.inner_values(), theorem1.discrepancies(), corollaries.compute(),
        radius.thin_shell(), radius.radius_law(), radius.sampled_radius(), spherical.equivalence(),
        spherical.required(), worst_shift.plane(), worst_shift.sampled(), shape.centre(), shape.kurtosis(),
        shape.spherical_kurtosis(), shape.helps(), cube.unsuited(), cube.radii(), high_dim.compute(),
    )  # fmt: skip
