"""What every executor can do, and which there are.

An executor answers *polls* (module ``rs_plugin.voting.schedule``). Draws are a function of seed, image and chunk, so
whoever counts them finds the same votes; decisions and the vote store stay with the caller.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from rs_plugin.errors import UnknownNameError
from rs_plugin.evaluation.fingerprint import model_fingerprint
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.voting import Poll, VoteCounter

#: Names of the executors.
EXECUTORS: Final = ("local", "ray")

T = TypeVar("T")


@dataclass(frozen=True)
class Counting:
    """What decides how votes are counted.

    Attributes:
        model: the smoothed classifier.
        image_shape: (channels, height, width).
        rows: noisy images in one pass.
        device: where the network runs.
    """

    model: SmoothedClassifier
    image_shape: tuple[int, ...]
    rows: int
    device: torch.device

    def counter(self) -> VoteCounter:
        """Return a counter; the model must be on the device."""
        return self.model.counter(self.image_shape, self.rows)

    def found(self, counter: VoteCounter, image: Tensor) -> Found:
        """Return what the network is, after it has been seen to answer for each image by itself."""
        manner = counter.manner(image)
        fingerprint = model_fingerprint(self.model, image)
        return Found(manner.layout, manner.mixed, fingerprint, self.model.device.type)


class Found(NamedTuple):
    """What a network was found to be where it runs.

    Attributes:
        layout: as in ``Manner``.
        mixed: as in ``Manner``.
        fingerprint: of the model.
        device: the type of its device.
    """

    layout: str
    mixed: bool
    fingerprint: str
    device: str


class Executor(AbstractContextManager["Executor"], Protocol):
    """Answers polls; ends its workers when its context is left."""

    def look(self, image: Tensor) -> Found:
        """Return what the network is, found with draws around an image; called before anything is counted.

        Raises:
            ModelError: the network cannot be used.
            WorkerError: there are no workers.
        """

    def run(self, polls: Iterable[Poll[T]]) -> Generator[T, None, None]:
        """Answer polls, and yield the result of each as it ends.

        Raises:
            ModelError: the network fails.
            WorkerError: workers fail again and again.
        """


def open_executor(name: str, counting: Counting, workers: int | None) -> Executor:
    """Return the executor of that name.

    Args:
        name: one of ``EXECUTORS``.
        counting: what it counts with.
        workers: how many, None for as many as there is room for.

    Raises:
        UnknownNameError: there is none of that name.
        DependencyError: a package that it needs is not installed.
        WorkerError: its workers cannot be had.
    """
    if name == "local":
        from rs_plugin.evaluation.executors.local import LocalExecutor

        return LocalExecutor(counting, workers)
    if name == "ray":
        from rs_plugin.evaluation.executors.on_ray import RayExecutor

        return RayExecutor(counting, workers)
    raise UnknownNameError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")
