"""Every statement that is tried, [Z]'s and this project's, with the number of its cases that agree."""

from __future__ import annotations

from typing import Final

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

#: Statements that are not [Z]'s: asked by this project beside them, as corrections or to go on from them.
OWN: Final = frozenset({
    "Corollary 1, with e^(-r/b) p below 1/2",
    "Theorem 1 III: cells where the best f is inside (0, 1)",
    "k > 0 needs no more probability at equal second moment",
    "Eq. 12 under Linf: radius in high dimension",
})  # fmt: skip


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
