"""Runs on a real Ray cluster of several nodes on this machine: workers, nodes and the caller are killed in mid-run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from rs_plugin.distributions import Gaussian
from rs_plugin.evaluation import VoteStore, evaluate
from rs_plugin.evaluation.executors import on_ray, units
from rs_plugin.evaluation.results import Run
from rs_plugin.smoothing import SmoothedClassifier
from tests.evaluation import toys
from tests.evaluation.test_executors import ASKED
from tests.evaluation.toys import Rows, toy_data, votes_of

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]


class Slow(Rows):
    """Gives a test time to break something."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.003)
        return super().forward(x)


def slow_model() -> SmoothedClassifier:
    return SmoothedClassifier(Slow(), Gaussian(0.25), 3)


def run(model: SmoothedClassifier | None = None, **how: Any) -> Run:
    given: dict[str, Any] = {"radii": [0.0, 0.05, 0.1], "n0": 100, "alpha": 0.01, "store": None, "executor": "ray"}
    return evaluate(model or slow_model(), toy_data(24), "L2", **{**given, **how})


@pytest.fixture(scope="module")
def expected() -> dict[str, list[tuple[Any, ...]]]:
    return {
        asked: votes_of(run(SmoothedClassifier(Rows(), Gaussian(0.25), 3), executor="local", workers=1, **how))
        for asked, how in ASKED.items()
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    for module in (toys, sys.modules[__name__]):  # workers cannot import tests
        ray.cloudpickle.register_pickle_by_value(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", made.address)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture(autouse=True)
def _many_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_SECONDS", 0.0)


@pytest.mark.parametrize("asked", ASKED)
def test_two_nodes_count_what_one_thread_does(asked: str, cluster: Any, expected: Any) -> None:
    found = run(workers=2, **ASKED[asked])
    assert votes_of(found) == expected[asked]


@pytest.mark.parametrize("asked", ASKED)
def test_a_node_that_is_lost_changes_nothing(asked: str, cluster: Any, expected: Any) -> None:
    node = cluster.add_node(num_cpus=1)
    lost: list[int] = []

    def progress(done: int, total: int) -> None:
        if done > 2 and not lost:
            lost.append(done)
            cluster.remove_node(node, allow_graceful=False)

    found = run(workers=3, progress=progress, **ASKED[asked])
    assert lost
    assert lost[0] < 24
    assert votes_of(found) == expected[asked]


class Dies(on_ray.Worker):
    """One of the workers is killed over its third unit."""

    marker: Path
    units = 0

    def count(self, tasks: Any) -> Any:
        self.units += 1
        if self.units == 3:
            try:
                self.marker.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().count(tasks)


@pytest.mark.parametrize("asked", ASKED)
def test_a_worker_that_is_killed_changes_nothing(
    asked: str, cluster: Any, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "Worker", type("Dying", (Dies,), {"marker": tmp_path / "killed"}))
    found = run(workers=2, **ASKED[asked])
    assert (tmp_path / "killed").exists()
    assert votes_of(found) == expected[asked]


def stored(path: Path) -> dict[str, int]:
    """Return the number of images of every run in a store."""
    if not path.exists():
        return {}
    with VoteStore(path) as store:
        return {key: len(store.votes(key)) for key in store.runs()}


CALLER = f"""
import ray, sys, time, types
sys.modules["tests"] = types.ModuleType("tests")  # some package brings a module of that name
sys.modules["tests"].__path__ = [{str(ROOT / "tests")!r}]
from tests.evaluation.test_ray import ASKED, run, toys, units
for module in (toys, sys.modules["tests.evaluation.test_ray"]):
    ray.cloudpickle.register_pickle_by_value(module)
units._SECONDS = 0.0
run(workers=2, store=sys.argv[1], progress=lambda done, total: time.sleep(0.2), **ASKED[sys.argv[2]])
"""


@pytest.mark.parametrize("asked", ASKED)
def test_a_caller_that_is_killed_goes_on_where_it_was(
    asked: str, cluster: Any, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.sqlite"
    process = subprocess.Popen([sys.executable, "-c", CALLER, str(path), asked], cwd=ROOT)
    deadline = time.monotonic() + 120.0
    while sum(stored(path).values()) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = stored(path)
    assert 3 <= sum(kept.values()) < 24, "killed in mid-run"
    seen: list[int] = []
    found = run(workers=2, store=path, progress=lambda done, total: seen.append(done), **ASKED[asked])
    assert seen[0] == sum(kept.values()), "what was kept is not counted again"
    assert kept.keys() == {found.key}
    assert votes_of(found) == expected[asked]
