"""How much work is sent to a worker at once."""

from __future__ import annotations

from typing import Final

from rs_plugin.voting import group_slots

_SECONDS: Final = 1.0  # of a unit, against which what it takes to send one is little
_MOST: Final = 256  # groups of passes in a unit
_MEMORY: Final = 0.8  # of what is known of the seconds of a slot, when a unit more is known


class UnitSize:
    """Slots in a unit: one group of passes at first, then as many as take a second.

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

    def after(self, slots: int, seconds: float) -> int:
        """Return the slots of the next units, after one of ``slots`` took ``seconds``. They double at most."""
        each = seconds / slots
        self._each = each if self._each is None else _MEMORY * self._each + (1.0 - _MEMORY) * each
        groups = int(_SECONDS / max(self._each * self._group, 1e-9))
        self.slots = self._group * max(1, min(groups, _MOST, 2 * self.slots // self._group))
        return self.slots
