"""A profile and votes in which what is certified is known without certificates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from paper_figures.printed import CIFAR10
from paper_figures.profiles import Profile, Scale, candidates
from paper_figures.votes import COLUMNS

IMAGES = 40
SURE, DOUBTFUL = (100_000, 100_000), (600, 1_000)  # votes and draws: of every radius in reach, and of none but 0


def profile() -> Profile:
    """Two models in each table, the baseline at two scales, one family member at each."""
    scales = [Scale("small", 0.25, (1.0, 1.2)), Scale("large", 1.0, (1.0, 1.2))]
    menus = {
        (1, CIFAR10): candidates(1, CIFAR10, scales, (500,)),
        (2, CIFAR10): candidates(2, CIFAR10, scales, (500,)),
        (3, CIFAR10): candidates(3, CIFAR10, scales[1:], (25,)),
    }
    return Profile("made up", "nothing", {CIFAR10: ("digits", "all")}, menus, Path("nowhere.csv.gz"), compiled=False)


def votes(chosen: Profile, sure: dict[str, int]) -> pd.DataFrame:
    """The first so many images of a role's candidates are sure, and right; the others doubtful.

    Args:
        chosen: the profile.
        sure: images by role; the others get none.
    """
    rows = []
    done = set()
    for (_, dataset), menu in chosen.menus.items():
        for candidate in menu:
            key = (dataset, candidate.model, candidate.noise)
            if key in done:
                continue
            done.add(key)
            for i in range(IMAGES):
                count = SURE if i < sure.get(candidate.role, 0) else DOUBTFUL
                rows.append((*key, "L2", 20 * i, 3, 3, *count))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def wrong(frame: pd.DataFrame, images: int) -> pd.DataFrame:
    """The same votes, the last so many images of each candidate labelled otherwise."""
    last = frame["index"] >= 20 * (IMAGES - images)
    return frame.assign(label=np.where(last, 7, frame["label"]))
