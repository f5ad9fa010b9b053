"""Executors: the same votes whoever counts them, however often a worker is lost, and what cannot be used is said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rs_plugin.distributions import Gaussian
from rs_plugin.errors import (
    DependencyError,
    ModelError,
    ParameterError,
    UnknownNameError,
    WorkerError,
    WorkerWarning,
)
from rs_plugin.evaluation import evaluate
from rs_plugin.evaluation.executors import Counting, cluster, on_ray, open_executor, units
from rs_plugin.evaluation.executors.units import UnitSize
from rs_plugin.evaluation.results import Run
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.voting import Ask, DrawRange, answers_by
from tests.evaluation.fake_ray import FakeRay
from tests.evaluation.toys import SHAPE, Rows, toy_data, toy_model, votes_of

ASKED: dict[str, dict[str, Any]] = {
    "fixed": {"stopping": "fixed", "n": 1500},
    "anytime": {"stopping": "anytime", "n": 6000},
}


def run(model: SmoothedClassifier | None = None, **how: Any) -> Run:
    given: dict[str, Any] = {"radii": [0.0, 0.05, 0.1], "n0": 100, "alpha": 0.01, "store": None, "workers": 3}
    return evaluate(model or toy_model(), toy_data(12), "L2", **{**given, **how})


COUNTING, IMAGE = Counting(toy_model(), SHAPE, 64, torch.device("cpu")), toy_data().images[0]


def poll(index: int) -> Any:
    """Ask for 640 draws, and return how many have been counted."""
    return (yield Ask(IMAGE, index, 0, [DrawRange(Stream.ESTIMATION, 0, 640)])).counts[0].sum()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a fake Ray in the place of Ray, with a clock of its own."""

    def put(**how: Any) -> FakeRay:
        ray = FakeRay(**how)
        monkeypatch.setattr(on_ray, "import_ray", lambda: ray)
        monkeypatch.setattr(units, "_SECONDS", 0.0)  # many units, of one group each
        monkeypatch.setattr(on_ray, "time", SimpleNamespace(monotonic=lambda: ray.seconds))
        return ray

    return put


class Placed(Rows):
    """Scores that depend on the place in a pass by rounding alone, so that no pass may hold draws of two images."""

    def forward(self, x: Tensor) -> Tensor:
        place = 1.0 + 1e-7 * torch.arange(len(x), dtype=x.dtype).unsqueeze(1)
        return super().forward(x) * place


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("seed", range(6))
def test_votes_are_those_of_one_thread(asked: str, seed: int, fake: Any) -> None:
    ray = fake(seed=seed, deaths=seed, hangs=min(seed, 2), early=True)
    found = run(executor="ray", **ASKED[asked])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED[asked]))
    assert ray.deaths == 0, "all of them died"
    assert not ray.running
    assert all(actor.dead for actor in ray.actors)


@pytest.mark.parametrize("asked", ASKED)
def test_an_answer_that_comes_twice_counts_once(asked: str, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that sleep for a while wake when others do what they had, and then answer too."""
    plain, twice = on_ray._Round._taken, []

    def taken(self: Any, ref: Any) -> Any:
        twice.append(self._out[ref][1].done)
        return plain(self, ref)

    monkeypatch.setattr(on_ray._Round, "_taken", taken)
    monkeypatch.setattr(on_ray, "_POLL_SECONDS", 4.0)
    expected = votes_of(run(workers=1, **ASKED[asked]))
    for seed in range(8):
        fake(seed=seed, naps=6)
        assert votes_of(run(executor="ray", **ASKED[asked])) == expected
    assert any(twice), "else the test would see nothing"


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("seed", range(3))
def test_passes_of_one_image_are_cut_alike(asked: str, seed: int, fake: Any) -> None:
    model = SmoothedClassifier(Placed(), Gaussian(0.25), 3)
    fake(seed=seed, deaths=seed)
    found = run(model, executor="ray", **ASKED[asked])
    assert votes_of(found) == votes_of(run(model, workers=1, **ASKED[asked]))


@pytest.mark.parametrize("seed", range(20))
def test_all_workers_but_one_may_fall_silent(seed: int, fake: Any) -> None:
    fake(seed=seed, hangs=4, cpus=5)
    found = run(executor="ray", workers=5, **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))


def test_workers_do_one_run_at_a_time(fake: Any) -> None:
    fake()
    with open_executor("ray", COUNTING, 2) as counters:
        counters.look(IMAGE)
        first = counters.run(map(poll, range(4)))
        assert next(first) == 640
        with pytest.raises(WorkerError, match="in a run already"):
            next(counters.run(map(poll, range(4))))
        first.close()
        assert list(counters.run(map(poll, range(4)))) == [640] * 4


def test_workers_that_were_stopped_in_a_run_do_what_is_late_in_the_next(fake: Any) -> None:
    """What they had of the run before is forgotten, so that they are idle, and one of three may hang."""
    for seed in range(6):
        ray = fake(seed=seed)
        with open_executor("ray", COUNTING, 3) as counters:
            counters.look(IMAGE)
            first = counters.run(map(poll, range(20)))
            next(first)
            first.close()
            ray.hangs, begun = 1, ray.seconds
            assert list(counters.run(map(poll, range(20)))) == [640] * 20
            assert ray.seconds - begun < 1800.0


def test_a_run_begun_by_one_executor_is_ended_by_the_other(fake: Any, tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    first = run(store=store, n_examples=5, **ASKED["fixed"])
    ray = fake(seed=1, deaths=1)
    second = run(store=store, executor="ray", **ASKED["fixed"])
    assert first.key == second.key
    assert votes_of(second) == votes_of(run(workers=1, **ASKED["fixed"]))
    ray.log.clear()
    run(store=store, executor="ray", **ASKED["fixed"])
    assert ray.log.count("count") <= 2, "some draws are counted again, to see that the votes are this network's"


@pytest.mark.parametrize("stop_at", [1, 4])
def test_an_interruption_keeps_what_was_counted(stop_at: int, fake: Any, tmp_path: Path) -> None:
    store = tmp_path / "runs.sqlite"
    ray = fake(seed=3)

    def interrupt(done: int, total: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store=store, executor="ray", progress=interrupt, **ASKED["fixed"])
    assert all(actor.dead for actor in ray.actors)
    assert not ray.running
    seen: list[int] = []
    found = run(store=store, executor="ray", progress=lambda done, total: seen.append(done), **ASKED["fixed"])
    assert seen[0] >= stop_at
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))


def test_images_that_kill_every_worker_stop_the_run(fake: Any) -> None:
    fake(deaths=99, when=lambda name: name == "count")
    with pytest.raises(WorkerError, match=r"workers were lost .*: the actor died"):
        run(executor="ray", **ASKED["fixed"])


def test_workers_that_never_start_stop_the_run(fake: Any) -> None:
    fake(deaths=99, early=True, when=lambda name: True)
    with pytest.raises(WorkerError, match="workers were lost and none has answered"):
        run(executor="ray", **ASKED["fixed"])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_are_all_silent_are_replaced(workers: int, fake: Any) -> None:
    ray = fake(seed=2, hangs=workers, cpus=workers, when=lambda name: name == "count")
    found = run(executor="ray", workers=workers, **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))
    assert ray.seconds > 1800.0, "all of them were silent"
    assert len(ray.actors) == 2 * workers


def test_silence_of_all_that_are_tried_stops_the_run(fake: Any) -> None:
    fake(hangs=99, when=lambda name: name == "count")
    with pytest.raises(WorkerError, match="no worker has answered for 1800 s"):
        run(executor="ray", **ASKED["fixed"])


def test_a_cluster_without_room_is_told_of(fake: Any) -> None:
    fake(cpus=0)
    with pytest.raises(WorkerError, match="no room for a worker: it has 0 CPU, 0 GPU"):
        run(executor="ray", workers=None, **ASKED["fixed"])


def test_workers_that_do_not_start_in_time_are_told_of(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = fake()
    monkeypatch.setattr(ray, "_happen", lambda: None)
    with pytest.raises(WorkerError, match="no worker has started within 300 s; free on the cluster: 3 CPU"):
        run(executor="ray", **ASKED["fixed"])


class Fails(Rows):
    def forward(self, x: Tensor) -> Tensor:
        if float(x.max()) > 2.0:
            raise ValueError("a bright image")
        return super().forward(x)


def test_a_network_that_fails_there_fails_as_it_does_here(fake: Any) -> None:
    model = SmoothedClassifier(Fails(), Gaussian(0.25), 3)
    with pytest.raises(ModelError) as here:
        run(model, workers=1, **ASKED["fixed"])
    fake()
    with pytest.raises(ModelError) as there:
        run(model, executor="ray", **ASKED["fixed"])
    assert str(there.value) == str(here.value)


class Forgetful(Rows):
    """Answers otherwise after pickle."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "shift": 0.25}


def test_a_network_that_pickle_changes_is_refused(fake: Any) -> None:
    fake()
    with pytest.raises(WorkerError, match="answers otherwise than the one here"):
        run(SmoothedClassifier(Forgetful(), Gaussian(0.25), 3), executor="ray", **ASKED["fixed"])


@pytest.fixture
def found_by(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes some workers, by the order in which they join, find something else."""

    def put(which: Callable[[int], bool], **other: Any) -> None:
        plain, calls = on_ray.Worker.look, []

        def look(self: on_ray.Worker, *given: Any) -> Any:
            calls.append(1)
            found = plain(self, *given)
            return found._replace(**other) if which(len(calls)) else found

        monkeypatch.setattr(on_ray.Worker, "look", look)

    return put


OTHER = [
    {"layout": "channels_last"}, {"mixed": False}, {"fingerprint": "other"}, {"device": "cuda"},
    {"packages": "torch 0"}, {"noise": "other"}, {"draws": "other"},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHER)
def test_a_worker_that_differs_from_the_others_is_not_used(
    other: dict[str, Any], fake: Any, found_by: Callable[..., None]
) -> None:
    """Whatever comes first is compared with this process."""
    found_by(lambda call: call == 3, **other)
    ray = fake(seed=5)
    with pytest.warns(WorkerWarning, match=f"a worker is not used, since it differs .* in {next(iter(other))}; use"):
        found = run(executor="ray", **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))
    assert all(actor.dead for actor in ray.actors)


def test_where_no_worker_is_left_but_one_that_differs_the_run_stops(fake: Any, found_by: Callable[..., None]) -> None:
    found_by(lambda call: call > 1, draws="other")
    fake(seed=1, deaths=1, cpus=1, when=lambda name: name == "count")
    with pytest.raises(WorkerError, match=r"no worker is left that finds what the others found: .* in draws"):
        run(executor="ray", workers=1, **ASKED["fixed"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fingerprint": "other"}, "differ from this process in the fingerprint: the model that was sent"),
        ({"noise": "other"}, "differ from this process in the noise"),
        ({"packages": "rs_plugin 9, torch 1"}, r"other versions than this process, rs_plugin 9, torch 1 for rs_plugin"),
    ],
)
def test_workers_that_differ_from_this_process_are_refused(
    other: dict[str, Any], message: str, fake: Any, found_by: Callable[..., None]
) -> None:
    found_by(lambda call: True, **other)
    fake()
    with pytest.raises(WorkerError, match=message):
        run(executor="ray", **ASKED["fixed"])


def test_workers_may_round_draws_otherwise_than_this_process(fake: Any, found_by: Callable[..., None]) -> None:
    found_by(lambda call: True, draws="rounded otherwise")
    fake()
    found = run(executor="ray", **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer._replace(counts=[part + 1 for part in answer.counts]),
        lambda answer: answer._replace(counts=[np.roll(part, 1) * np.array([1, -1, 1]) for part in answer.counts]),
        lambda answer: answer._replace(counts=[np.append(part, 0) for part in answer.counts]),
        lambda answer: answer._replace(counts=[part.astype(float) for part in answer.counts]),
        lambda answer: answer._replace(counts=answer.counts[:-1]),
        lambda answer: answer._replace(base=3),
        lambda answer: answer._replace(base=None),
        lambda answer: answer._replace(seconds=float("nan")),
        lambda answer: answer._replace(seconds=float("inf")),
        lambda answer: answer._replace(seconds=None),
        lambda answer: answer._replace(counts=[[2**63 - 1, 2**63 - 1, int(part.sum()) + 2] for part in answer.counts]),
        lambda answer: None,
    ],
    ids=[
        "more", "negative", "classes", "halves", "fewer", "no class", "no answer", "no time", "all time",
        "time unknown", "overflow", "nothing",
    ],
)
def test_an_answer_that_cannot_be_is_not_counted(spoil: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = on_ray.Worker.count
    monkeypatch.setattr(on_ray.Worker, "count", lambda self, tasks: [spoil(answer) for answer in plain(self, tasks)])
    fake()
    with pytest.raises(WorkerError, match=r"a worker answered .* where \[\[100.*into 3 classes .* nothing of it was"):
        run(executor="ray", workers=1, **ASKED["fixed"])


def test_counts_of_another_kind_of_whole_numbers_are_counted(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = on_ray.Worker.count

    def count(self: on_ray.Worker, tasks: Any) -> Any:
        answers = plain(self, tasks)
        return [answer._replace(counts=[part.astype(np.uint64) for part in answer.counts]) for answer in answers]

    monkeypatch.setattr(on_ray.Worker, "count", count)
    fake()
    found = run(executor="ray", **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))


def test_a_run_waits_for_workers_that_join_while_all_others_are_busy(fake: Any) -> None:
    """Nothing may be out, if those that are there are silent over what others have done since."""
    ray = fake()
    with open_executor("ray", COUNTING, 1) as counters:
        counters.look(IMAGE)
        assert isinstance(counters, on_ray.RayExecutor)
        begun = on_ray._Round(ray, counters, COUNTING, map(poll, range(4)), True)
        begun._free.clear()
        counters._hire()
        assert list(begun.results()) == [640] * 4


def test_an_ask_without_an_answer_is_told_of() -> None:
    ask = Ask(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 64)])
    with pytest.raises(WorkerError, match="1 of 1 asks were left without an answer"):
        answers_by(lambda polls: [], [ask])


@pytest.mark.parametrize("kind", ["RayError", "ConnectionError"])
@pytest.mark.parametrize("after", [0, 3, 10])
def test_a_cluster_that_is_lost_is_told_of(
    kind: str, after: int, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = fake()
    plain, calls = ray.wait, []

    def wait(*given: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise {"RayError": ray.exceptions.RayError, "ConnectionError": ConnectionError}[kind]("no head")
        return plain(*given, **how)

    monkeypatch.setattr(ray, "wait", wait)
    with pytest.raises(WorkerError, match="the Ray cluster is lost: no head; the images counted are kept; begin again"):
        run(executor="ray", **ASKED["fixed"])
    assert not ray.running


class Lazy(Rows):
    """Makes something at its first pass."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "made"):
            self.made = torch.zeros(x.shape[1:])
        return super().forward(x + self.made)


def test_a_network_that_is_made_in_part_at_its_first_pass_is_the_same_there(fake: Any) -> None:
    fake()
    found = run(SmoothedClassifier(Lazy(), Gaussian(0.25), 3), executor="ray", **ASKED["fixed"])
    assert votes_of(found) == votes_of(run(workers=1, **ASKED["fixed"]))


def test_a_pause_of_who_takes_the_results_is_no_silence(fake: Any) -> None:
    ray = fake(seed=4)

    def progress(done: int, total: int) -> None:
        ray.seconds += 2000.0

    run(executor="ray", progress=progress, **ASKED["fixed"])
    assert len(ray.actors) == 3


def test_answers_that_are_missing_are_told_of(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = on_ray.Worker.count
    monkeypatch.setattr(on_ray.Worker, "count", lambda self, tasks: plain(self, tasks)[1:])
    fake()
    with pytest.raises(WorkerError, match=r"a worker answered \[.* nothing of it was counted"):
        run(executor="ray", **ASKED["fixed"])


class Unpicklable(Rows):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no pickle of me")


def test_a_network_that_cannot_be_sent_is_told_of(fake: Any) -> None:
    ray = fake()
    with pytest.raises(WorkerError, match="the model cannot be sent to workers: no pickle of me"):
        run(SmoothedClassifier(Unpicklable(), Gaussian(0.25), 3), executor="ray", **ASKED["fixed"])
    assert not ray.running


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "localhost:99999"])
def test_an_address_where_nobody_answers_is_told_of(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkerError, match="nobody answers at RAY_ADDRESS"):
        run(executor="ray", **ASKED["fixed"])


class Refusing:
    """A Ray that cannot be connected to, or not started."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def is_initialized(self) -> bool:
        return False

    def init(self, **how: Any) -> None:
        raise self.errors.pop(0)


@pytest.mark.parametrize("error", [ConnectionError, ValueError, RuntimeError])
def test_a_cluster_that_cannot_be_used_is_told_of(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(WorkerError, match="the Ray cluster at RAY_ADDRESS = 'nonsense' cannot be used: no; set"):
        cluster.connect(Refusing(error("no\nmore")), None)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(WorkerError, match="no Ray cluster could be started on this machine: no room; start one"):
        cluster.connect(Refusing(ConnectionError("none"), error("no room")), None)


def test_addresses_may_be_of_version_6(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create_connection(address: tuple[str, int], timeout: float) -> Any:
        asked.append(address)
        raise OSError("nobody")

    monkeypatch.setattr(cluster.socket, "create_connection", create_connection)
    monkeypatch.setenv("RAY_ADDRESS", "[::1]:6379")
    with pytest.raises(WorkerError, match=r"nobody answers at RAY_ADDRESS = '\[::1\]:6379' \(nobody\)"):
        cluster.connect(Refusing(), None)
    assert asked == [("::1", 6379)]


@pytest.mark.parametrize("address", ["", "auto", "local", "127.0.0.1"])
def test_other_addresses_are_left_to_ray(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkerError, match=r"no Ray|the Ray cluster"):
        cluster.connect(Refusing(ConnectionError("none"), ConnectionError("none")), None)


def test_a_cluster_that_is_lost_in_the_end_hides_no_error(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = fake()
    monkeypatch.setattr(ray, "kill", lambda actor: (_ for _ in ()).throw(ConnectionError("the cluster is gone")))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(executor="ray", progress=interrupt, **ASKED["fixed"])
    assert not ray.running


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_gpu_of_this_process_is_none_of_the_workers(device: str, fake: Any) -> None:
    fake()
    with pytest.raises(ParameterError, match=f"device '{device}' is one of this process; .* say 'cuda'"):
        run(executor="ray", device=device, **ASKED["fixed"])


def test_an_unknown_executor_is_told_of() -> None:
    with pytest.raises(UnknownNameError, match="unknown executor 'dask'; known: local, ray"):
        run(executor="dask", **ASKED["fixed"])


def test_ray_that_is_not_installed_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install 'rs-plugin\[ray\]'"):
        run(executor="ray", **ASKED["fixed"])


def test_units_grow_to_a_second_and_no_further() -> None:
    size = UnitSize(rows=256, dim=3072)
    group, each, found = size.slots, 0.002, []
    for _ in range(20):
        found.append(size.after(size.slots, each * size.slots, workers=3))
    assert found[0] == 2 * group, "they double at most"
    assert all(slots % group == 0 for slots in found)
    assert 1.0 - group * each < found[-1] * each <= 1.0
    assert size.seconds(100) == pytest.approx(0.2)
    for _ in range(10):
        size.after(size.slots, each * size.slots, workers=4000)
    assert 16.0 - group * each < size.slots * each <= 16.0, "one caller has less time for each of many workers"
    for _ in range(40):
        size.after(size.slots, 10.0 * size.slots, workers=3)
    assert size.slots == group, "slow networks get one group of passes"
    assert group * CHUNK >= 256


