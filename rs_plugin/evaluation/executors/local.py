"""Votes counted on threads of this process."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from rs_plugin.evaluation.executors.base import Counting, Found
from rs_plugin.voting import Poll

T = TypeVar("T")


class LocalExecutor:
    """Threads of this process that share the network.

    Args:
        counting: what is counted with; the model is on its device.
        workers: threads, torch's number if None; one on other devices than the CPU, where they would only wait.
    """

    def __init__(self, counting: Counting, workers: int | None) -> None:
        self._counting, self._counter = counting, counting.counter()
        self._threads = 1 if counting.device.type != "cpu" else int(workers or torch.get_num_threads())

    def look(self, image: Tensor) -> Found:
        """Return what the network is."""
        return self._counting.found(self._counter, image)

    def run(self, polls: Iterable[Poll[T]]) -> Generator[T, None, None]:
        """Answer polls, and yield the result of each as it ends; closing it ends the threads."""
        yield from self._counter.run(polls, self._threads)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is left to be ended."""
