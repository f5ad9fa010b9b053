"""From votes to certified accuracies: of one noise, and of the best of several, chosen in two ways.

A table of [Z] shows at each radius the best of several models and noises. *Best on the test images* chooses it by the
very images that the figure is of, as [Z] does, which flatters it. *Chosen on other images* splits the images into two
halves, every other one, and certifies each half with what is best on the other half.

Intervals are over images, for what was chosen; they do not know of the choosing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rs_plugin.estimation import clopper_pearson_lower, clopper_pearson_upper

Held = NDArray[np.bool_]

BEST, CHOSEN = "best on the test images", "chosen on other images"
PROTOCOLS: Final = (BEST, CHOSEN)
INTERVAL: Final = 0.95  # of the intervals over images


@dataclass(frozen=True)
class Menu:
    """What several candidates certify.

    Attributes:
        names: of the candidates, shape (candidates,); at a tie the first one is chosen.
        held: whether the label is certified, shape (candidates, images, radii).
        reach: whether unanimous votes, as many as there may be, would be certified, shape (candidates, radii).
    """

    names: tuple[str, ...]
    held: Held
    reach: Held

    @property
    def in_reach(self) -> NDArray[np.bool_]:
        """Whether any candidate can certify anything at a radius, shape (radii,)."""
        return np.asarray(self.reach.any(axis=0))

    def best(self) -> tuple[Held, list[str]]:
        """Return what the best candidate on all images certifies, shape (images, radii), and its name per radius."""
        return self._by(self.held, self.held)

    def chosen(self) -> tuple[Held, list[str]]:
        """Return the same, each half of the images with the best candidate on the other half; both names if two."""
        held = np.empty(self.held.shape[1:], dtype=np.bool_)
        named: list[list[str]] = []
        for half in (0, 1):
            part, names = self._by(self.held[:, 1 - half :: 2], self.held[:, half::2])
            held[half::2] = part
            named.append(names)
        return held, [" / ".join(dict.fromkeys(pair)) for pair in zip(*named, strict=True)]

    def by(self, protocol: str) -> tuple[Held, list[str]]:
        """Return ``best`` or ``chosen``."""
        return {BEST: self.best, CHOSEN: self.chosen}[protocol]()

    def _by(self, known: Held, wanted: Held) -> tuple[Held, list[str]]:
        """Return ``wanted`` of the candidate that certifies most images of ``known``, for each radius."""
        first = known.sum(axis=1).argmax(axis=0)
        radii = np.arange(wanted.shape[2])
        names = [self.names[i] if reached else "" for i, reached in zip(first, self.in_reach, strict=True)]
        return wanted[first, :, radii].T, names


def interval(count: int, images: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share of images, in percent."""
    half = (1.0 - INTERVAL) / 2.0
    low, high = clopper_pearson_lower(count, images, half), clopper_pearson_upper(count, images, half)
    return 100.0 * float(low), 100.0 * float(high)


def cell(held: NDArray[np.bool_]) -> dict[str, Any]:
    """Return certified (percent), low, high and images of one radius, ``held`` of shape (images,)."""
    count, images = int(held.sum()), len(held)
    low, high = interval(count, images)
    return {"certified": 100.0 * count / images, "low": low, "high": high, "images": images}
