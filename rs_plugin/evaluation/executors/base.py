"""What every executor can do, and which there are.

An executor answers *polls* (module ``rs_plugin.voting.schedule``). Draws are a function of seed, image and chunk, so
whoever counts them finds the same votes; decisions and the vote store stay with the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from rs_plugin.distributions.base import SAMPLER_VERSION
from rs_plugin.distributions.grid import GRID_VERSION
from rs_plugin.errors import UnknownNameError
from rs_plugin.evaluation.fingerprint import model_fingerprint, rounded_hash
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.streams import CHUNK
from rs_plugin.version import __version__
from rs_plugin.voting import Poll, VoteCounter

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
        drawn = counter.drawn()
        return Found(
            layout=manner.layout,
            mixed=manner.mixed,
            fingerprint=fingerprint,
            device=self.model.device.type,
            packages=packages(),
            noise=rounded_hash(drawn[:: CHUNK // 2]),
            draws=hashlib.sha256(drawn.numpy().tobytes()).hexdigest(),
        )


class Found(NamedTuple):
    """What a network and its noise were found to be where they run.

    Attributes:
        layout: as in ``Manner``.
        mixed: as in ``Manner``.
        fingerprint: of the model.
        device: the type of its device.
        packages: versions of this package, of its draws and of what they are made with.
        noise: a hash of some draws that the counter made, but for rounding on another machine.
        draws: a hash of every bit of them.
    """

    layout: str
    mixed: bool
    fingerprint: str
    device: str
    packages: str
    noise: str
    draws: str


def packages() -> str:
    """Return the versions of all that draws are made with; torch's without its build, which devices have a part in."""
    versions = {"rs_plugin": __version__, "torch": torch.__version__, "numpy": np.__version__}
    texts = [f"{name} {version.partition('+')[0]}" for name, version in versions.items()]
    return ", ".join([*texts, f"sampler {SAMPLER_VERSION}", f"grid {GRID_VERSION}"])


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


def _local(counting: Counting, workers: int | None) -> Executor:
    from rs_plugin.evaluation.executors.local import LocalExecutor

    return LocalExecutor(counting, workers)


def _ray(counting: Counting, workers: int | None) -> Executor:
    from rs_plugin.evaluation.executors.on_ray import RayExecutor

    return RayExecutor(counting, workers)


_OPENERS: Final[dict[str, Callable[[Counting, int | None], Executor]]] = {"local": _local, "ray": _ray}

#: Names of the executors.
EXECUTORS: Final = tuple(_OPENERS)


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
    if name not in _OPENERS:
        raise UnknownNameError(f"unknown executor {name!r}; known: {', '.join(EXECUTORS)}")
    return _OPENERS[name](counting, workers)
