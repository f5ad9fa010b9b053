"""What an evaluation will take, before it is begun: passes of the network, time, memory, money."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from rs_plugin.datasets import Dataset
from rs_plugin.errors import ParameterError
from rs_plugin.estimation import StoppingRule, select_class
from rs_plugin.estimation.simulation import simulate_stopping
from rs_plugin.evaluation.asked import Asked, ask, warn_uncertifiable
from rs_plugin.evaluation.executors import Executor, open_executor
from rs_plugin.evaluation.fingerprint import run_key
from rs_plugin.evaluation.store import VoteStore
from rs_plugin.smoothing import SmoothedClassifier, check_whole
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.voting import Answer, Ask, DrawRange, answers_by

_MOST_IMAGES: Final = 64
_LEAST_IMAGES: Final = 4
_MOST_DRAWS: Final = 1024  # of a pilot image
_REPEATS: Final = 60
_TIMED_SECONDS: Final = 3.0
_ENDS: Final = (0.1, 0.9)  # of what is expected, as quantiles
_BYTES_OF_A_ROW: Final = 160  # of the store, without counts


@dataclass(frozen=True)
class Expected:
    """A range in which a number lies four times in five, its mean, and its worst case."""

    least: float
    mean: float
    most: float
    worst: float

    def times(self, factor: float, each: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Expected:
        """Return all of it in another unit, in which each number may have a factor of its own."""
        values = (self.least, self.mean, self.most, self.worst)
        return Expected(*(factor * one * value for one, value in zip(each, values, strict=True)))

    def plus(self, more: float) -> Expected:
        """Return all of it with something that is known."""
        return Expected(*(more + value for value in (self.least, self.mean, self.most, self.worst)))


@dataclass(frozen=True)
class Plan:
    """What an evaluation will take.

    Attributes:
        images: how many are to be counted.
        stored: how many more are in the store already.
        passes: noisy images that the network is shown.
        seconds: of all workers together as they were in the pilot, divided by ``machines``.
        cost: at the price of a machine and hour; None without a price.
        passes_per_second: of one machine, as the pilot found.
        memory: largest number of bytes that the pilot took, of the GPU if there is one, else of this process; None
            where that is not known, as of workers elsewhere.
        store: bytes that the votes will take in the store.
        machines: over how many of the kind of this one the work is spread.
        pilot_images: images of the pilot.
        pilot_draws: draws of each of them.
        pilot_seconds: what it took.
        device: where the network ran.
    """

    images: int
    stored: int
    passes: Expected
    seconds: Expected
    cost: Expected | None
    passes_per_second: float
    memory: int | None
    store: int
    machines: int
    pilot_images: int
    pilot_draws: int
    pilot_seconds: float
    device: str

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain numbers."""
        return asdict(self)


def plan(
    model: SmoothedClassifier,
    dataset: str | Path | Dataset = "digits",
    threat_model: str = "L2",
    radii: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    stopping: str = "fixed",
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 1e-3,
    seed: int = 0,
    n_examples: int | None = None,
    subset: str | None = None,
    store: str | Path | None = "runs.sqlite",
    device: str | torch.device | None = None,
    *,
    method: str = "auto",
    executor: str = "local",
    workers: int | None = None,
    data_dir: str | Path | None = None,
    preprocessing: Any = None,
    batch_size: int | None = None,
    seconds: float = 20.0,
    machines: int = 1,
    price: float | None = None,
) -> Plan:
    """Return what ``evaluate`` with the same arguments will take.

    A pilot counts some draws of some images, drawn at random: that gives passes per second and, for each of these
    images, what is known of the probability of its class, ``Beta(s + 1/2, n - s + 1/2)`` (Jeffreys). An anytime run is
    then simulated with probabilities drawn from that, and with images drawn again from those of the pilot; the range is
    that of the totals. A fixed run takes what it takes. Nothing is stored.

    Args:
        model: as for ``evaluate``, and so are the other arguments that are not named here.
        dataset: as for ``evaluate``.
        threat_model: as for ``evaluate``.
        radii: as for ``evaluate``.
        stopping: as for ``evaluate``.
        n0: as for ``evaluate``.
        n: as for ``evaluate``.
        alpha: as for ``evaluate``.
        seed: of the draws, and of the choice of images and the simulation.
        n_examples: as for ``evaluate``.
        subset: as for ``evaluate``.
        store: images that are there already are not counted again. Nothing is written to it.
        device: as for ``evaluate``.
        method: as for ``evaluate``.
        executor: as for ``evaluate``.
        workers: as for ``evaluate``.
        data_dir: as for ``evaluate``.
        preprocessing: as for ``evaluate``.
        batch_size: as for ``evaluate``.
        seconds: that the pilot may take, or little more; at least 4 images are tried, whatever they take.
        machines: of the kind of this one, or of the cluster that the pilot ran on, over which the run is to be spread.
        price: of one of them, for an hour.

    Warns:
        UncertifiableRadiusWarning: as ``evaluate`` does.

    Raises:
        ParameterError: seconds, machines or price out of range, or what ``evaluate`` would refuse.
        RSPluginError: as ``evaluate`` raises them.
    """
    check_whole("machines", machines)
    for name, value in (("seconds", seconds), ("price", 1.0 if price is None else price)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ParameterError(f"{name} must be a number above 0, not {value!r}")
    asked = ask(
        model=model, dataset=dataset, threat_model=threat_model, radii=radii, stopping=stopping, n0=n0, n=n,
        alpha=alpha, seed=seed, n_examples=n_examples, subset=subset, device=device, method=method, executor=executor,
        workers=workers, data_dir=data_dir, preprocessing=preprocessing, batch_size=batch_size,
    )  # fmt: skip
    warn_uncertifiable(asked.radii, asked.required, asked.n, asked.budget.votes, asked.stopping)
    data = asked.data
    with open_executor(executor, asked.counting, workers) as counters:
        found = counters.look(data.images[0])
        stored = _stored(store, run_key(asked.config(found)))
        todo = [position for position, index in enumerate(data.indices.tolist()) if index not in stored]
        pilot = _Pilot(asked, counters, todo, seconds)
    passes, looking = pilot.expected(len(todo))
    slow, fast = pilot.seconds_a_pass[-1], pilot.seconds_a_pass[0]
    each = (fast, 1.0 / pilot.rate, slow, slow)
    taken = passes.times(1.0 / machines, each).plus(looking)
    here = executor == "local"
    return Plan(
        images=len(todo), stored=len(data) - len(todo), passes=passes, seconds=taken,
        cost=None if price is None else taken.times(price * machines / 3600.0),
        passes_per_second=pilot.rate, memory=_memory(asked.counting.device) if here else None,
        store=len(todo) * (_BYTES_OF_A_ROW + pilot.text), machines=machines, pilot_images=len(pilot.answers),
        pilot_draws=pilot.draws, pilot_seconds=pilot.seconds, device=found.device,
    )  # fmt: skip


class _Pilot:
    """Some draws of some images.

    Args:
        asked: the evaluation.
        counters: who counts.
        todo: positions of the images that it has left.
        seconds: that it may take.
    """

    def __init__(self, asked: Asked, counters: Executor, todo: Sequence[int], seconds: float) -> None:
        self._asked = asked
        generator = np.random.default_rng(asked.seed)
        some = generator.permutation(todo or range(len(asked.data)))
        # One pass at most, since the first are slow: the pilot rather takes less than it may.
        first = min(_rows(asked.n0) + CHUNK, asked.counting.rows)
        begun = time.perf_counter()
        self._count(counters, some[:1], CHUNK)
        room = seconds * first / (time.perf_counter() - begun)
        images = int(np.clip(room // (4 * CHUNK), _LEAST_IMAGES, _MOST_IMAGES))
        chosen = some[:images]
        share = int(room / len(chosen)) - _rows(asked.n0)
        most = min(_MOST_DRAWS, _rows(asked.n))
        self.draws = int(np.clip(share // CHUNK * CHUNK, CHUNK, most))
        passes = len(chosen) * (_rows(asked.n0) + _rows(self.draws))
        rounds: list[float] = []
        while sum(rounds) < min(seconds / 4.0, _TIMED_SECONDS) or not rounds:  # the same draws again, to time them
            begun = time.perf_counter()
            self.answers = self._count(counters, chosen, self.draws)
            rounds.append(time.perf_counter() - begun)
        self.seconds = sum(rounds)
        self.rate = len(rounds) * passes / self.seconds
        self.seconds_a_pass = sorted(taken / passes for taken in rounds)
        counts = [part.tolist() for answer in self.answers for part in answer.counts]
        self.text = -(-len(str(counts)) // len(self.answers))

    def expected(self, images: int) -> tuple[Expected, float]:
        """Return how often the network is run for so many images, and the seconds that the rule thinks beside that."""
        rule, n0 = self._asked.rule(), self._asked.n0
        worst = float(images * (_rows(n0) + _rows(self._asked.n)))
        if rule is None:
            return Expected(worst, worst, worst, worst), 0.0
        generator = np.random.default_rng(self._asked.seed)
        drawn, looks = self._simulated(rule, generator)
        passes = _rows(n0) + _rows(drawn)
        again = generator.integers(passes.shape[1], size=(len(passes), passes.shape[1]))
        totals = images * np.take_along_axis(passes, again, axis=1).mean(axis=1)
        least, most = np.quantile(totals, _ENDS)
        expected = Expected(float(least), float(images * passes.mean()), float(most), worst)
        return expected, images * looks * _seconds_of(lambda: rule.next_look(self.draws, self.draws))

    def _simulated(self, rule: StoppingRule, generator: np.random.Generator) -> tuple[NDArray[np.int64], float]:
        """Return the draws of each repeat and pilot image, and the looks that an image takes on average."""
        chosen = [int(select_class(answer.counts[0])) for answer in self.answers]
        s = np.array([answer.counts[1][at] for answer, at in zip(self.answers, chosen, strict=True)])
        p = generator.beta(s + 0.5, self.draws - s + 0.5, size=(_REPEATS, len(s)))
        looks = 0

        def look(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> NDArray[np.int64]:
            nonlocal looks
            looks += len(trials)
            return rule.next_look(successes, trials)

        _, drawn = simulate_stopping(p.ravel(), look, generator)
        return drawn.reshape(p.shape), looks / p.size

    def _count(self, counters: Executor, positions: Sequence[int] | NDArray[np.int64], draws: int) -> list[Answer]:
        asked, data = self._asked, self._asked.data
        ranges = [DrawRange(Stream.SELECTION, 0, asked.n0), DrawRange(Stream.ESTIMATION, 0, draws)]
        return answers_by(
            counters.run, [Ask(data.images[i], int(data.indices[i]), asked.seed, ranges) for i in np.asarray(positions)]
        )


def _seconds_of(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(_REPEATS):
        call()
    return (time.perf_counter() - begun) / _REPEATS


def _rows(draws: Any) -> Any:
    """Return the noisy images that so many draws take: whole chunks."""
    return CHUNK * -(-draws // CHUNK)


def _stored(path: str | Path | None, key: str) -> set[int]:
    """Return the images of a run that are in a store, if there is one."""
    if path is None or not Path(path).exists() or not Path(path).stat().st_size:
        return set()
    with VoteStore(path) as store:
        return set(store.votes(key))


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest if sys.platform == "darwin" else largest * 1024)
