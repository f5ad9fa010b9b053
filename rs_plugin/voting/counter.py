"""Draws are made, added to their images, shown to the network, and its answers returned to who asked."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.streams import CHUNK, chunk_seed
from rs_plugin.voting.manner import Manner, compile_network, find_manner, may_be_mixed
from rs_plugin.voting.passes import check_classes, classes_of, computing_in, scores_of, single_threaded
from rs_plugin.voting.schedule import Answer, Ask, Counts, DrawRange, Poll, Schedule, Slot

_BLOCK_VALUES: Final = 1 << 20
_BLOCK_ROWS: Final = 256
_GROUP_VALUES: Final = 1 << 16  # smaller groups of chunks spend their time on calls
_GROUP_SLOTS: Final = 16

T = TypeVar("T")


class _End:
    """What a thread puts among the results when it has no more."""


_Found = queue.SimpleQueue[T | _End | BaseException]


def block_rows(dim: int, draws: int = _BLOCK_ROWS) -> int:
    """Return how many noisy images of ``dim`` values go through the network at once, if there are ``draws`` of them.

    The shape of a block is the same for all blocks of a run, since a network's own rounding may depend on it.
    """
    return CHUNK * max(1, min(_BLOCK_ROWS // CHUNK, _BLOCK_VALUES // dim // CHUNK, -(-draws // CHUNK)))


def group_slots(rows: int, dim: int) -> int:
    """Return how many chunks of draws are made together: at least a block of ``rows``, more where images are small."""
    return max(-(-rows // CHUNK), min(_GROUP_SLOTS, _GROUP_VALUES // (CHUNK * dim)))


class VoteCounter:
    """Counts votes of a base network; safe to use from several threads.

    Args:
        base: the network, in eval mode on ``device``, for images in [0, 1].
        noise: the smoothing noise.
        num_classes: number of classes that the network must answer with.
        image_shape: (channels, height, width).
        device: where the network and the draws live.
        rows: noisy images in one pass.
        precision: of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Noise is added in float32.
        compiled: whether ``torch.compile`` makes a faster copy of the network, with its weights as they are then.
        manner: how the network is shown its images, if that is known; else it is found with the first image.
    """

    def __init__(
        self,
        base: nn.Module,
        noise: SmoothingDistribution,
        num_classes: int,
        image_shape: tuple[int, ...],
        device: torch.device,
        rows: int,
        precision: str = "float32",
        compiled: bool = False,
        manner: Manner | None = None,
    ) -> None:
        self._precision, self._compiled = precision, compiled
        self._network: Any = base
        self._noise, self._num_classes = noise, num_classes
        self._shape, self._device, self._rows = tuple(image_shape), device, rows
        self._dim = int(np.prod(image_shape))
        self._slots = group_slots(rows, self._dim)
        self._manner = manner
        self._local = threading.local()

    def manner(self, image: Tensor) -> Manner:
        """Return how the network is shown its images, found with draws around ``image`` if it is not known yet.

        Raises:
            ModelError: the network fails, answers with another shape, or not for each image by itself.
        """
        if self._manner is None:
            noisy = image.to(self._device, torch.float32).expand(self._rows, *self._shape).reshape(self._rows, -1)
            generator = torch.Generator(device=self._device).manual_seed(0)
            draws = torch.empty_like(noisy)
            self._noise.fill(draws, generator)
            images = (noisy + draws).view(self._rows, *self._shape)
            with self._mode(), single_threaded(), computing_in(self._precision, self._device):
                self._manner = find_manner(self._network, images, self._num_classes, self._precision)
                if self._compiled:
                    images = images.contiguous(memory_format=self._manner.memory_format)
                    self._network, scores = compile_network(
                        self._network, images, self._num_classes, self._precision
                    )
                    mixed = may_be_mixed(self._network, images, scores, self._precision)
                    self._manner = self._manner._replace(mixed=mixed)
        return self._manner

    def _mode(self) -> torch.no_grad | torch.inference_mode:
        """Return the context of all passes: what is compiled cannot have its weights frozen in the faster one."""
        return torch.no_grad() if self._compiled else torch.inference_mode()

    def run(self, polls: Iterable[Poll[T]], threads: int = 1) -> Generator[T, None, None]:
        """Answer polls, many at a time, and yield the result of each as it ends; closing it ends the threads.

        Draws are a function of seed and image alone, so votes depend neither on the order nor on the threads.

        Args:
            polls: taken one after the other as room becomes free.
            threads: that share the work.

        Raises:
            ModelError: the network fails, or answers with another shape, with NaN or with infinite scores.
        """
        manner = self._manner
        assert manner is not None, "manner(image) comes first"
        schedule = Schedule(polls, self._slots, self._num_classes, manner.mixed)
        if threads == 1:
            with single_threaded():
                yield from self._work(schedule)
            return
        found: _Found[T] = queue.SimpleQueue()
        workers = [threading.Thread(target=self._work_into, args=(schedule, found)) for _ in range(threads)]
        with single_threaded():
            for worker in workers:
                worker.start()
            try:
                yield from _until_all_end(found, threads)
            finally:
                schedule.stop()  # whatever the reason, nobody begins another group
                for worker in workers:
                    worker.join()

    def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Return the answer to each of several asks.

        Raises:
            ModelError: as for ``run``.
        """
        if not asks:
            return []
        self.manner(asks[0].image)
        answers: dict[int, Answer] = dict(self.run(_numbered(number, ask) for number, ask in enumerate(asks)))
        return [answers[number] for number in range(len(asks))]

    def count(self, image: Tensor, index: int, seed: int, ranges: Sequence[DrawRange]) -> list[Counts]:
        """Return the votes (classes,) of each range of draws for the image with that index.

        Raises:
            ModelError: as for ``run``.
        """
        return self.ask([Ask(image, index, seed, ranges)])[0].counts

    def _work(self, schedule: Schedule[T]) -> Iterator[T]:
        while slots := schedule.take():
            start = time.perf_counter()
            answers = self._answers(slots)
            yield from schedule.deliver(slots, answers, time.perf_counter() - start)

    def _work_into(self, schedule: Schedule[T], found: _Found[T]) -> None:
        torch.set_num_threads(1)
        try:
            for result in self._work(schedule):
                found.put(result)
            found.put(_End())
        except BaseException as error:  # raised again where the results are read
            found.put(error)

    def _answers(self, slots: Sequence[Slot]) -> Counts:
        """Return the network's classes (slots, chunk) of all draws of a group."""
        noise, images, generator = self._buffers()
        wanted = len(slots) * CHUNK
        seeds = [chunk_seed(slot.ask.seed, slot.ask.index, slot.stream, slot.chunk) for slot in slots]
        with self._mode(), computing_in(self._precision, self._device):
            self._noise.fill_chunks(noise[:wanted], seeds, generator)
            for start, slot in zip(range(0, wanted, CHUNK), slots, strict=True):
                if slot.clean:
                    noise[start + slot.used].zero_()
                image = slot.ask.image.to(self._device, torch.float32)
                drawn = noise[start : start + CHUNK].view(CHUNK, *self._shape)
                torch.add(drawn, image, out=images[start : start + CHUNK])
            # What is left of the last block are noisy images of before, or zeros.
            classes = torch.cat(
                [
                    classes_of(scores_of(self._network, images[first : first + self._rows], self._num_classes))
                    for first in range(0, wanted, self._rows)
                ]
            )
        answers = np.asarray(classes[:wanted].view(len(slots), CHUNK).cpu().numpy())
        check_classes(min(int(row[: slot.used + slot.clean].min()) for row, slot in zip(answers, slots, strict=True)))
        return answers

    def _buffers(self) -> tuple[Tensor, Tensor, torch.Generator]:
        """Return this thread's noise (draws, values), images (draws, channels, height, width) and generator."""
        local = self._local
        if not hasattr(local, "noise"):
            assert self._manner is not None
            blocks = -(-self._slots * CHUNK // self._rows)
            shape = (blocks * self._rows, *self._shape)
            local.noise = torch.empty((self._slots * CHUNK, self._dim), dtype=torch.float32, device=self._device)
            layout = self._manner.memory_format
            local.images = torch.zeros(shape, dtype=torch.float32, device=self._device).contiguous(memory_format=layout)
            local.generator = torch.Generator(device=self._device)
        return local.noise, local.images, local.generator


def _numbered(number: int, ask: Ask) -> Generator[Ask, Answer, tuple[int, Answer]]:
    return number, (yield ask)


def _until_all_end(found: _Found[T], threads: int) -> Iterator[T]:
    while threads:
        result = found.get()
        if isinstance(result, _End):
            threads -= 1
        elif isinstance(result, BaseException):
            raise result
        else:
            yield result
