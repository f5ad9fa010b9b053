"""Counting the base network's answers under noise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.errors import ModelError, UnknownNameError
from rs_plugin.streams import CHUNK, Stream, chunk_seed

_BLOCK_VALUES: Final = 1 << 20
_NOISE_VALUES: Final = 1 << 16  # smaller groups of chunks spend their time on calls
_BLOCK_ROWS: Final = 256

Counts = NDArray[np.int64]

#: Types that a network may compute in; all but float32 by autocast, on images in channels-last order.
PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DrawRange(NamedTuple):
    """Draws ``start … stop - 1`` of a stream; ``start`` is a multiple of the chunk size."""

    stream: Stream
    start: int
    stop: int


def block_rows(draws: int, dim: int) -> int:
    """Return how many noisy images go through the network at once: the most that fit, evenly shared.

    The shape of a block is the same for all blocks of a run, since a network's own rounding may depend on it.
    """
    most = max(CHUNK, min(_BLOCK_ROWS, _BLOCK_VALUES // dim))
    blocks = -(-draws // most)
    return -(-draws // blocks)


def noise_rows(rows: int, dim: int) -> int:
    """Return how many draws are made together: whole chunks, at least a block of ``rows``."""
    return CHUNK * max(-(-rows // CHUNK), _NOISE_VALUES // (CHUNK * dim))


class VoteCounter:
    """Counts votes of a base network for one image at a time; safe to use from several threads.

    Args:
        base: the network, in eval mode on ``device``, for images in [0, 1].
        noise: the smoothing noise.
        num_classes: number of classes that the network must answer with.
        image_shape: (channels, height, width).
        device: where the network and the draws live.
        rows: noisy images in one pass.
        precision: of the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Noise is added in float32.
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
    ) -> None:
        self._precision = precision
        self._base, self._noise, self._num_classes = base, noise, num_classes
        self._shape, self._device, self._rows = tuple(image_shape), device, rows
        self._local = threading.local()
        self._stopped = threading.Event()

    def count(self, image: Tensor, index: int, seed: int, ranges: list[DrawRange]) -> list[Counts]:
        """Return the votes (classes,) of each range of draws for the image with that index.

        Raises:
            ModelError: the network fails, or answers with another shape, with NaN or with infinite scores.
        """
        answers = self._answers(image, index, seed, ranges, clean=False)
        return self._counts(answers, ranges)

    def count_with_base(
        self, image: Tensor, index: int, seed: int, ranges: list[DrawRange]
    ) -> tuple[int, list[Counts]]:
        """Return the base network's class for the image itself, without noise, and what ``count`` returns.

        The image goes through the network in one block with its noisy versions, so it costs one row.
        """
        answers = self._answers(image, index, seed, ranges, clean=True)
        return int(answers[-1]), self._counts(answers[:-1], ranges)

    def stop(self) -> None:
        """Make every call under way, in whatever thread, raise KeyboardInterrupt before its next block."""
        self._stopped.set()

    def _counts(self, answers: Counts, ranges: list[DrawRange]) -> list[Counts]:
        counts, start = [], 0
        for part in ranges:
            stop = start + part.stop - part.start
            counts.append(np.bincount(answers[start:stop], minlength=self._num_classes))
            start = stop
        return counts

    def _answers(self, image: Tensor, index: int, seed: int, ranges: list[DrawRange], *, clean: bool) -> Counts:
        """Return the network's class for every draw, in order, and after them for the image itself if ``clean``."""
        flat = image.to(self._device, torch.float32).reshape(1, -1)
        draws = sum(part.stop - part.start for part in ranges)
        answers = torch.empty(draws + clean, dtype=torch.int64, device=self._device)
        done = filled = 0
        block, noise, generator = self._buffers(flat.shape[1])
        with torch.inference_mode(), computing_in(self._precision, self._device):
            for chunk, used in self._drawn(list(_chunks(ranges)), index, seed, noise, generator):
                taken = 0
                while taken < used:
                    size = min(used - taken, self._rows - filled)
                    torch.add(chunk[taken : taken + size], flat, out=block[filled : filled + size])
                    taken, filled = taken + size, filled + size
                    if filled == self._rows:
                        answers[done : done + filled] = self._answer(block)
                        done, filled = done + filled, 0
            if len(answers) > done:
                block[filled:] = flat  # the image itself pads the last block
                answers[done:] = self._answer(block)[: len(answers) - done]
        return np.asarray(answers.cpu().numpy())

    def _answer(self, block: Tensor) -> Tensor:
        if self._stopped.is_set():
            raise KeyboardInterrupt
        shape = (self._rows, *self._shape)
        images = block.view(shape)
        if self._precision != "float32" and len(shape) == 4:
            images = self._local.images.copy_(images)
        try:
            scores = self._base(images)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"the base network failed on float32 images of shape {shape}: {reason}") from error
        check_scores(scores, self._rows, self._num_classes)
        return torch.as_tensor(scores.argmax(1))

    def _drawn(
        self, chunks: list[tuple[Stream, int, int]], index: int, seed: int, noise: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, int]]:
        """Yield the noise of each chunk, in ``noise``, and how many of its draws are used."""
        many = len(noise) // CHUNK
        for first in range(0, len(chunks), many):
            group = chunks[first : first + many]
            seeds = [chunk_seed(seed, index, stream, number) for stream, number, _ in group]
            self._noise.fill_chunks(noise[: CHUNK * len(group)], seeds, generator)
            for i, (_, _, used) in enumerate(group):
                yield noise[CHUNK * i : CHUNK * (i + 1)], used

    def _buffers(self, dim: int) -> tuple[Tensor, Tensor, torch.Generator]:
        if not hasattr(self._local, "block"):
            self._local.block = torch.empty((self._rows, dim), dtype=torch.float32, device=self._device)
            shape = (noise_rows(self._rows, dim), dim)
            self._local.noise = torch.empty(shape, dtype=torch.float32, device=self._device)
            self._local.generator = torch.Generator(device=self._device)
            if self._precision != "float32" and len(self._shape) == 3:
                images = torch.empty((self._rows, *self._shape), dtype=torch.float32, device=self._device)
                self._local.images = images.to(memory_format=torch.channels_last)
        return self._local.block, self._local.noise, self._local.generator


def check_scores(scores: object, rows: int, num_classes: int) -> None:
    """Raise ModelError unless ``scores`` is a tensor (rows, num_classes) without NaN, the highest of each row finite.

    Scores of minus infinity, logarithms of 0 for instance, are as good as others unless all of a row are.
    """
    if not isinstance(scores, Tensor):
        raise ModelError(f"the base network returned {type(scores).__name__}; it must return a tensor of class scores")
    if scores.ndim != 2 or scores.shape[0] != rows:
        raise ModelError(
            f"the base network returned shape {tuple(scores.shape)} for {rows} images; "
            f"it must be ({rows}, {num_classes})"
        )
    if scores.shape[1] != num_classes:
        raise ModelError(
            f"the base network returned {scores.shape[1]} class scores, not {num_classes}; pass num_classes="
            f"{scores.shape[1]} if that is its number of classes"
        )
    highest = scores.amax(1)  # NaN where any score is
    if not bool(torch.isfinite(highest).all()):
        found = "NaN" if bool(torch.isnan(highest).any()) else "infinite scores"
        raise ModelError(f"the base network returned {found}; votes of such a network would mean nothing")


def _chunks(ranges: list[DrawRange]) -> Iterator[tuple[Stream, int, int]]:
    """Yield (stream, chunk number, draws used of it) of every chunk in the ranges."""
    for stream, start, stop in ranges:
        for first in range(start, stop, CHUNK):
            yield stream, first // CHUNK, min(CHUNK, stop - first)


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a precision, whatever autocast a caller may have set for his own thread."""
    kind = device.type if device.type == "cuda" else "cpu"
    if precision == "float32":
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, PRECISIONS[precision])


def check_precision(precision: str) -> str:
    """Return ``precision`` if it is the name of one.

    Raises:
        UnknownNameError: it is not.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    return precision


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run torch's operators on one thread each, so that their rounding does not depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
