"""Executors: the same votes whoever counts them, however often a worker is lost, and what cannot be used is said."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rs_plugin.distributions import Gaussian
from rs_plugin.errors import DependencyError, ModelError, UnknownNameError, WorkerError
from rs_plugin.evaluation import evaluate
from rs_plugin.evaluation.executors import Counting, on_ray, open_executor, units
from rs_plugin.evaluation.executors.units import UnitSize
from rs_plugin.evaluation.results import Run
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.voting import Ask, DrawRange
from tests.evaluation.fake_ray import FakeRay
from tests.evaluation.toys import SHAPE, Rows, toy_data, toy_model, votes_of

ASKED: dict[str, dict[str, Any]] = {
    "fixed": {"stopping": "fixed", "n": 1500},
    "anytime": {"stopping": "anytime", "n": 6000},
}


def run(model: SmoothedClassifier | None = None, **how: Any) -> Run:
    given: dict[str, Any] = {"radii": [0.0, 0.05, 0.1], "n0": 100, "alpha": 0.01, "store": None, "workers": 3}
    return evaluate(model or toy_model(), toy_data(12), "L2", **{**given, **how})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a fake Ray in the place of Ray, with a clock of its own."""

    def put(**how: Any) -> FakeRay:
        ray = FakeRay(**how)
        monkeypatch.setattr(on_ray, "_import_ray", lambda: ray)
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
    counting = Counting(toy_model(), SHAPE, 64, torch.device("cpu"))
    part = [DrawRange(Stream.ESTIMATION, 0, 640)]
    image = toy_data().images[0]
    with open_executor("ray", counting, 2) as counters:
        counters.look(image)

        def poll(index: int) -> Any:
            return (yield Ask(image, index, 0, part)).counts[0].sum()

        first = counters.run(map(poll, range(4)))
        assert next(first) == 640
        with pytest.raises(WorkerError, match="in a run already"):
            next(counters.run(map(poll, range(4))))
        first.close()
        assert list(counters.run(map(poll, range(4)))) == [640] * 4


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


def test_silence_stops_the_run(fake: Any) -> None:
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


def test_workers_that_find_different_networks_are_refused(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(seed=5)
    plain, calls = on_ray.Worker.look, []

    def look(self: on_ray.Worker, *given: Any) -> Any:
        calls.append(1)
        found = plain(self, *given)
        return found._replace(layout="channels_last") if len(calls) == 3 else found

    monkeypatch.setattr(on_ray.Worker, "look", look)
    with pytest.raises(WorkerError, match="they differ in layout; use machines of one kind"):
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


