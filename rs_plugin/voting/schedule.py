"""What the network is shown next: draws of many images, mixed so that every pass is full.

Whoever wants votes of an image writes a *poll*: a generator that yields what it asks for and is sent the votes, as
often as it likes, and returns its result. The schedule cuts what all open polls ask for into slots of one chunk of
draws each, hands them out in groups and gives the polls their votes. It knows neither noise nor network.
"""

from __future__ import annotations

import itertools
import math
import reprlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rs_plugin.errors import ParameterError, WorkerError, first_line
from rs_plugin.streams import CHUNK, Stream

Counts = NDArray[np.int64]
T = TypeVar("T")


class DrawRange(NamedTuple):
    """Draws ``start … stop - 1`` of a stream; ``start`` is a multiple of the chunk size."""

    stream: Stream
    start: int
    stop: int


@dataclass(frozen=True)
class Ask:
    """Draws of one image whose answers are wanted.

    Args:
        image: in [0, 1], without a batch axis.
        index: the image's place in its data set, and with ``seed`` the source of its draws.
        seed: of the run.
        ranges: the draws.
        clean: whether the answer to the image itself, without noise, is wanted too.
    """

    image: Tensor
    index: int
    seed: int
    ranges: Sequence[DrawRange]
    clean: bool = False


class Answer(NamedTuple):
    """Votes (classes,) of every range, the class of the image itself if asked for, and the seconds it all took."""

    counts: list[Counts]
    base: int | None
    seconds: float


Poll = Generator[Ask, Answer, T]


def answers_by(
    run: Callable[[Iterable[Poll[tuple[int, Answer]]]], Iterable[tuple[int, Answer]]], asks: Sequence[Ask]
) -> list[Answer]:
    """Return the answer to each of several asks, by whatever answers polls in any order."""
    answers = dict(run(_numbered(number, ask) for number, ask in enumerate(asks)))
    if len(answers) < len(asks):
        raise WorkerError(f"{len(asks) - len(answers)} of {len(asks)} asks were left without an answer")
    return [answers[number] for number in range(len(asks))]


def _numbered(number: int, ask: Ask) -> Poll[tuple[int, Answer]]:
    return number, (yield ask)


@dataclass(eq=False)
class _Open(Generic[T]):
    """A poll that waits for an answer."""

    poll: Poll[T]
    counts: list[Counts]
    left: int
    base: int | None = None
    seconds: float = 0.0


class Slot(NamedTuple):
    """One chunk of one image: its first ``used`` draws count; if ``clean``, the image itself takes the next place."""

    ask: Ask
    stream: Stream
    chunk: int
    used: int
    clean: bool
    place: int
    opened: _Open[Any]


class Part(NamedTuple):
    """Slots of a group that are one poll's, as an ask of their own.

    Attributes:
        ask: for the draws of these slots alone; cut into slots again it gives the same ones.
        places: of its ranges among those of the poll's ask.
        slots: how many they are.
        opened: the poll.
    """

    ask: Ask
    places: list[int]
    slots: int
    opened: _Open[Any]


def parts_of(slots: Iterable[Slot]) -> list[Part]:
    """Return the parts that a group of slots is made of, in its order."""
    return [_part(list(group)) for _, group in itertools.groupby(slots, key=lambda slot: id(slot.opened))]


def _part(slots: Sequence[Slot]) -> Part:
    ranges, places = [], []
    for place, group in itertools.groupby((slot for slot in slots if slot.used), key=lambda slot: slot.place):
        used = list(group)
        first, last = used[0], used[-1]
        ranges.append(DrawRange(first.stream, first.chunk * CHUNK, last.chunk * CHUNK + last.used))
        places.append(place)
    ask = replace(slots[0].ask, ranges=ranges, clean=any(slot.clean for slot in slots))
    return Part(ask, places, len(slots), slots[0].opened)


class Schedule(Generic[T]):
    """Hands out the slots of polls; safe to use from several threads.

    Args:
        polls: taken one after the other, as many at a time as it takes to fill a group.
        size: slots in a group.
        num_classes: number of classes.
        mixed: whether a group may hold slots of several polls.
    """

    def __init__(self, polls: Iterable[Poll[T]], size: int, num_classes: int, mixed: bool) -> None:
        self._coming = iter(polls)
        self._size, self._num_classes, self._mixed = size, num_classes, mixed
        self._queue: deque[Slot] = deque()
        self._out = 0  # groups that were taken and not delivered yet
        self._more, self._stopped = True, False
        self._changed = threading.Condition()

    def take(self, *, wait: bool = True, whole: bool = False) -> list[Slot]:
        """Return the next group; nothing when all is done or stopped.

        Args:
            wait: whether to wait for groups that are out, where only they can tell what to ask for next; else nothing
                is returned then.
            whole: whether to take less than a group only when no other is out.
        """
        with self._changed:
            while True:
                if self._stopped:
                    return []
                while self._more and len(self._queue) < self._size:
                    self._open_next()
                if self._queue and not (whole and self._out and len(self._queue) < self._size):
                    break
                if not self._out or not wait:
                    return []
                self._changed.wait()
            count = min(self._size, len(self._queue))
            if not self._mixed:
                first = self._queue[0].opened
                count = next((i for i in range(count) if self._queue[i].opened is not first), count)
            self._out += 1
            return [self._queue.popleft() for _ in range(count)]

    def deliver(self, slots: Sequence[Slot], answers: Counts, seconds: float) -> list[T]:
        """Take the classes (slots, chunk) that the network answered, and return the results of polls that ended."""
        done: list[T] = []
        with self._changed:
            self._out -= 1
            for slot, classes in zip(slots, answers, strict=True):
                opened = slot.opened
                opened.seconds += seconds / len(slots)
                if slot.used:
                    opened.counts[slot.place] += np.bincount(classes[: slot.used], minlength=self._num_classes)
                if slot.clean:
                    opened.base = int(classes[slot.used])
                done += self._answered(opened, 1)
            self._changed.notify_all()
        return done

    def credit(self, parts: Sequence[Part], answers: Sequence[Answer]) -> list[T]:
        """Take the answer to each part of a group, counted elsewhere, and return the results of polls that ended.

        Raises:
            WorkerError: an answer is not what its part asks for; then none of the group is taken.
        """
        try:
            checked = [self._checked(part.ask, answer) for part, answer in zip(parts, answers, strict=True)]
        except (TypeError, ValueError, AttributeError) as error:
            asked = [[stop - start for _, start, stop in part.ask.ranges] for part in parts]
            raise WorkerError(
                f"a worker answered {reprlib.repr(answers)} where {reprlib.repr(asked)} draws were to fall into "
                f"{self._num_classes} classes each ({first_line(error)}); nothing of it was counted; use machines of "
                f"one kind, with the same versions of all packages"
            ) from error
        done: list[T] = []
        with self._changed:
            self._out -= 1
            for part, answer in zip(parts, checked, strict=True):
                opened = part.opened
                opened.seconds += answer.seconds
                for place, counts in zip(part.places, answer.counts, strict=True):
                    opened.counts[place] += counts
                if part.ask.clean:
                    opened.base = answer.base
                done += self._answered(opened, part.slots)
            self._changed.notify_all()
        return done

    @property
    def ended(self) -> bool:
        """Whether nothing is asked for, and nothing will be."""
        with self._changed:
            return not (self._queue or self._more or self._out)

    def resize(self, size: int) -> None:
        """Set the number of slots in the groups that are taken from now on."""
        with self._changed:
            self._size = size

    def stop(self) -> None:
        """Make every thread end that takes a group from now on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _checked(self, ask: Ask, answer: Answer) -> Answer:
        """Return an answer, or raise for one that counts other draws than were asked for, or other classes."""
        counts = [np.asarray(part) for part in answer.counts]
        for part, (_, start, stop) in zip(counts, ask.ranges, strict=True):
            if part.shape != (self._num_classes,) or part.dtype.kind not in "iu":
                raise ValueError(f"counts of shape {part.shape} and type {part.dtype}")
            if min(part.tolist()) < 0 or sum(part.tolist()) != stop - start:  # Python's numbers do not overflow
                raise ValueError(f"counts of {sum(part.tolist())} draws, the least {min(part.tolist())}")
        base = int(answer.base) if ask.clean and answer.base is not None else None
        if ask.clean and (base is None or not 0 <= base < self._num_classes):
            raise ValueError(f"class {answer.base} of the image itself")
        if not 0.0 <= answer.seconds < math.inf:
            raise ValueError(f"{answer.seconds} seconds")
        return Answer([part.astype(np.int64) for part in counts], base, float(answer.seconds))

    def _open_next(self) -> None:
        poll = next(self._coming, None)
        if poll is None:
            self._more = False
            return
        ask = next(poll, None)
        if ask is None:
            raise ParameterError("a poll ended without asking for draws; it must ask at least once")
        self._add(poll, ask)

    def _answered(self, opened: _Open[T], slots: int) -> list[T]:
        """Note that some of a poll's slots are answered; with the last of them it goes on, and may end."""
        opened.left -= slots
        return [] if opened.left else self._go_on(opened.poll, Answer(opened.counts, opened.base, opened.seconds))

    def _go_on(self, poll: Poll[T], answer: Answer) -> list[T]:
        try:
            self._add(poll, poll.send(answer))
        except StopIteration as end:
            return [end.value]
        return []

    def _add(self, poll: Poll[T], ask: Ask) -> None:
        counts = [np.zeros(self._num_classes, dtype=np.int64) for _ in ask.ranges]
        opened = _Open(poll, counts, 0)
        slots = _slots(ask, opened)
        if not slots:
            raise ParameterError(f"a poll asked for no draws of image {ask.index}; ask for some, or end")
        opened.left = len(slots)
        self._queue.extend(slots)


def _slots(ask: Ask, opened: _Open[Any]) -> list[Slot]:
    """Return the slots of an ask. The image itself takes the place of a draw that is not used, where there is one."""
    torn = [part for part in ask.ranges if part.start % CHUNK]
    if torn:
        raise ParameterError(f"draws from {torn[0].start} on were asked for; begin at a multiple of {CHUNK}")
    slots = [
        Slot(ask, stream, first // CHUNK, min(CHUNK, stop - first), False, place, opened)
        for place, (stream, start, stop) in enumerate(ask.ranges)
        for first in range(start, stop, CHUNK)
    ]
    if ask.clean:
        free = next((i for i, slot in enumerate(slots) if slot.used < CHUNK), None)
        if free is None:
            slots.append(Slot(ask, Stream.SELECTION, 0, 0, True, 0, opened))
        else:
            slots[free] = slots[free]._replace(clean=True)
    return slots
