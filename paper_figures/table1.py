"""[Z], Table 1: certified accuracy under L1: Laplace noise against Eq. 10.

Its rows are those of module ``tables``.
"""

from __future__ import annotations

import pandas as pd

from paper_figures import tables
from paper_figures.profiles import Profile
from paper_figures.tables import draw

__all__ = ["compute", "draw"]


def compute(chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table in long form; see ``tables.compute``."""
    return tables.compute(1, chosen, votes)
