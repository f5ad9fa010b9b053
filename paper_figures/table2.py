"""[Z], Table 2: certified accuracy under L2: Gaussian noise against Eq. 11.

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
    return tables.compute(2, chosen, votes)
