"""Draws are made, added to their images, shown to the network, and its answers returned to who asked."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.grid import GridNoise
from rs_plugin.errors import ParameterError
from rs_plugin.streams import CHUNK, Stream, chunk_seed
from rs_plugin.voting.manner import Manner, beside, check_alone, far_from, find_manner
from rs_plugin.voting.passes import check_classes, classes_of, computing_in, scores_of, single_threaded
from rs_plugin.voting.schedule import Answer, Ask, Counts, DrawRange, Poll, Schedule, Slot, answers_by
from rs_plugin.voting.sharing import threads_may_share, turn

#: Rows and values in one pass at most: what suits a processor's cache, and what keeps a GPU busy.
_BLOCKS: Final = {"cpu": (256, 1 << 20), "cuda": (4096, 1 << 26)}
#: Groups that are given to a device before the first is waited for: a GPU would stand idle between them.
_DEPTHS: Final = {"cpu": 1, "cuda": 2}
_GROUP_VALUES: Final = 1 << 16  # smaller groups of chunks spend their time on calls
_GROUP_SLOTS: Final = 16
_WASTE: Final = 0.05  # of the rows of a group's passes may be nobody's

#: Passes of a thread at which the network's independence is checked: first ones, for short runs, and then every 64th.
_CHECKED: Final = (4, 16)
_CHECK_EVERY: Final = 64

T = TypeVar("T")


class _End:
    """What a thread puts among the results when it has no more."""


_Found = queue.SimpleQueue[T | _End | BaseException]


class _Group(NamedTuple):
    """Slots whose classes (slots, chunk) are being computed; they are on the host when ``there`` has happened."""

    slots: Sequence[Slot]
    classes: Tensor
    there: torch.cuda.Event | None
    start: float

    def answers(self) -> Counts:
        """Wait for the classes and return them.

        Raises:
            ModelError: a score was not usable.
        """
        if self.there is not None:
            self.there.synchronize()
        found = np.asarray(self.classes.numpy())
        check_classes(min(int(row[: s.used + s.clean].min()) for row, s in zip(found, self.slots, strict=True)))
        return found


def block_rows(dim: int, draws: int | None = None, device: str = "cpu") -> int:
    """Return how many noisy images of ``dim`` values go through the network at once.

    The shape of a block is the same for all blocks of a run, since a network's own rounding may depend on it.

    Args:
        dim: values of an image.
        draws: how many there are in all, if they are few.
        device: the type of the network's device.
    """
    rows, values = _BLOCKS.get(device, _BLOCKS["cpu"])
    chunks = min(rows // CHUNK, values // dim // CHUNK)
    return CHUNK * max(1, chunks if draws is None else min(chunks, -(-draws // CHUNK)))


def group_slots(rows: int, dim: int) -> int:
    """Return how many chunks of draws are made together: more where images are small, and hardly a pass in part.

    Args:
        rows: noisy images in one pass.
        dim: values of an image.
    """
    least = max(1, rows // CHUNK, min(_GROUP_SLOTS, _GROUP_VALUES // (CHUNK * dim)))
    return next(slots for slots in itertools.count(least) if -slots * CHUNK % rows <= _WASTE * slots * CHUNK)


class VoteCounter:
    """Counts votes of a base network; safe to use from several threads.

    It runs the network on several threads at the same time where that is known to keep nothing of a pass (module
    ``sharing``), else on the thread that asks, one pass at a time.

    Args:
        base: the network, in eval mode on ``device``, for images in [0, 1].
        noise: the smoothing noise.
        num_classes: number of classes that the network must answer with.
        image_shape: (channels, height, width).
        device: where the network and the draws live.
        rows: noisy images in one pass.
        precision: of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Noise is added in float32.
        compiled: whether ``torch.compile`` makes a faster copy of the network, with its weights as they are then.
        grid: the noise on a grid, where votes are to be counted in whole numbers.
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
        grid: GridNoise | None = None,
    ) -> None:
        self._precision, self._compiled = precision, compiled
        self._network: Any = base
        self._num_classes, self._grid = num_classes, grid
        self._noise: SmoothingDistribution | GridNoise = noise if grid is None else grid
        self._shape, self._device, self._rows = tuple(image_shape), device, rows
        self._dim = int(np.prod(image_shape))
        self._slots = group_slots(rows, self._dim)
        self._manner: Manner | None = None
        self._lock = threading.Lock()
        self._shared = threads_may_share(base)
        self._turn = turn(base, shared=self._shared)
        self._local = threading.local()

    def manner(self, image: Tensor) -> Manner:
        """Return how the network is shown its images, found with draws around ``image`` the first time.

        Raises:
            ModelError: the network fails, answers with another shape, or not for each image by itself.
            ParameterError: there is no memory for a pass.
        """
        with self._lock:
            if self._manner is None:
                images = self._noisy(image)
                with self._turn, self._mode(), single_threaded(), computing_in(self._precision, self._device):
                    self._network, self._manner = find_manner(
                        self._network, images, self._num_classes, self._precision, self._compiled
                    )
            return self._manner

    def drawn(self) -> Tensor:
        """Return some draws as they are made here, shape (2 · chunk, values), on the CPU: a chunk of either stream."""
        out = torch.empty((2 * CHUNK, self._dim), dtype=torch.float32, device=self._device)
        seeds = [chunk_seed(0, 0, stream, 0) for stream in (Stream.SELECTION, Stream.ESTIMATION)]
        self._noise.fill_chunks(out, seeds, torch.Generator(device=self._device))
        return out.cpu()

    def _noisy(self, image: Tensor) -> Tensor:
        """Return one block of the image under noise."""
        try:
            draws = torch.empty((self._rows, self._dim), dtype=torch.float32, device=self._device)
        except (RuntimeError, MemoryError, TypeError) as error:  # the last of numbers beyond 64 bits
            raise ParameterError(
                f"there is no memory for {self._rows} images in one pass; use a smaller batch_size"
            ) from error
        self._noise.fill(draws, torch.Generator(device=self._device).manual_seed(0))
        return self._shown(draws.view(self._rows, *self._shape) + self._placed(image))

    def _placed(self, image: Tensor) -> Tensor:
        """Return an image where draws can be added to it."""
        return self._summand(image).to(self._device)

    def _summand(self, image: Tensor) -> Tensor:
        """Return what draws are added to: an image, in steps of the grid if there is one."""
        return (image if self._grid is None else self._grid.steps_of(image)).to(torch.float32)

    def _shown(self, images: Tensor) -> Tensor:
        """Return noisy images as the network sees them."""
        return images if self._grid is None else self._grid.images_of(images)

    def _mode(self) -> torch.no_grad | torch.inference_mode:
        """Return the context of all passes: what is compiled cannot have its weights frozen in the faster one."""
        return torch.no_grad() if self._compiled else torch.inference_mode()

    def run(self, polls: Iterable[Poll[T]], threads: int = 1) -> Generator[T, None, None]:
        """Answer polls, many at a time, and yield the result of each as it ends; closing it ends the threads.

        Draws are a function of seed and image alone, so votes depend neither on the order nor on the threads.

        Args:
            polls: taken one after the other as room becomes free.
            threads: that share the work, where they may share the network.

        Raises:
            ModelError: the network fails, or answers with another shape, with NaN or with infinite scores, or otherwise
                beside other images.
            ParameterError: so many threads cannot be had.
        """
        manner = self._manner
        assert manner is not None, "manner(image) comes first"
        schedule = Schedule(polls, self._slots, self._num_classes, manner.mixed)
        if threads == 1 or not self._shared:
            with single_threaded():
                yield from self._work(schedule)
            return
        found: _Found[T] = queue.SimpleQueue()
        workers: list[threading.Thread] = []
        with single_threaded():
            try:
                while len(workers) < threads:
                    workers.append(_started(threading.Thread(target=self._work_into, args=(schedule, found)), threads))
                yield from _until_all_end(found, threads)
            finally:
                schedule.stop()  # whatever the reason, nobody begins another group
                for worker in workers:
                    worker.join()

    def ask(self, asks: Sequence[Ask], threads: int = 1) -> list[Answer]:
        """Return the answer to each of several asks.

        Raises:
            ModelError: as for ``run``.
        """
        if not asks:
            return []
        self.manner(asks[0].image)
        return answers_by(lambda polls: self.run(polls, threads), asks)

    def count(self, image: Tensor, index: int, seed: int, ranges: Sequence[DrawRange]) -> list[Counts]:
        """Return the votes (classes,) of each range of draws for the image with that index.

        Raises:
            ModelError: as for ``run``.
        """
        return self.ask([Ask(image, index, seed, ranges)])[0].counts

    def _work(self, schedule: Schedule[T]) -> Iterator[T]:
        out: deque[_Group] = deque()
        ended = 0.0
        while True:
            if slots := schedule.take(wait=not out, whole=bool(out)):
                out.append(self._begun(slots))
                if len(out) < _DEPTHS.get(self._device.type, 1):
                    continue
            elif not out:
                return
            group = out.popleft()
            answers = group.answers()
            begun, ended = max(group.start, ended), time.perf_counter()
            yield from schedule.deliver(group.slots, answers, ended - begun)

    def _work_into(self, schedule: Schedule[T], found: _Found[T]) -> None:
        torch.set_num_threads(1)
        try:
            for result in self._work(schedule):
                found.put(result)
            found.put(_End())
        except BaseException as error:  # raised again where the results are read
            found.put(error)

    def _begun(self, slots: Sequence[Slot]) -> _Group:
        """Return a group whose draws are being made and shown to the network."""
        start = time.perf_counter()
        noise, images, generator = self._buffers()
        wanted = len(slots) * CHUNK
        seeds = [chunk_seed(slot.ask.seed, slot.ask.index, slot.stream, slot.chunk) for slot in slots]
        with self._mode(), computing_in(self._precision, self._device):
            self._noise.fill_chunks(noise[:wanted], seeds, generator)
            for first, slot in zip(range(0, wanted, CHUNK), slots, strict=True):
                if slot.clean:
                    noise[first + slot.used].zero_()
            self._add(noise[:wanted], slots, images[:wanted])
            self._shown(images[:wanted])
            images[wanted:].zero_()  # votes are not to depend on what was counted before
            classes = torch.cat(
                [self._classes(images[first : first + self._rows]) for first in range(0, wanted, self._rows)]
            )
        classes = classes[:wanted].view(len(slots), CHUNK)
        if self._device.type != "cuda":
            return _Group(slots, classes.cpu(), None, start)
        host = torch.empty(classes.shape, dtype=classes.dtype, pin_memory=True)
        host.copy_(classes, non_blocking=True)
        there = torch.cuda.Event()  # type: ignore[no-untyped-call]
        there.record(torch.cuda.current_stream(self._device))  # the copy's, whichever device is the current one
        return _Group(slots, host, there, start)

    def _add(self, noise: Tensor, slots: Sequence[Slot], images: Tensor) -> None:
        """Write draws (draws, values) added to the images of their slots into ``images``."""
        if self._device.type != "cuda":  # one chunk at a time stays in the cache
            for start, slot in zip(range(0, len(noise), CHUNK), slots, strict=True):
                drawn = noise[start : start + CHUNK].view(CHUNK, *self._shape)
                torch.add(drawn, self._placed(slot.ask.image), out=images[start : start + CHUNK])
            return
        many = (len(slots), CHUNK, *self._shape)
        placed = {id(slot.ask): self._summand(slot.ask.image) for slot in slots}
        all_placed = torch.stack([placed[id(slot.ask)] for slot in slots])
        if not all_placed.is_cuda:  # from other memory than this a copy would wait for all that the GPU has to do
            all_placed = all_placed.pin_memory().to(self._device, non_blocking=True)
        torch.add(noise.view(many), all_placed.unsqueeze(1), out=images.view(many))

    def _classes(self, images: Tensor) -> Tensor:
        """Return the classes of one pass, when it is its turn."""
        with self._turn:
            return self._checked_classes(images)

    def _checked_classes(self, images: Tensor) -> Tensor:
        """Return the classes of one pass. Now and then it is shown once more, in part, beside other images."""
        local = self._local
        local.passes += 1
        now = images.clone() if _due(local.passes) else None  # a network may write into its input
        classes = classes_of(scores_of(self._network, images, self._num_classes))
        if now is None:
            return classes
        # Images of another pass, most often of another image, are the company that votes are counted in.
        others = local.checked if local.checks % 2 else far_from(now, local.checks // 2)
        shown = beside(now, others, local.checks // 2)
        there = classes_of(scores_of(self._network, shown.block.clone(), self._num_classes))
        if not torch.equal(there[shown.places], classes[shown.places]):
            check_alone(self._network, now, scores_of(self._network, now.clone(), self._num_classes), [shown])
        local.checked, local.checks = now, local.checks + 1
        return classes

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
            local.passes = local.checks = 0
            local.checked = None
        return local.noise, local.images, local.generator


def _due(passes: int) -> bool:
    """Return whether the network's independence is checked at that pass of a thread."""
    return passes in _CHECKED or passes % _CHECK_EVERY == 0


def _started(worker: threading.Thread, threads: int) -> threading.Thread:
    try:
        worker.start()
    except RuntimeError as error:
        raise ParameterError(f"{threads} threads cannot be had here ({error}); ask for fewer workers") from error
    return worker


def _until_all_end(found: _Found[T], threads: int) -> Iterator[T]:
    while threads:
        result = found.get()
        if isinstance(result, _End):
            threads -= 1
        elif isinstance(result, BaseException):
            raise result
        else:
            yield result
