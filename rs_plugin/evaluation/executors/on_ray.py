"""Votes counted by the workers of a Ray cluster, on many machines or on the processors of one.

The caller keeps the polls, their decisions and the vote store; workers hold the model and answer units of work: draws
of some images. A unit is credited once, whoever answers it and however often it was sent out, and its answer is a
function of seed, image and chunk. So neither the number of workers nor the death of one changes a vote.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rs_plugin.errors import WorkerError, WorkerWarning, first_line
from rs_plugin.evaluation.executors.base import Counting, Found, packages
from rs_plugin.evaluation.executors.cluster import LostError, connect, got, import_ray, room, shown
from rs_plugin.evaluation.executors.units import UnitSize
from rs_plugin.voting import Answer, Ask, DrawRange, Part, Poll, Schedule, parts_of

T = TypeVar("T")

#: What is sent to a worker: an image, its index, the seed, draws, and whether its clean class is wanted.
Task = tuple[NDArray[np.float32], int, int, list[DrawRange], bool]

_AHEAD: Final = 2  # units that a worker has at once, so that it never waits for the next
_TRIES: Final = 4  # deaths of workers that one unit may see, or workers that may die one after the other at the start
_START_SECONDS: Final = 300.0
_LATE: Final = 5.0  # times as long as usual, after which a unit is sent to an idle worker too
_LATE_SECONDS: Final = 10.0
_SILENT_SECONDS: Final = 1800.0  # of all workers, after which they are taken for lost
_POLL_SECONDS: Final = 1.0


class Worker:
    """What lives in an actor: the model, and what counts with it."""

    def look(self, counting: Counting, image: NDArray[np.float32]) -> Found:
        """Take the model, and return what it is here."""
        torch.set_num_threads(1)
        counting.model.to(counting.device)
        self._counter = counting.counter()
        return counting.found(self._counter, torch.tensor(image))

    def count(self, tasks: Sequence[Task]) -> list[Answer]:
        """Return the answer to each task."""
        return self._counter.ask(
            [Ask(torch.tensor(image), index, seed, ranges, clean) for image, index, seed, ranges, clean in tasks]
        )


@dataclass(eq=False)
class _Hired:
    """A worker, the units that it has, in order, and whether it is lost; then the first of them was its last work."""

    actor: Any
    units: list[_Unit] = field(default_factory=list)
    gone: bool = False


@dataclass(eq=False)
class _Unit:
    """Work that is sent out as one; ``out`` are the copies that are not answered yet."""

    parts: list[Part]
    slots: int
    deaths: int = 0
    out: int = 0
    sent: float = 0.0
    done: bool = False
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = [
            (part.ask.image.numpy(), part.ask.index, part.ask.seed, list(part.ask.ranges), part.ask.clean)
            for part in self.parts
        ]


class RayExecutor:
    """Workers of the Ray cluster that this process is connected to, that ``RAY_ADDRESS`` names or that runs here.

    Where there is none, one is started on this machine and stopped in the end.

    Args:
        counting: what is counted with. It is sent to the workers by pickle: they must be able to import what it is of.
        workers: how many, each with a CPU, and a GPU if that is the device; None for as many as the cluster has room
            for. Workers that there is no room for yet join when there is.

    Raises:
        DependencyError: Ray is not installed.
        WorkerError: there is no cluster, it has no room for a worker, or the model cannot be sent.
    """

    def __init__(self, counting: Counting, workers: int | None) -> None:
        self._ray = import_ray()
        self._counting = counting
        self._image: Any = None
        self._found: Found | None = None
        self._hired: list[_Hired] = []
        self._joining: dict[Any, _Hired] = {}
        self._staff: set[_Hired] = set()
        self._deaths, self._running = 0, False
        self._started = connect(self._ray, workers)
        try:
            needs = {"num_cpus": 1, "num_gpus": int(counting.device.type == "cuda")}
            self._wanted = workers or room(self._ray, needs)
            self._kind = self._ray.remote(Worker).options(max_restarts=0, scheduling_strategy="SPREAD", **needs)
            try:
                self._sent = self._ray.put(_sendable(counting))
            except Exception as error:
                raise WorkerError(f"the model cannot be sent to workers: {first_line(error)}") from error
        except BaseException:
            self.close()
            raise

    def look(self, image: Tensor) -> Found:
        """Return what the network is, as the first worker that is there finds it."""
        try:
            self._wait_for_the_first(image)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise _lost_cluster(error) from error
        assert self._found is not None
        _check_agree(self._found, self._counting, image)
        return self._found

    def run(self, polls: Iterable[Poll[T]]) -> Generator[T, None, None]:
        """Answer polls, and yield the result of each as it ends."""
        assert self._found is not None, "look(image) comes first"
        if self._running:
            raise WorkerError("these workers are in a run already; end that one, or open another executor")
        self._running = True
        try:
            yield from _Round(self._ray, self, self._counting, polls, self._found.mixed).results()
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            raise _lost_cluster(error) from error
        finally:
            self._running = False

    @property
    def staff(self) -> set[_Hired]:
        """Workers that have joined and are still there."""
        return self._staff

    @property
    def joining(self) -> dict[Any, _Hired]:
        """Workers that are about to join, by what tells of it."""
        return self._joining

    def welcome(self, ready: Iterable[Any]) -> list[_Hired]:
        """Let workers join that have answered what the network is, and return them; one that died is replaced."""
        joined = []
        for ref in ready:
            hired = self._joining.pop(ref)
            try:
                found = got(self._ray, ref)
            except LostError as lost:
                self.replace(hired, lost)
                continue
            self._found = self._found or found
            if found != self._found:
                self._dismiss(hired, found, self._found)
                continue
            self._deaths = 0
            self._staff.add(hired)
            joined.append(hired)
        return joined

    def replace(self, hired: _Hired, lost: LostError) -> None:
        """Hire another worker for one that was lost.

        Raises:
            WorkerError: too many were lost one after the other.
        """
        self._end(hired)
        self._deaths += 1
        if self._deaths >= self._wanted + _TRIES:
            raise WorkerError(f"{self._deaths} workers were lost and none has answered in between: {lost}") from lost
        self._hire()

    def answered(self) -> None:
        """Note that some worker has answered."""
        self._deaths = 0

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        try:
            for hired in self._hired:
                if not hired.gone:
                    with suppress(Exception):  # a cluster that is lost has no workers either
                        self._end(hired)
        finally:
            if self._started:
                self._started = False
                self._ray.shutdown()

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _wait_for_the_first(self, image: Tensor) -> None:
        self._image = self._ray.put(image.numpy().copy())
        for _ in range(self._wanted):
            self._hire()
        begun = time.monotonic()
        while not self._staff:
            self.welcome(self._ray.wait(list(self._joining), timeout=_POLL_SECONDS)[0])
            if not self._staff and time.monotonic() - begun > _START_SECONDS:
                raise WorkerError(
                    f"no worker has started within {_START_SECONDS:g} s; free on the cluster: "
                    f"{shown(self._ray.available_resources())}; ask for fewer workers, or add machines"
                )

    def _hire(self) -> None:
        hired = _Hired(self._kind.remote())
        self._hired.append(hired)
        self._joining[hired.actor.look.remote(self._sent, self._image)] = hired

    def _end(self, hired: _Hired) -> None:
        hired.gone = True
        self._staff.discard(hired)
        self._ray.kill(hired.actor)

    def _dismiss(self, hired: _Hired, found: Found, agreed: Found) -> None:
        """Do without a worker that finds another model, or draws otherwise, than those before it."""
        self._end(hired)
        text = _differing(found, agreed)
        if not self._staff and not self._joining:
            raise WorkerError(f"no worker is left that finds what the others found: the last one differs in {text}")
        warnings.warn(
            WorkerWarning(
                f"a worker is not used, since it differs from the others in {text}; use machines of one kind, with the "
                f"same versions of all packages"
            ),
            stacklevel=2,
        )


def _lost_cluster(error: Exception) -> WorkerError:
    return WorkerError(f"the Ray cluster is lost: {first_line(error)}; the images counted are kept; begin again")


def _sendable(counting: Counting) -> Counting:
    """Return what is sent to workers: on the CPU, since none of them may have the GPU that the model is on here."""
    model = counting.model
    if model.device.type != "cpu":
        model = copy.deepcopy(model).to("cpu")
    return replace(counting, model=model, device=torch.device(counting.device.type))


def _check_agree(found: Found, counting: Counting, image: Tensor) -> None:
    """Raise WorkerError where workers have another model, or draw otherwise, than this process.

    Passes on devices of two types have nothing to compare, and this machine may round otherwise than the workers'.
    """
    here = found._replace(packages=packages())
    if here == found and counting.model.device.type == found.device:
        other = counting.found(counting.counter(), image)
        here = here._replace(fingerprint=other.fingerprint, noise=other.noise)
    if here == found:
        return
    if here.packages != found.packages:
        raise WorkerError(
            f"workers have other versions than this process, {found.packages} for {here.packages} here; install the "
            f"same, so that they draw the same"
        )
    raise WorkerError(
        f"workers differ from this process in the {_differing(found, here)}: the model that was sent to the workers "
        f"answers otherwise than the one here, since it has something that pickle does not carry, or packages differ; "
        f"use executor='local', or mend the model"
    )


def _differing(found: Found, other: Found) -> str:
    return ", ".join(name for name, a, b in zip(Found._fields, found, other, strict=True) if a != b)


class _Round(Generic[T]):
    """One run over some polls.

    Args:
        ray: the package.
        office: who hires the workers.
        counting: what they count with.
        polls: what is to be answered.
        mixed: whether a pass may hold draws of several images.
    """

    def __init__(
        self, ray: Any, office: RayExecutor, counting: Counting, polls: Iterable[Poll[T]], mixed: bool
    ) -> None:
        self._ray, self._office = ray, office
        self._size = UnitSize(counting.rows, int(np.prod(counting.image_shape)))
        self._schedule: Schedule[T] = Schedule(polls, self._size.slots, counting.model.num_classes, mixed)
        self._again: deque[_Unit] = deque()
        for hired in office.staff:
            hired.units.clear()
        self._free = deque([*office.staff] * _AHEAD)  # each as often as there is room for a unit more
        self._out: dict[Any, tuple[_Hired, _Unit]] = {}

    def results(self) -> Generator[T, None, None]:
        """Yield the results of polls as they end."""
        silent = 0.0
        while True:
            self._hand_out()
            if self._schedule.ended:
                return
            begun = time.monotonic()
            ready = self._ready()
            silent = 0.0 if ready else silent + time.monotonic() - begun
            if silent > _SILENT_SECONDS:
                self._lose_all()
                silent = 0.0
            self._free.extend(self._office.welcome([ref for ref in ready if ref in self._office.joining]) * _AHEAD)
            for ref in ready:
                if ref in self._out:
                    yield from self._taken(ref)

    def _ready(self) -> list[Any]:
        """Return what has been answered; nothing if that takes long."""
        asked = [*self._out, *self._office.joining]
        if self._ray.wait(asked, timeout=_POLL_SECONDS)[0]:
            return list(self._ray.wait(asked, num_returns=len(asked), timeout=0)[0])
        return []

    def _hand_out(self) -> None:
        while self._free:
            hired = self._free.popleft()
            if hired.gone:
                continue
            unit = self._next()
            if unit is None:
                self._free.appendleft(hired)
                break
            self._send(hired, unit)
        else:
            return
        for hired in [one for one in self._free if not (one.units or one.gone)]:
            late = None if hired.units else self._late()
            if late is not None:
                self._free.remove(hired)
                self._send(hired, late)

    def _next(self) -> _Unit | None:
        if self._again:
            return self._again.popleft()
        slots = self._schedule.take(wait=False)
        if not slots:
            return None
        return _Unit(parts_of(slots), len(slots))

    def _late(self) -> _Unit | None:
        """Return what has been out for so long that another worker may be faster."""
        now = time.monotonic()
        late = [
            unit
            for _, unit in self._out.values()
            if not unit.done
            and now - unit.sent > max(_LATE_SECONDS, _LATE * _AHEAD * self._size.seconds(unit.slots))
        ]
        return min(late, key=lambda unit: unit.out, default=None)

    def _send(self, hired: _Hired, unit: _Unit) -> None:
        self._out[hired.actor.count.remote(unit.tasks)] = hired, unit
        hired.units.append(unit)
        unit.out, unit.sent = unit.out + 1, time.monotonic()

    def _taken(self, ref: Any) -> Iterable[T]:
        """Take a unit's answer, unless another worker gave it before."""
        hired, unit = self._out[ref]
        try:
            answers: list[Answer] = got(self._ray, ref)
        except LostError as lost:
            self._lose(hired, lost)
            return []
        del self._out[ref]
        unit.out -= 1
        hired.units.remove(unit)
        self._office.answered()
        self._free.append(hired)
        if unit.done:
            return []
        ended = self._schedule.credit(unit.parts, answers)
        unit.done = True
        seconds = sum(answer.seconds for answer in answers)
        self._schedule.resize(self._size.after(unit.slots, seconds, len(self._office.staff)))
        return ended

    def _lose(self, hired: _Hired, lost: LostError) -> None:
        """Take back what a worker had that is lost, and hire another."""
        self._office.replace(hired, lost)
        for ref in [ref for ref, (one, _) in self._out.items() if one is hired]:
            _, unit = self._out.pop(ref)
            unit.out -= 1
            if unit.done:
                continue
            unit.deaths += unit is hired.units[0]
            if unit.deaths >= _TRIES:
                images = sorted({part.ask.index for part in unit.parts})
                raise WorkerError(
                    f"{unit.deaths} workers were lost over the same images, {images[0]} … {images[-1]}: {lost}"
                ) from lost
            if not unit.out:
                self._again.append(unit)

    def _lose_all(self) -> None:
        """Take all workers for lost that have work, since none has answered for long."""
        silent = [hired for hired in self._office.staff if hired.units]
        lost = LostError(f"no worker has answered for {_SILENT_SECONDS:g} s")
        if not silent:
            raise WorkerError(f"{lost}; the images counted are kept")
        for hired in silent:
            self._lose(hired, lost)
