"""Plans, against runs that were made, and the arithmetic of time and money."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rs_plugin.errors import ParameterError, UncertifiableRadiusWarning
from rs_plugin.evaluation import Run, VoteStore, evaluate
from rs_plugin.evaluation.planning import Expected, Plan, plan
from rs_plugin.streams import CHUNK
from tests.evaluation.fake_ray import FakeRay
from tests.evaluation.toys import half_space_model, images_of, labelled, toy_data, toy_model

ANYTIME: dict[str, Any] = {"radii": [0.05, 0.1], "stopping": "anytime", "n": 20_000, "alpha": 0.01}


def uneven(seed: int, count: int = 60) -> Any:
    """Return images whose class has probabilities from even to certain."""
    p = np.random.default_rng(seed).beta(2.0, 0.7, count).clip(0.02, 0.999)
    return labelled(images_of(p, 0.25), [1] * count)


def planned(data: Any, **how: Any) -> Plan:
    return plan(half_space_model(), data, "L2", **{"store": None, "seconds": 1.0, **ANYTIME, **how})


def passes_of(run: Run) -> int:
    """Return how many noisy images a run was made of: whole chunks of 64."""
    each = (run.config["n0"] + CHUNK - 1) // CHUNK
    return sum(CHUNK * (each + -(-int(row.counts.sum()) // CHUNK)) for row in run.votes)


def test_the_passes_of_an_anytime_run_lie_within_what_is_expected() -> None:
    """Of 20 plans 16 are to hold; fewer than 10 with probability 0.0006. The pilot sees all images, once in part."""
    held = []
    for seed in range(20):
        data = uneven(seed)
        found = planned(data, seed=seed)
        truth = passes_of(evaluate(half_space_model(), data, "L2", store=None, seed=seed, **ANYTIME))
        assert truth <= found.passes.worst
        held.append(found.passes.least <= truth <= found.passes.most)
    assert sum(held) >= 10


def test_the_range_is_of_use() -> None:
    found = planned(uneven(0))
    assert found.passes.least <= found.passes.mean <= found.passes.most < found.passes.worst / 2
    assert found.passes.most < 3 * found.passes.least


def test_a_fixed_run_is_known() -> None:
    found = planned(toy := uneven(1), stopping="fixed", n=1000)
    truth = passes_of(evaluate(half_space_model(), toy, "L2", [0.05], n=1000, alpha=0.01, store=None))
    assert found.passes == Expected(truth, truth, truth, truth)
    assert found.images == 60
    assert found.seconds.mean == pytest.approx(truth / found.passes_per_second)
    assert found.seconds.least <= found.seconds.mean <= found.seconds.most == found.seconds.worst


@pytest.mark.parametrize("stopping", ["fixed", "anytime"])
def test_stored_images_are_left_out_and_the_store_as_it_is(stopping: str, tmp_path: Path) -> None:
    path, data = tmp_path / "runs.sqlite", uneven(2)
    how: dict[str, Any] = {**ANYTIME, "stopping": stopping, "n": 2000}
    evaluate(half_space_model(), data, "L2", store=path, n_examples=45, **how)
    before = path.read_bytes()
    found = planned(data, store=path, **how)
    assert (found.images, found.stored) == (15, 45)
    assert path.read_bytes() == before
    assert planned(data, store=tmp_path / "none.sqlite", **how).stored == 0
    assert not (tmp_path / "none.sqlite").exists()
    evaluate(half_space_model(), data, "L2", store=path, **how)
    done = planned(data, store=path, **how)
    assert (done.images, done.passes.worst, done.store) == (0, 0.0, 0)


def test_the_size_of_the_store_is_about_right(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    data = toy_data(3000)
    found = plan(toy_model(), data, "L2", [0.1], n=1000, store=None, seconds=0.5)
    evaluate(toy_model(), data, "L2", [0.1], n=1000, store=path)
    with VoteStore(path):
        assert 0.5 < found.store / path.stat().st_size < 2.0


def test_money_is_time_and_machines_share_the_passes() -> None:
    one = planned(uneven(3), price=7.2, stopping="fixed", n=5000)
    assert one.cost is not None
    assert one.cost.mean == pytest.approx(7.2 * one.seconds.mean / 3600.0)
    ten = planned(uneven(3), price=7.2, machines=10, stopping="fixed", n=5000)
    assert ten.cost is not None
    assert ten.seconds.mean == pytest.approx(ten.passes.mean / ten.passes_per_second / 10)
    assert ten.cost.mean == pytest.approx(10 * 7.2 * ten.seconds.mean / 3600.0)
    assert planned(uneven(3)).cost is None


def test_memory_is_that_of_the_process() -> None:
    found = planned(uneven(4)).memory
    assert found is not None
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    assert 0.5 * resident < found < 64 * 2**30


def test_a_plan_for_a_cluster_is_made_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    monkeypatch.setattr("rs_plugin.evaluation.executors.on_ray.import_ray", lambda: ray)
    found = planned(uneven(5), executor="ray", workers=2)
    assert found.memory is None
    assert ray.log.count("look") >= 1
    assert found.images == 60
    assert not ray.running


def test_radii_out_of_reach_are_told_of() -> None:
    with pytest.warns(UncertifiableRadiusWarning, match="cannot certify radius 2"):
        planned(uneven(6), radii=[2.0], stopping="fixed", n=100)


@pytest.mark.parametrize("machines", [0, 2.5, True])
def test_machines_are_whole(machines: Any) -> None:
    with pytest.raises(ParameterError, match="machines must be a positive whole number"):
        planned(uneven(7), machines=machines)


@pytest.mark.parametrize(
    "how", [{"seconds": 0}, {"price": -1.0}, {"price": float("inf")}, {"seconds": True}]
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must be a number above 0"):
        planned(uneven(7), **how)
