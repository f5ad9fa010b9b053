"""How much work is sent to a worker at once."""

from __future__ import annotations

from typing import Final

from rs_plugin.voting import group_slots

_SECONDS: Final = 1.0  # of a unit, against which what it takes to send one is little
_WORKERS: Final = 250  # that units of so long leave the caller time for; with more workers units are longer
_MOST: Final = 256  # groups of passes in a unit of that length
_MEMORY: Final = 0.8  # of what is known of the seconds of a slot, when a unit more is known


class UnitSize:
    """Slots in a unit: one group of passes at first, then as many as take a second, or longer with many workers.

    Args:
        rows: noisy images in one pass.
        dim: values of an image.
    """

    def __init__(self, rows: int, dim: int) -> None:
        self._group = group_slots(rows, dim)
        self.slots = self._group
        self._each: float | None = None

    def seconds(self, slots: int) -> float:
        """Return how long so many slots usually take; 0 where nothing is known yet."""
        return slots * (self._each or 0.0)

    def after(self, slots: int, seconds: float, workers: int) -> int:
        """Return the slots of the next units, after one of ``slots`` took ``seconds``. They double at most."""
        each = seconds / slots
        self._each = each if self._each is None else _MEMORY * self._each + (1.0 - _MEMORY) * each
        longer = max(1.0, workers / _WORKERS)
        groups = int(longer * min(_SECONDS / max(self._each * self._group, 1e-9), _MOST))
        self.slots = self._group * max(1, min(groups, 2 * self.slots // self._group))
        return self.slots
