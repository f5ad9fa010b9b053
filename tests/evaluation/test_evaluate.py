"""Evaluations: what may change their votes and what may not, and what they say about them."""

from __future__ import annotations

import copy
import functools
import importlib
import logging
import os
import pickle
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torchvision import transforms

import rs_plugin
from rs_plugin.datasets import Dataset
from rs_plugin.distributions import Gaussian, MixedNorm, SmoothingDistribution, distributions
from rs_plugin.errors import (
    InputError,
    ModelError,
    ParameterError,
    StoreError,
    UncertifiableRadiusWarning,
    UndecidedRadiusWarning,
    UnknownNameError,
)
from rs_plugin.evaluation import VoteStore, evaluate, recertify
from rs_plugin.evaluation.fingerprint import model_fingerprint
from rs_plugin.evaluation.results import Run
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.streams import CHUNK
from rs_plugin.voting import VoteCounter
from rs_plugin.zoo.smoothed import load_model
from tests.evaluation.toys import (
    SHAPE,
    HalfSpace,
    Rows,
    half_space_model,
    half_space_probability,
    images_of,
    labelled,
    toy_data,
    toy_model,
    votes_of,
)

SMALL: dict[str, Any] = {"radii": [0.1], "n0": 20, "n": 150, "alpha": 0.01}
ROOT = Path(rs_plugin.__file__).parents[1]


def small(model: SmoothedClassifier | None = None, store: Path | None = None, **changes: Any) -> Run:
    arguments = {"dataset": toy_data(), "threat_model": "L2", **SMALL, **changes}
    return evaluate(model or toy_model(), store=store, **arguments)


@pytest.fixture
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be counted but the check that a network can be used."""

    def never(self: VoteCounter, slots: list[Any]) -> Any:
        raise AssertionError("votes were counted again")

    monkeypatch.setattr(VoteCounter, "_begun", never)


class TestIndependence:
    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    def test_of_the_number_of_workers(self, stopping: str) -> None:
        one = small(stopping=stopping, workers=1, n=2000)
        two = small(stopping=stopping, workers=2, n=2000)
        many = small(stopping=stopping, workers=16, n=2000)
        assert votes_of(one) == votes_of(two) == votes_of(many)
        assert torch.get_num_threads() == 1

    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    def test_of_the_order_of_work(self, stopping: str, monkeypatch: pytest.MonkeyPatch) -> None:
        straight = small(stopping=stopping, workers=1)
        module = sys.modules[VoteStore.__module__.replace("store", "work")]
        polls = module.Work.polls
        monkeypatch.setattr(module.Work, "polls", lambda work, todo: polls(work, todo[::-1]))
        assert votes_of(small(stopping=stopping, workers=1)) == votes_of(straight)

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    def test_of_an_interruption(self, stopping: str, workers: int, tmp_path: Path) -> None:
        straight = small(stopping=stopping, workers=workers)
        path = tmp_path / "votes.sqlite"

        def stop(done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small(store=path, stopping=stopping, workers=workers, progress=stop)
        with VoteStore(path) as store:
            assert len(store.votes(straight.key)) == 3
        seen: list[int] = []
        resumed = small(store=path, stopping=stopping, workers=workers, progress=lambda done, _: seen.append(done))
        assert seen[0] == 3 and seen[-1] == 6
        assert votes_of(resumed) == votes_of(straight)
        assert torch.get_num_threads() == 1

    def test_of_other_images_and_their_positions(self) -> None:
        data = toy_data()
        rows = {r[0]: r for r in votes_of(small(dataset=data))}
        part = {r[0]: r for r in votes_of(small(dataset=data.take(slice(1, 6, 2))))}
        assert part == {index: rows[index] for index in (1, 3, 5)}

    def test_of_a_network_that_fails_at_an_image_late_on(self, tmp_path: Path) -> None:
        straight, path = small(workers=1, batch_size=64), tmp_path / "votes.sqlite"
        model = toy_model()
        calls = 0

        def fail(*_: object) -> None:
            nonlocal calls
            calls += 1
            # Five passes to find how images are shown, one for the fingerprint, a group of 16 with two checks in it,
            # and then in the second group:
            if calls == 5 + 1 + 16 + 2 + 2:
                raise RuntimeError("out of memory")

        hook = register_module_forward_pre_hook(fail)  # of all modules: one of its own would be part of the network
        with pytest.raises(ModelError, match=r"failed on float32 images of shape .*: out of memory"):
            small(model, path, workers=1, batch_size=64)
        hook.remove()
        with VoteStore(path) as store:
            assert 0 < len(store.votes(straight.key)) < 6
        assert votes_of(small(model, path, batch_size=64)) == votes_of(straight)

    def test_of_a_kill(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"
        code = (
            "import sys, time, rs_plugin as rs\n"
            "rs.evaluate(rs.load_model('digits_gaussian_0.25'), n0=20, n=100, alpha=0.01, n_examples=12, radii=[0.1],\n"
            "            store=sys.argv[1], workers=1, progress=lambda done, total: time.sleep(0.3))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            wait_for_rows(path, 2)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        kept = count_rows(path)
        seen: list[int] = []
        arguments: dict[str, Any] = {"n0": 20, "n": 100, "alpha": 0.01, "n_examples": 12, "radii": [0.1], "workers": 1}
        model = load_model("digits_gaussian_0.25")
        resumed = evaluate(model, store=path, progress=lambda done, _: seen.append(done), **arguments)
        assert 2 <= kept < 12 and seen[0] == kept
        assert votes_of(resumed) == votes_of(evaluate(model, store=None, **arguments))


def count_rows(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM votes").fetchone()[0])
        except sqlite3.OperationalError:  # the table is not there yet
            return 0
        finally:
            connection.commit()


def wait_for_rows(path: Path, least: int, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while count_rows(path) < least:
        assert time.monotonic() < end, "no votes were stored"
        time.sleep(0.05)


@pytest.mark.usefixtures("tmp_path")
class TestReuse:
    def test_a_rerun_counts_nothing(self, tmp_path: Path) -> None:
        path, model = tmp_path / "votes.sqlite", toy_model()
        first = small(model, path)
        passes: list[int] = []
        counting = register_module_forward_hook(lambda *_: passes.append(1))  # of all modules: the network has no other
        again = small(model, path)
        counting.remove()
        assert votes_of(again) == votes_of(first)
        assert [r.seconds for r in again.votes] == [r.seconds for r in first.votes]
        # Five to find how it is shown its images, the fingerprint, and the selection draws of six images, made again.
        assert len(passes) == 5 + 1 + 2

    def test_votes_of_fixed_runs_serve_every_threat_radius_and_alpha(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        path = tmp_path / "votes.sqlite"
        first = small(store=path)
        request.getfixturevalue("no_counting")
        module = sys.modules["rs_plugin.evaluation.work"]
        request.getfixturevalue("monkeypatch").setattr(module, "_RECOUNTED", 0)
        for changes in (
            {"threat_model": "Linf", "radii": [0.01]},
            {"radii": [0.0, 0.2, 0.3]},
            {"alpha": 0.2},
            {"method": "monte_carlo"},
            {"workers": 2},
        ):
            run = small(store=path, **changes)
            assert run.key == first.key and votes_of(run) == votes_of(first)

    @pytest.mark.parametrize(
        "changes",
        [{"seed": 1}, {"n": 151}, {"n0": 21}, {"stopping": "anytime"}, {"dataset": toy_data(seed=1)},
         {"dataset": toy_data(5)},
         {"dataset": toy_data(name="other")}],
        ids=["seed", "n", "n0", "stopping", "images", "count", "name"],
    )  # fmt: skip
    def test_what_decides_the_votes_is_in_the_key(self, changes: dict[str, Any]) -> None:
        assert small().key != small(**changes).key

    @pytest.mark.parametrize("changes", [{"radii": [0.2]}, {"threat_model": "Linf", "radii": [0.1]}, {"alpha": 0.02}])
    def test_anytime_runs_have_keys_of_their_own(self, changes: dict[str, Any]) -> None:
        assert small(stopping="anytime").key != small(stopping="anytime", **changes).key

    def test_the_noise_and_the_network_are_in_the_key(self) -> None:
        keys = {small(toy_model()).key, small(toy_model(0.26)).key, small(toy_model(seed=1)).key}
        keys.add(small(SmoothedClassifier(Rows(), MixedNorm(1, 0.25), 3)).key)
        assert len(keys) == 4

    def test_noise_that_draws_otherwise_has_other_votes_whatever_its_name(self, tmp_path: Path) -> None:
        def noise_of(scale: float) -> SmoothingDistribution:
            class Mine(SmoothingDistribution):
                name = "mine"
                worst_shift_rules = frozenset({"Linf"})

                def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
                    out.normal_(generator=generator).mul_(scale)

                def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
                    return -0.5 * (z * z).sum(1)

            return Mine()

        path = tmp_path / "votes.sqlite"
        runs = [
            small(
                SmoothedClassifier(Rows(), noise_of(scale), 3),
                path, threat_model="Linf", radii=[], method="monte_carlo",
            )
            for scale in (0.01, 5.0, 0.01)
        ]
        assert runs[0].key == runs[2].key != runs[1].key
        assert votes_of(runs[0]) != votes_of(runs[1])

    def test_more_images_count_only_the_new_ones(self, tmp_path: Path) -> None:
        path, data = tmp_path / "votes.sqlite", toy_data()
        seen: list[int] = []
        few = small(store=path, dataset=data, n_examples=2)
        most = small(store=path, dataset=data, n_examples=5, progress=lambda done, _: seen.append(done))
        assert few.key == most.key and seen[0] == 2
        assert votes_of(most)[:2] == votes_of(few)
        again = small(store=path, dataset=data, n_examples=3)
        assert votes_of(again) == votes_of(most)[:3]
        assert votes_of(recertify(path, few.key, "L2", [0.1], 0.01)) == votes_of(most)

    def test_the_places_of_the_images_are_in_the_key(self) -> None:
        # Equal images at other places have other draws.
        data = labelled(torch.full((4, *SHAPE), 0.5), [0, 0, 0, 0], 3)
        first, second = data.take(slice(0, 2)), data.take(slice(2, 4))
        assert small(dataset=first).key != small(dataset=second).key

    def test_a_seed_changes_the_votes(self) -> None:
        assert [r[3:] for r in votes_of(small())] != [r[3:] for r in votes_of(small(seed=1))]

    def test_numpy_integers_are_the_same_as_pythons(self) -> None:
        plain = small(seed=3)
        assert small(seed=np.int64(3), n=np.int64(150), n0=np.int32(20)).key == plain.key


#: What ``ReadsElsewhere`` computes with, which no description of the network reaches.
ELSEWHERE = {"shift": 0.0}
lookup = functools.lru_cache(maxsize=None)(lambda: ELSEWHERE["shift"])


class ReadsElsewhere(torch.nn.Module):
    """A half-space whose threshold lies in a function's cache."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x.flatten(1).sum(1) > 2.0 + lookup()
        return torch.nn.functional.one_hot(bright.long(), 2).float()


class TestDescriptionReachesFurther:
    """Edits that leave no trace in the network's own attributes."""

    def described(self, base: torch.nn.Module) -> str:
        image = torch.zeros((1, 2, 2))
        with torch.no_grad():
            classes = base.eval()(image[None]).shape[1]
        return model_fingerprint(SmoothedClassifier(base, Gaussian(0.25), classes), image)

    def one_hot(self, shift: Callable[[], float]) -> torch.nn.Module:
        class Net(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                bright = x.flatten(1).sum(1) > 50.0 + shift()  # far from all probes: only the description can tell
                return torch.nn.functional.one_hot(bright.long(), 2).float()

        return Net()

    def test_modules_that_code_names(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        found = []
        for text in ("SHIFT = 0.0\ndef shift(): return 1.0\n", "SHIFT = 0.5\ndef shift(): return 1.0\n",
                     "SHIFT = 0.0\ndef shift(): return 2.0\n", "SHIFT = 0.0\ndef shift(): return 1.0\n"):  # fmt: skip
            (tmp_path / "edited_by_hand.py").write_text(text)
            sys.modules.pop("edited_by_hand", None)
            module = importlib.import_module("edited_by_hand")
            scope: dict[str, Any] = {"edited_by_hand": module}
            exec("def read(): return edited_by_hand.SHIFT + edited_by_hand.shift()", scope)
            found.append(self.described(self.one_hot(scope["read"])))
        sys.modules.pop("edited_by_hand", None)
        assert len(set(found)) == 3 and found[0] == found[3]

    def test_cached_functions(self) -> None:
        cached = [functools.lru_cache(lambda factor=factor: factor) for factor in (1.0, 2.0, 1.0)]
        found = [self.described(self.one_hot(read)) for read in cached]
        assert found[0] == found[2] != found[1]

    def test_special_methods(self) -> None:
        class First:
            def __getitem__(self, key: int) -> float:
                return 1.0

        class Second:
            def __getitem__(self, key: int) -> float:
                return 2.0

        First.__qualname__ = Second.__qualname__ = "Table"
        tables = [First(), Second(), First()]
        found = [self.described(self.one_hot(lambda table=table: table[0])) for table in tables]  # type: ignore[misc]
        assert found[0] == found[2] != found[1]

    @pytest.mark.parametrize("kind", [Decimal, Fraction])
    def test_numbers_of_the_standard_library(self, kind: Any) -> None:
        numbers = [kind(value) for value in (1, 2, 1)]
        found = [self.described(self.one_hot(lambda number=number: float(number))) for number in numbers]  # type: ignore[misc]
        assert found[0] == found[2] != found[1]

    def test_methods_of_built_in_objects(self) -> None:
        found = [
            self.described(self.one_hot(functools.partial({"shift": value}.get, "shift"))) for value in (1.0, 2.0, 1.0)
        ]
        assert found[0] == found[2] != found[1]


class TestStoredVotesOfOthers:
    """Votes are reused only for the images and for the network that they were counted for."""

    def run(self, path: Path, data: Dataset, base: torch.nn.Module | None = None) -> Run:
        model = SmoothedClassifier(HalfSpace() if base is None else base, Gaussian(0.25), 2)
        return evaluate(model, data, "L2", [0.1], n=200, store=path)

    def data(self) -> Dataset:
        return labelled(images_of(np.linspace(0.6, 0.9, 12), 0.25), [1] * 12)

    @pytest.fixture(autouse=True)
    def _as_it_was(self) -> Iterator[None]:
        yield
        ELSEWHERE["shift"] = 0.0
        lookup.cache_clear()

    def test_the_same_again_is_reused(self, tmp_path: Path) -> None:
        first, second = (self.run(tmp_path / "runs.sqlite", self.data()) for _ in range(2))
        assert first.key == second.key and votes_of(first) == votes_of(second)
        assert [v.seconds for v in first.votes] == [v.seconds for v in second.votes]  # not counted again

    @pytest.mark.parametrize("change", ["images", "labels", "order"])
    def test_edited_data_are_refused(self, change: str, tmp_path: Path) -> None:
        data = self.data()
        self.run(tmp_path / "runs.sqlite", data)
        if change == "images":
            data.images[1:].sub_(0.05)
        elif change == "labels":
            data.labels[3] = 0
        else:
            data.indices[1], data.indices[5] = 5, 1
        with pytest.raises(StoreError, match=r"has votes of another image, or label, at index \d+: the data were"):
            self.run(tmp_path / "runs.sqlite", data)

    def test_a_network_changed_beyond_its_description_is_refused(self, tmp_path: Path) -> None:
        """The threshold moves by a standard deviation of the noise's sum, so that a third of the votes turn."""
        before = self.run(tmp_path / "runs.sqlite", self.data(), ReadsElsewhere())
        ELSEWHERE["shift"] = 0.5
        lookup.cache_clear()
        fresh = self.run(tmp_path / "other.sqlite", self.data(), ReadsElsewhere())
        assert votes_of(fresh) != votes_of(before)
        if fresh.key == before.key:  # or else the description told them apart, which is as good
            with pytest.raises(StoreError, match=r"votes that are not this network's: \d+ of 100 draws fall otherwise"):
                self.run(tmp_path / "runs.sqlite", self.data(), ReadsElsewhere())


class TestSurroundings:
    """What a caller's thread has set elsewhere does not reach the votes."""

    @pytest.mark.parametrize("workers", [1, 2])
    def test_autocast(self, workers: int) -> None:
        plain = small(workers=workers, n=2000)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert votes_of(small(workers=workers, n=2000)) == votes_of(plain)
            assert small(workers=workers, n=2000).key == plain.key

    def test_the_default_type(self) -> None:
        data, model = toy_data(), toy_model()
        plain = evaluate(model, data, "L2", store=None, **SMALL)
        torch.set_default_dtype(torch.float64)
        try:
            assert votes_of(evaluate(model, data, "L2", store=None, **SMALL)) == votes_of(plain)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_an_interruption_between_images_ends_the_threads_though_its_traceback_is_held(self) -> None:
        def stop(done: int, total: int) -> None:
            if done == 1:
                raise KeyboardInterrupt

        before = threading.active_count()
        with pytest.raises(KeyboardInterrupt) as raised:
            small(workers=2, n=200_000, progress=stop)  # five images are left, a million draws
        assert raised.tb is not None and threading.active_count() == before

    def test_an_interruption_does_not_wait_for_whole_images(self, monkeypatch: pytest.MonkeyPatch) -> None:
        groups = 0
        real = VoteCounter._begun

        def slow(self: VoteCounter, slots: list[Any]) -> Any:
            nonlocal groups
            groups += 1
            if groups == 8:
                assert threading.current_thread() is not threading.main_thread()
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.002)
            return real(self, slots)

        monkeypatch.setattr(VoteCounter, "_begun", slow)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job starts without
        try:
            with pytest.raises(KeyboardInterrupt):
                small(workers=2, n=1_000_000)  # some 1 000 groups an image
        finally:
            signal.signal(signal.SIGINT, before)
        assert groups < 100


class Slotted:
    """A setting without a ``__dict__``."""

    __slots__ = ("limit",)

    def __init__(self, limit: float) -> None:
        self.limit = limit


class Table(dict[str, float]):
    """A dictionary with a setting beside what it holds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit


class Ignored(torch.nn.Module):
    """Lets a network run and passes its own input on."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inner(x)
        return x


class TestFingerprint:
    def of(self, base: torch.nn.Module) -> str:
        image = torch.full(SHAPE, 0.5)
        with torch.no_grad():
            classes = max(2, base(image[None]).flatten(1).shape[1])
        return model_fingerprint(SmoothedClassifier(base, Gaussian(0.1), classes), image)

    @pytest.mark.parametrize("scores", [float("nan"), float("inf"), -float("inf")])
    def test_of_unusable_scores_is_refused(self, scores: float) -> None:
        base = Rows()
        base.weight.data[:] = scores
        with pytest.raises(ModelError, match="the base network returned"):
            self.of(base)

    def test_of_a_network_that_fails_is_refused(self) -> None:
        with pytest.raises(ModelError, match="the base network failed on float32 images"):
            model_fingerprint(SmoothedClassifier(torch.nn.Linear(7, 3), Gaussian(0.1), 3), torch.full(SHAPE, 0.5))

    def test_is_of_the_content(self) -> None:
        assert self.of(Rows()) == self.of(Rows())

    def test_sees_weights(self) -> None:
        other = Rows()
        with torch.no_grad():
            other.weight[0, 0] += 1e-6
        assert self.of(other) != self.of(Rows())

    def test_sees_a_normalisation_in_a_plain_attribute(self) -> None:
        other = Rows()
        other.shift = 0.45
        assert other.state_dict().keys() == Rows().state_dict().keys()
        assert self.of(other) != self.of(Rows())

    def test_sees_it_where_scores_are_small(self) -> None:
        class Small(Rows):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return 1e-5 * super().forward(x)

        other = Small()
        other.shift = 0.3
        assert self.of(other) != self.of(Small())

    def test_sees_the_class(self) -> None:
        class Other(Rows):
            pass

        assert self.of(Other()) != self.of(Rows())

    @pytest.mark.parametrize(
        "setting",
        [
            lambda limit: limit,
            lambda limit: {"limit": [limit]},
            lambda limit: SimpleNamespace(limit=limit),
            lambda limit: Slotted(limit),
            lambda limit: (np.array([1.0]), np.array([limit])),
            lambda limit: np.array([limit, "text"], dtype=object),
            lambda limit: ({1.0}, {torch.tensor(limit).item()}),
            lambda limit: functools.partial(divmod, limit),
            lambda limit: [lambda x: x, lambda x: x > limit],
            lambda limit: slice(limit),
            lambda limit: deque([limit]),
            lambda limit: transforms.Compose([transforms.Pad(int(limit))]),
            lambda limit: torch.eye(int(limit)).to_sparse(),
            lambda limit: torch.minimum if limit > 25 else torch.fmin,
            lambda limit: (one := ["a"], two := ["b"], one if limit > 25 else two),
            lambda limit: classmethod(lambda cls: limit),
        ],
        ids=[
            "number", "nested", "namespace", "slots", "arrays", "objects", "sets", "partial", "closures", "slice",
            "deque", "Compose", "sparse", "builtin", "shared", "classmethod",
        ],
    )  # fmt: skip
    def test_sees_attributes_whatever_the_answers(self, setting: Callable[[float], object]) -> None:
        """A network that answers with classes may do so alike on every image it is asked about here."""

        def answering(limit: float) -> torch.nn.Module:
            base = Rows()
            inner = torch.nn.Identity()
            inner.setting = setting(limit)
            base.inner = inner
            return base

        assert self.of(answering(20.0)) == self.of(answering(20.0)) != self.of(answering(30.0))

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("x * 1.0", "x * 2.0"),
            ("x * 1.0 if len((1, 2)) else x", "x * 1.0 if len((1, 3)) else x"),
            ("x * [1.0, 2.0, 3.0][1]", "x * [1.0, 2.5, 3.0][1]"),
            ("(lambda y: y * 1.0)(x)", "(lambda y: y * 2.0)(x)"),
            ("sum(y * 1.0 for y in [x])", "sum(y * 2.0 for y in [x])"),
            ("x * self.KNOB", "x * self.KNOB  # 2"),
            ("x * GLOBAL", "x * GLOBAL  # 2"),
            ("helper(x)", "helper(x)  # 2"),
            ("self.method(x)", "self.method(x)  # 2"),
            ("torch.relu(x)", "torch.abs(x)"),
        ],
    )
    def test_sees_other_code_of_the_same_names(self, before: str, after: str) -> None:
        """Cells of a notebook that were edited and run again; the answers are the same on every image."""

        def made(expression: str) -> torch.nn.Module:
            second = expression.endswith("2")
            cell: dict[str, Any] = {"torch": torch, "__name__": "__main__", "Rows": Rows}
            exec(
                f"GLOBAL = KNOB = {2.0 if second else 1.0}\n"
                f"def helper(x): return x * {2.0 if second else 1.0}\n"
                f"class Hidden(torch.nn.Module):\n"
                f"    KNOB = {2.0 if second else 1.0}\n"
                f"    def method(self, x): return x * {2.0 if second else 1.0}\n"
                f"    def forward(self, x): return {expression}\n"
                f"class Other(torch.nn.Module):\n"
                f"    def forward(self, x): return x\n",
                cell,
            )
            # Behind the first module's class and function, as their like are met one after the other.
            return torch.nn.Sequential(cell["Other"](), Rows(), Ignored(cell["Hidden"]()))

        assert self.of(made(before)) == self.of(made(before)) != self.of(made(after))

    def test_sees_hooks(self) -> None:
        def hooked(limit: float) -> torch.nn.Module:
            base = Rows()
            base.register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(max=limit),))
            return base

        assert self.of(hooked(1e6)) == self.of(hooked(1e6)) != self.of(hooked(2e6)) != self.of(Rows())

    @pytest.mark.filterwarnings("ignore")
    def test_sees_constants_of_traced_networks(self) -> None:
        def traced(limit: float) -> torch.nn.Module:
            class Clipped(Rows):
                def forward(self, x: torch.Tensor) -> torch.Tensor:
                    return super().forward(x.clamp(max=limit))

            return torch.jit.trace(Clipped(), torch.zeros(2, *SHAPE))

        first = traced(1e6)
        assert self.of(first) == self.of(first) != self.of(traced(2e6))

    def test_does_not_follow_libraries(self) -> None:
        base = Rows()
        base.log = logging.getLogger("one")
        before = self.of(base)
        logging.getLogger("another.one").setLevel(10)
        assert self.of(base) == before

    def test_leaves_out_what_a_pass_changes(self) -> None:
        class Counting(Rows):
            passes = 0

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.passes += 1
                return super().forward(x)

        base = Counting()
        base(torch.zeros(1, *SHAPE))
        assert self.of(base) == self.of(base)

    def test_ends_on_attributes_that_lead_back(self) -> None:
        base = Rows()
        base.back = [base, {"again": base}]
        assert self.of(base) == self.of(base) != self.of(Rows())

    @pytest.mark.parametrize("shared", [[1, "two"], (1, 2), {"a": {"b": 3}}, Slotted(1.0), np.ones(2), {1, (2, 3)}])
    def test_is_that_of_a_copy_with_parts_of_its_own(self, shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pickle makes two of what an instance shares with its class or with a module, and keeps other sharing."""
        monkeypatch.setattr(Ignored, "setting", shared, raising=False)
        base = Rows()
        base.inner = inner = Ignored(Rows())
        inner.one = inner.two = shared
        inner.three = copy.deepcopy(shared)
        before = self.of(base)
        assert self.of(pickle.loads(pickle.dumps(base))) == before
        inner.one, inner.two, inner.three = (copy.deepcopy(shared) for _ in range(3))
        assert self.of(base) == before
        inner.two = [shared]
        assert self.of(base) != before

    def test_is_that_of_a_copy_with_cycles_of_its_own(self) -> None:
        """A cycle of two and one of one are the same from wherever one looks, but not where one of them differs."""

        def ring(*settings: float) -> torch.nn.Module:
            base, links = Rows(), [SimpleNamespace(setting=setting) for setting in settings]
            for link, after in zip(links, links[1:] + links[:1], strict=True):
                link.next = after
            base.links = links[0]
            return base

        assert self.of(ring(1.0)) == self.of(ring(1.0, 1.0)) == self.of(ring(1.0, 1.0, 1.0))
        assert len({self.of(ring(*settings)) for settings in [(1.0,), (1.0, 2.0), (2.0, 1.0), (1.0, 1.0, 2.0)]}) == 4

    def test_of_many_objects_that_know_one_another(self) -> None:
        base = Rows()
        base.friends = [SimpleNamespace(number=i) for i in range(60)]
        for friend in base.friends:
            friend.all = base.friends
        before = self.of(base)
        base.friends[40].number = 60
        assert self.of(base) != before

    @pytest.mark.parametrize("depth", [1, 100, 2000])
    def test_sees_what_lies_deep(self, depth: int) -> None:
        def deep(setting: float) -> torch.nn.Module:
            base, value = Rows(), [setting]
            for _ in range(depth):
                value = [value]
            base.value = value
            return base

        assert self.of(deep(1.0)) == self.of(deep(1.0)) != self.of(deep(2.0))

    def test_sees_what_is_made_anew(self) -> None:
        """By a pass, or whenever it is looked at."""

        class Wrapping(Mapping[str, Any]):
            def __init__(self, inner: dict[str, Any]) -> None:
                self._state = (inner,)

            def __getitem__(self, key: str) -> Any:
                value = self._state[0][key]
                return Wrapping(value) if isinstance(value, dict) else value

            def __iter__(self) -> Iterator[str]:
                return iter(self._state[0])

            def __len__(self) -> int:
                return len(self._state[0])

        class Renews(Rows):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.settings = [{**self.settings[0]}, len(x)]
                return super().forward(x)

        def wrapped(limit: float) -> torch.nn.Module:
            base = Rows()
            base.settings = Wrapping({"inner": {"limit": limit}})
            return base

        def renewed(limit: float) -> torch.nn.Module:
            base = Renews()
            base.settings = [{"limit": limit}, 0]
            return base

        for made in (wrapped, renewed):
            assert self.of(made(1.0)) == self.of(made(1.0)) != self.of(made(2.0))

    def test_does_not_know_addresses(self) -> None:
        """Keys and members of plain classes show where they lie in memory."""

        def keyed(number: int) -> torch.nn.Module:
            base = Rows()
            base.table, base.members = {Slotted(number): 1.0}, {Slotted(number), Slotted(3)}
            return base

        assert self.of(keyed(1)) == self.of(keyed(1)) != self.of(keyed(2))

    @pytest.mark.parametrize("keys", [[(0, 1), (1, 0)], [Slotted(1), Slotted(2)], [int, float], [frozenset({1}), "1"]])
    @pytest.mark.parametrize("value", [lambda x: x, lambda x: [x], lambda x: SimpleNamespace(x=x)])
    def test_sees_which_key_has_which_value(self, keys: list[Any], value: Callable[[float], Any]) -> None:
        def keyed(*values: float) -> torch.nn.Module:
            base = Rows()
            base.table = dict(zip(keys, map(value, values), strict=True))
            return base

        assert self.of(keyed(1.0, 2.0)) == self.of(keyed(1.0, 2.0)) != self.of(keyed(2.0, 1.0))
        assert self.of(copy.deepcopy(keyed(1.0, 2.0))) == self.of(keyed(1.0, 2.0))

    def test_sees_what_a_set_holds_that_is_made_anew(self) -> None:
        class Renews(Rows):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.limits = {(*limit,) for limit in self.limits}
                self.table = {(*key,): [value[0]] for key, value in self.table.items()}
                return super().forward(x)

        def made(limit: float, number: float) -> torch.nn.Module:
            base = Renews()
            base.limits, base.table = {(limit, 2), (3, 4)}, {(1, 2): [number], (3, 4): [7.0]}
            return base

        assert self.of(made(1, 5)) == self.of(made(1, 5))
        assert len({self.of(made(*numbers)) for numbers in [(1, 5), (2, 5), (1, 6)]}) == 3

    def test_is_that_of_the_next_call_whatever_a_first_pass_adds(self) -> None:
        """Names of parts are told by what they are, however long it takes to tell them from others."""

        class Adds(Rows):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                calls = getattr(self, "calls", {})
                self.calls = {**calls, (len(calls), (1, (2, (3,)))): [[[[1]]]]}
                return super().forward(x)

        base = Adds()
        base.table = {((1, 2), 3): [1.0], ((1, (2, 4)), 3): [2.0]}
        base(torch.zeros(1, *SHAPE))
        before = self.of(base)
        other = Adds()
        other.table = copy.deepcopy(base.table)
        other(torch.zeros(1, *SHAPE))
        assert before == self.of(other)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ((1.0, None), (None, 1.0)),
            ((1.0, bytearray(b"a")), (1.0, bytearray(b"b"))),
            ((1.0, Table(1.0)), (1.0, Table(2.0))),
        ],
    )
    def test_sees_what_functions_close_over(self, before: tuple[Any, Any], after: tuple[Any, Any]) -> None:
        def closed(first: Any, second: Any) -> torch.nn.Module:
            base = Rows()
            base.read = lambda: first or second
            return base

        assert self.of(closed(*before)) == self.of(closed(*before)) != self.of(closed(*after))

    def test_ends_where_objects_are_made_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Endless(list[Any]):
            def __iter__(self) -> Iterator[Any]:
                return iter([Endless(), Endless()])

        monkeypatch.setattr("rs_plugin.evaluation.fingerprint._MOST_OBJECTS", 1000)
        base = Rows()
        base.endless = Endless()
        with pytest.raises(ModelError, match=r"lead to more than 1,000 objects; .* take from it what"):
            self.of(base)

    def test_takes_buffers_of_every_type(self) -> None:
        base = Rows()
        base.register_buffer("count", torch.tensor(3))
        base.register_buffer("brain", torch.ones(3, dtype=torch.bfloat16))
        base.register_buffer("mask", torch.tensor([True, False]))
        base.register_buffer("nothing", torch.zeros(0))
        assert self.of(base) == self.of(base) != self.of(Rows())


class TestChoiceOfImages:
    def test_subset_and_count(self) -> None:
        model = load_model("digits_gaussian_0.25")
        run = evaluate(model, "digits", "L2", store=None, subset="every_20th", n_examples=3, **SMALL)
        first = int(evaluate(model, "digits", "L2", store=None, n_examples=1, **SMALL).records()["index"][0])
        assert run.records()["index"].tolist() == [first, first + 20, first + 40]
        assert (run.config["subset"], run.config["images"]) == ("every_20th", 3)

    @pytest.mark.parametrize("choice", [{"n_examples": 2}, {"subset": "every_2nd"}])
    def test_a_data_set_given_as_an_object_is_cut_as_well(self, choice: dict[str, Any]) -> None:
        got = small(**choice).records()["index"].tolist()
        assert got == ([0, 1] if "n_examples" in choice else [0, 2, 4])

    @pytest.mark.parametrize("n_examples", [0, -1, 7, 1.5])
    def test_counts_that_do_not_fit(self, n_examples: Any) -> None:
        with pytest.raises(ParameterError, match="n_examples"):
            small(n_examples=n_examples)


def certified_wrongly(run: Run, images: torch.Tensor, sigma: float) -> tuple[int, int]:
    """Count bounds above the true probability of the class chosen, and radii above the true ones."""
    bounds = radii = 0
    for row, outcome, p1 in zip(run.votes, run.outcomes, half_space_probability(images, sigma), strict=True):
        p = p1 if row.selection.argmax() == 1 else 1.0 - p1
        bounds += outcome.p_lower > p
        radii += outcome.prediction is not None and (p <= 0.5 or outcome.radius > sigma * stats.norm.ppf(p))
    return bounds, radii


class TestCoverage:
    """Bounds on probabilities that are known exactly. Each image fails with probability at most alpha, on its own."""

    ALPHA, COUNT, SIGMA = 0.1, 400, 0.25
    FAILURE = 1e-6  # that a test below fails though the code is right

    def images(self) -> torch.Tensor:
        return images_of(np.tile([0.5001, 0.6, 0.8, 0.95], self.COUNT // 4), self.SIGMA)

    def test_of_fixed_runs(self) -> None:
        images = self.images()
        data = labelled(images, [1] * self.COUNT)
        run = evaluate(half_space_model(), data, "L2", [0.1], n0=10, n=300, alpha=self.ALPHA, store=None)
        bounds, radii = certified_wrongly(run, images, self.SIGMA)
        assert radii <= bounds <= stats.binom.isf(self.FAILURE, self.COUNT, self.ALPHA)
        # The bound is sharp: at n = 300 its discreteness leaves more than a half of alpha.
        assert bounds >= stats.binom.ppf(self.FAILURE, self.COUNT, self.ALPHA / 2)

    def test_of_anytime_runs(self) -> None:
        # Radii whose required probabilities are those of the images, and a little less and more: every look tempts.
        images = self.images()
        data = labelled(images, [1] * self.COUNT)
        radii = self.SIGMA * stats.norm.ppf([0.6, 0.601, 0.8, 0.801, 0.95, 0.951])
        run = evaluate(half_space_model(), data, "L2", radii, "anytime", n0=10, n=1500, alpha=self.ALPHA, store=None)
        bounds, wrong = certified_wrongly(run, images, self.SIGMA)
        limit = stats.binom.isf(self.FAILURE, self.COUNT, self.ALPHA)
        assert bounds <= limit and wrong <= limit
        assert run.table()["certified_accuracy"].iloc[0] > 0.6  # it does certify

    def test_of_runs_that_stop_at_the_first_temptation(self) -> None:
        # p is just below p*: with Clopper-Pearson at every look some 3 alpha of the images would be certified.
        p = 0.8
        images = images_of(np.full(self.COUNT, p), self.SIGMA)
        radius = self.SIGMA * stats.norm.ppf(p + 1e-4)
        run = evaluate(
            half_space_model(), labelled(images, [1] * self.COUNT), "L2", [radius], "anytime", 10, 3000, self.ALPHA,
            store=None,
        )  # fmt: skip
        wrong = sum(o.radius > 0 for o in run.outcomes)
        assert wrong <= stats.binom.isf(self.FAILURE, self.COUNT, self.ALPHA)

    def test_radius_zero_has_the_same_alpha(self) -> None:
        images = images_of(np.full(self.COUNT, 0.5), self.SIGMA)
        data = labelled(images, [1] * self.COUNT)
        for stopping in ("fixed", "anytime"):
            run = evaluate(half_space_model(), data, "L2", [0.0], stopping, 10, 500, self.ALPHA, store=None)
            assert sum(o.prediction is not None for o in run.outcomes) <= stats.binom.isf(
                self.FAILURE, self.COUNT, self.ALPHA
            )


class TestAnytime:
    def test_agrees_with_fixed_on_clear_images_for_fewer_draws(self) -> None:
        sigma = 0.25
        images = images_of(np.array([0.98, 0.97, 0.02, 0.55]), sigma)
        data = labelled(images, [1, 0, 0, 1])
        radii = [0.0, 0.2, 0.75]  # they ask for 0.5, 0.79 and 0.9987
        fixed = evaluate(half_space_model(), data, "L2", radii, "fixed", 50, 10_000, 0.001, store=None)
        anytime = evaluate(half_space_model(), data, "L2", radii, "anytime", 50, 10_000, 0.001, store=None)
        assert [o.status for o in anytime.outcomes] == [o.status for o in fixed.outcomes]
        assert anytime.table()["certified_accuracy"].tolist() == fixed.table()["certified_accuracy"].tolist()
        assert anytime.draws < fixed.draws / 5
        assert all(o.n < 10_000 for o in anytime.outcomes)

    def test_the_cap_is_kept(self) -> None:
        """Classes that are sure, and a radius that so many unanimous draws are just not enough for."""
        data = labelled(torch.ones(3, *SHAPE), [1, 1, 1])
        n, alpha = 1001, 0.01
        radius = 0.25 * float(stats.norm.ppf(1.0 - 1.0 / n))
        with pytest.warns(UncertifiableRadiusWarning):
            sure = evaluate(half_space_model(0.01), data, "L2", [radius], "anytime", 10, n, alpha, store=None)
        assert all(o.n < n for o in sure.outcomes)  # nothing could be shown, nothing is spent on it
        reach = 0.01 * float(stats.norm.ppf(alpha ** (1.0 / n)))
        sure = evaluate(half_space_model(0.01), data, "L2", [reach], "anytime", 10, 2 * n, alpha, store=None)
        assert all(n < o.n <= 2 * n for o in sure.outcomes)

    def test_average_certified_radius_is_not_defined(self) -> None:
        assert np.isnan(small(stopping="anytime").average_certified_radius)
        fixed = small()
        expected = np.mean([o.radius * (o.status.value == "certified") for o in fixed.outcomes])
        assert fixed.average_certified_radius == expected

    def test_a_close_prediction_costs_little_unless_it_is_asked_for(self) -> None:
        """Classes of probability 0.501: radius 0.25 is out of reach at once, radius 0 for long."""
        sigma, n = 0.25, 30_000
        data = labelled(images_of(np.full(6, 0.501), sigma), [1] * 6)
        model = half_space_model()
        runs = {
            radii: evaluate(model, data, "L2", radii, "anytime", 50, n, 0.001, store=None)
            for radii in [(0.25,), (0.0, 0.25), (0.0,), ()]
        }
        spent = {radii: sum(outcome.n for outcome in run.outcomes) for radii, run in runs.items()}
        assert spent[(0.0, 0.25)] == spent[(0.0,)] == spent[()]
        assert max(outcome.n for outcome in runs[(0.25,)].outcomes) <= n / 30 + CHUNK
        assert spent[(0.25,)] < spent[(0.0,)] / 2
        assert len({run.key for run in runs.values()}) >= 2 and runs[(0.25,)].key != runs[(0.0, 0.25)].key

    def test_draws_of_a_fixed_run_begin_with_those_of_an_anytime_run(self) -> None:
        fixed, anytime = small(n=640), small(n=640, stopping="anytime")
        for one, other in zip(fixed.votes, anytime.votes, strict=True):
            assert one.selection.tolist() == other.selection.tolist()
            assert bool((other.counts <= one.counts).all())


class TestUncertifiable:
    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    @pytest.mark.parametrize("method", ["auto", "monte_carlo"])
    def test_the_least_number_of_draws_is_named_and_is_the_least(self, stopping: str, method: str) -> None:
        radius = 0.25 * float(stats.norm.ppf(0.97))
        data = labelled(torch.ones(1, *SHAPE), [1])

        def run(n: int) -> Run:
            sure = SmoothedClassifier(Sure(), Gaussian(0.25), 2)
            return evaluate(sure, data, "L2", [radius], stopping, 10, n, 0.01, store=None, method=method)

        with pytest.warns(UncertifiableRadiusWarning, match="cannot certify radius") as caught:
            run(30)
        least = int(re.findall(r"n >= (\d+) could", str(caught[-1].message))[0])
        assert run(least).outcomes[0].radius >= radius * (stopping == "anytime")
        assert run(least).table()["certified_accuracy"].tolist() == [1.0, 1.0]
        with pytest.warns(UncertifiableRadiusWarning):
            table = run(least - 1).table()
        assert table["certified_accuracy"].tolist() == [1.0, 0.0]

    @pytest.mark.parametrize(("radius", "needs"), [(1.5, "a probability above 1 - 9.9e-10"), (5.0, "from certainty")])
    def test_a_radius_beyond_all_draws_is_named(self, radius: float, needs: str) -> None:
        """1.5 is six standard deviations, 1 - 9.87e-10 by the normal law; 5 is twenty, which rounds to 1."""
        with pytest.warns(UncertifiableRadiusWarning, match=rf"{needs}; no practical number of draws could"):
            small(radii=[radius])

    def test_the_warning_points_at_the_caller(self) -> None:
        with pytest.warns(UncertifiableRadiusWarning) as caught:
            evaluate(toy_model(), toy_data(), "L2", [5.0], n0=5, n=20, alpha=0.1, store=None)
        assert Path(caught[0].filename).name == Path(__file__).name


class Sure(torch.nn.Module):
    """Class 1, whatever the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 1.0]).expand(len(x), 2)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"radii": [-0.1]}, ParameterError, "a radius must be 0 or more and finite, not -0.1"),
            ({"radii": [float("nan")]}, ParameterError, "not nan"),
            ({"radii": [float("inf")]}, ParameterError, "not inf"),
            ({"radii": "far"}, ParameterError, "radii"),
            ({"radii": [[0.1], [0.2]]}, ParameterError, "radii"),
            ({"radii": None}, ParameterError, "radi"),
            ({"stopping": "never"}, UnknownNameError, "unknown stopping rule 'never'; known: fixed, anytime"),
            ({"threat_model": "l_2"}, UnknownNameError, "Did you mean 'L2'"),
            ({"method": "fast"}, UnknownNameError, "unknown method 'fast'"),
            ({"dataset": "digit"}, UnknownNameError, "Did you mean 'digits'"),
            ({"dataset": "digits", "subset": "every_0th"}, ParameterError, "step 0"),
            ({"workers": 0}, ParameterError, "workers must be a positive whole number, not 0"),
            ({"n": 3}, ParameterError, "it takes 7 draws, or a larger alpha"),
            ({"alpha": 1.0}, ParameterError, "alpha must lie between 0 and 1, not 1.0"),
            ({"seed": 1.5}, ParameterError, "seed must be a whole number of 0 or more, not 1.5"),
            ({"seed": "a"}, ParameterError, "seed must be a whole number of 0 or more, not 'a'"),
            ({"seed": -1}, ParameterError, "seed must be a whole number of 0 or more, not -1"),
            ({"radii": [10**400]}, ParameterError, "radii must be a list of numbers, not [1000"),
            ({"progress": 3}, ParameterError, "progress must be a function"),
            ({"batch_size": 10**12}, ParameterError, "no memory for 1000000000000 images in one pass"),
            ({"batch_size": 10**20}, ParameterError, "use a smaller batch_size"),
            ({"device": "abacus"}, ParameterError, "abacus"),
            ({"dataset": toy_data(classes=4)}, InputError, "4 classes, the model 3"),
            ({"dataset": 7}, ParameterError, "dataset"),
        ],
        ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
    )
    def test_one_line_with_the_value(self, changes: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=re.escape(message)) as raised:
            small(**changes)
        assert "\n" not in str(raised.value)

    def test_a_plain_network(self) -> None:
        with pytest.raises(ParameterError, match="wrap the network"):
            small(Rows())  # type: ignore[arg-type]

    def test_a_network_that_answers_nan(self, tmp_path: Path) -> None:
        class Broken(Rows):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x) * float("nan")

        with pytest.raises(ModelError, match="NaN"):
            small(SmoothedClassifier(Broken(), Gaussian(0.25), 3), tmp_path / "votes.sqlite")

    def test_k_as_large_as_the_dimension(self) -> None:
        with pytest.raises(ParameterError, match="k"):
            small(SmoothedClassifier(Rows(), MixedNorm(4, 0.25), 3))

    def test_an_unusable_store_is_found_before_any_counting(self, tmp_path: Path, no_counting: None) -> None:
        with pytest.raises(StoreError, match="folder"):
            small(store=tmp_path)


class TestRecertify:
    def test_a_noise_that_was_changed_since_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its votes prove nothing of the noise that has the name now: twice the radius, here."""

        def made(width: float) -> type[SmoothingDistribution]:
            class Changing(SmoothingDistribution):
                name = "changing"
                arg_constraints: ClassVar[dict[str, str]] = {"s": "positive"}
                worst_shift_rules = frozenset({"L2"})

                def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
                    out.normal_(generator=generator).mul_(self.parameters["s"] * width)

                def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
                    return -(z * z).sum(1) / (2 * (self.parameters["s"] * width) ** 2)

            return Changing

        path, first = tmp_path / "votes.sqlite", made(1.0)
        monkeypatch.setattr(distributions, "_targets", {**distributions._targets, "changing": first})
        model = SmoothedClassifier(Rows(), first(s=0.25), 3)
        run = small(model, path, method="monte_carlo")
        again = recertify(path, run.key, "L2", [0.1], 0.01, "monte_carlo")
        assert again.records().equals(run.records())
        monkeypatch.setitem(distributions._targets, "changing", made(2.0))
        with pytest.raises(StoreError, match=r"under another changing\(s=0\.25\) than the one of that name now"):
            recertify(path, run.key, "L2", [0.1], 0.01, "monte_carlo")

    def test_is_what_evaluate_would_say(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"
        key = small(store=path).key
        for changes in (
            {"threat_model": "L2", "radii": [0.2], "alpha": 0.05},
            {"threat_model": "Linf", "radii": [0.05], "alpha": 0.01},
        ):
            again = recertify(path, key[:10], **changes)
            expected = small(store=path, **changes)
            assert again.table().equals(expected.table())
            assert again.records().equals(expected.records())

    def test_anytime_votes_go_through_the_confidence_sequence(self, tmp_path: Path) -> None:
        from rs_plugin.estimation import clopper_pearson_lower, lower_sequence

        path = tmp_path / "votes.sqlite"
        model, data = half_space_model(), labelled(images_of(np.full(5, 0.9), 0.25), [1] * 5)
        run = evaluate(model, data, "L2", [0.1], "anytime", 20, 2000, 0.01, store=path)
        with pytest.warns(UndecidedRadiusWarning, match=r"L2 radii 0, 0\.1 were decided .* at L2 0\.05, 0\.2, alpha"):
            again = recertify(path, run.key, "L2", [0.05, 0.2], 0.02)
        for row, outcome in zip(again.votes, again.outcomes, strict=True):
            s, n = int(row.counts[1]), int(row.counts.sum())
            assert outcome.p_lower == float(lower_sequence(s, n, 0.02)) < clopper_pearson_lower(s, n, 0.02)
            assert outcome.radius in (0.0, 0.05, 0.2)
        assert np.isnan(again.average_certified_radius)

    def test_coverage_of_early_stopped_votes_certified_anew(self, tmp_path: Path) -> None:
        # Votes stopped because they looked good at one radius; certified at radii that they do not reach.
        sigma, alpha, count = 0.25, 0.1, 300
        images = images_of(np.full(count, 0.8), sigma)
        path = tmp_path / "votes.sqlite"
        run = evaluate(
            half_space_model(), labelled(images, [1] * count), "L2", [0.1], "anytime", 10, 600, alpha, store=path
        )
        radius = sigma * stats.norm.ppf(0.8001)
        with pytest.warns(UndecidedRadiusWarning):
            again = recertify(path, run.key, "L2", [radius], alpha)
        wrong = sum(o.radius > 0 for o in again.outcomes)
        assert wrong <= stats.binom.isf(1e-6, count, alpha)

    def test_an_unfinished_run_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"

        def stop(done: int, total: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small(store=path, workers=1, progress=stop)
        key = small().key
        with pytest.raises(StoreError, match="votes for 2 of 6 images; finish its evaluation"):
            recertify(path, key, "L2")

    def test_a_run_without_votes_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"
        run = small()
        with VoteStore(path) as store:
            store.add_run(run.key, run.config)
        with pytest.raises(StoreError, match="holds no votes yet"):
            recertify(path, run.key, "L2")

    def test_keys_that_name_no_run_or_two(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"
        first, second = small(store=path), small(store=path, seed=1)
        with pytest.raises(UnknownNameError, match=f"no run of .* begin.* with 'xyz'; runs there: {first.key[:12]}"):
            recertify(path, "xyz", "L2")
        with pytest.raises(UnknownNameError, match="2 runs of"):
            recertify(path, "", "L2")
        assert recertify(path, second.key, "L2", [0.1], 0.01).key == second.key

    def test_a_store_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        path = tmp_path / "none.sqlite"
        with pytest.raises(StoreError, match="there is no vote store"):
            recertify(path, "abc", "L2")
        assert not path.exists()

    def test_bad_input(self, tmp_path: Path) -> None:
        path = tmp_path / "votes.sqlite"
        key = small(store=path).key
        with pytest.raises(ParameterError, match="it takes 200 draws, or a larger alpha"):
            recertify(path, key, "L2", alpha=1e-60)
        with pytest.raises(UnknownNameError, match="unknown method"):
            recertify(path, key, "L2", method="fast")
        with pytest.raises(UnknownNameError, match="unknown threat model"):
            recertify(path, key, "L3")
        with pytest.raises(ParameterError, match="radius"):
            recertify(path, key, "L2", [-1.0])
