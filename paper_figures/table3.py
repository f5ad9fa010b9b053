"""[Z], Table 3: certified accuracy under Linf: Gaussian noise against Eq. 13.

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
    return tables.compute(3, chosen, votes)
