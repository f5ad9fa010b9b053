"""Certification logs as the literature publishes them: tab-separated idx, label, predict, radius, correct, time.

The radius is that of Gaussian noise under L2, ``σ Φ⁻¹(p)`` with ``p`` the Clopper-Pearson lower bound of the votes
(Cohen, Rosenfeld & Kolter 2019), so the votes can be read back from it. ``predict`` is -1 where the classifier
abstains. ``Run.to_tsv`` writes the same columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import special

from rs_plugin.errors import InputError
from rs_plugin.estimation import clopper_pearson_lower
from rs_plugin.files import check_size

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of a log; that of all of ImageNet takes some two million.
_LARGEST: Final = 1 << 28

COLUMNS = ("idx", "label", "predict", "radius", "correct")


def read_log(path: str | Path, sigma: float, n: int, alpha: float) -> pd.DataFrame:
    """Return a log, one row per image, with the votes that its radii stand for.

    Args:
        path: of the file.
        sigma: standard deviation ``σ`` of the noise, in input units.
        n: draws that bounded the class.
        alpha: failure probability per image.

    Returns:
        Columns index, label, radius (L2, input units; 0 where it abstained), right (whether the prediction is the
        label), abstained, and votes: the fewest of ``n`` whose bound reaches the radius as it was rounded; half of
        ``n`` where it abstained, since no radius tells.

    Raises:
        InputError: the file is no such log.
    """
    import pandas as pd

    try:
        check_size(Path(path), _LARGEST)
        log = pd.read_csv(path, sep="\t", usecols=list(COLUMNS))
    except (ValueError, OSError) as error:
        raise InputError(
            f"{str(path)!r} is no certification log with columns {', '.join(COLUMNS)}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    candidates = np.arange(n // 2, n + 1)
    lower = np.asarray(clopper_pearson_lower(candidates, np.full_like(candidates, n), alpha))
    bound = special.ndtr(log["radius"].to_numpy(dtype=np.float64) / sigma)
    votes = candidates[np.minimum(np.searchsorted(lower, bound), len(candidates) - 1)]
    abstained = (log["predict"] == -1).to_numpy()
    return pd.DataFrame(
        {
            "index": log["idx"],
            "label": log["label"],
            "radius": log["radius"],
            "right": (log["correct"] == 1).to_numpy() & ~abstained,
            "abstained": abstained,
            "votes": np.where(abstained, n // 2, votes),
        }
    )
