"""Floating-point noise can make a certificate false; noise on a grid cannot. The example is Voráček and Hein's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import rs_plugin as rs
from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ParameterError
from rs_plugin.evaluation import VoteStore
from rs_plugin.evaluation.executors import on_ray
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.streams import Stream
from rs_plugin.voting import Ask, DrawRange
from tests.evaluation.fake_ray import FakeRay
from tests.evaluation.toys import Rows, half_space_model, toy_model

A = 210 / 255
SHAPE = (1, 1, 1)


class RoundTrip(nn.Module):
    """Class 1 where ``(x - a) + a = x`` in float32: true of nearly all that floating-point noise makes of ``a``.

    V. Voráček and M. Hein, "Sound randomized smoothing in floating-point arithmetic" (ICLR 2023), Section 3.
    """

    pure_forward = True

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tensor(A, dtype=torch.float32)
        back = ((x - a) + a == x).flatten(1).all(1).to(torch.float32)
        return torch.stack([1.0 - back, back], dim=1)


def images(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, *SHAPE)


def counts(model: SmoothedClassifier, value: float, n: int = 100_000) -> np.ndarray:
    found = model.counter(SHAPE).ask([Ask(images(value)[0], 0, 0, [DrawRange(Stream.ESTIMATION, 0, n)])])
    return found[0].counts[0]


def test_floating_point_noise_certifies_what_is_false() -> None:
    """The certificate of ``a`` says that no image within its radius is answered otherwise; 0 is, and lies within."""
    model = SmoothedClassifier(RoundTrip(), rs.Gaussian(0.5), 2)
    (here,) = model.certify(images(A), "L2", n=1000)
    assert here.prediction == 1
    assert here.radius > 1.2, "the paper has 1.26"
    assert here.radius > A, "0 lies within"
    zero = counts(model, 0.0)
    assert rs.certificate(rs.Gaussian(0.5), "L2", 1).radius(zero[0] / zero.sum()) > 0, "and is of class 0"
    assert stats.binomtest(int(zero[1]), int(zero.sum()), 0.5).pvalue < 1e-6
    assert zero[1] < zero[0]


@pytest.mark.parametrize("levels", [255, 510, 4080])
def test_noise_on_a_grid_does_not(levels: int) -> None:
    """The same network: what 0 may at least have of class 1, as the certificate of ``a`` has it, 0 has."""
    model = SmoothedClassifier(RoundTrip(), rs.Gaussian(0.5), 2, sound=levels)
    (outcome,) = model.certify(images(A), "L2", n=100_000)
    zero, here = counts(model, 0.0), counts(model, A)
    least = rs.certificate(rs.Gaussian(0.5), "L2", 1).lower_bound(here[1] / here.sum(), A)
    error = 5.0 * np.sqrt(0.25 / zero.sum())
    assert zero[1] / zero.sum() >= least - error
    assert outcome.radius < A, "0, which may be answered otherwise, lies beyond"


class Shifted(nn.Module):
    """A half-space whose probability on the grid is known: class 1 where the value is above a threshold."""

    pure_forward = True

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).sum(1) - self.threshold
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize(("noise", "law"), [
    (rs.Gaussian(0.1), stats.norm(scale=0.1)), (rs.Laplace(0.1), stats.laplace(scale=0.1))
], ids=["gaussian", "laplace"])  # fmt: skip
@pytest.mark.parametrize("k", [100, 128, 200])
def test_votes_have_the_probability_of_the_rounded_noise(noise: Any, law: Any, k: int) -> None:
    """``P(k + j >= 128)`` is ``P(z > (127.5 - k) / 255)``; five standard errors."""
    model = SmoothedClassifier(Shifted(127.5 / 255), noise, 2, sound=True)
    found = counts(model, k / 255)
    expected = law.sf((127.5 - k) / 255)
    assert abs(found[1] / found.sum() - expected) < 5.0 * np.sqrt(expected * (1.0 - expected) / found.sum()) + 1e-5


def grid_data(count: int = 8, levels: int = 255) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(levels + 1, (count, 1, 2, 2), generator=generator).to(torch.float32)
    return Dataset("grid", steps / levels, torch.randint(3, (count,), generator=generator), 3, torch.arange(count))


def sound_model(sound: bool | int = True) -> SmoothedClassifier:
    return SmoothedClassifier(Rows(3), rs.Gaussian(0.25), 3, sound=sound)


HOW: dict[str, Any] = {"threat_model": "L2", "radii": [0.05, 0.1], "n": 2000, "alpha": 0.01}


@pytest.mark.parametrize("stopping", ["fixed", "anytime"])
def test_sound_votes_are_the_same_whoever_counts_them(stopping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "import_ray", lambda: FakeRay(seed=1, deaths=1))
    runs = [
        rs.evaluate(sound_model(), grid_data(), store=None, stopping=stopping, **how, **HOW)
        for how in ({"workers": 1}, {"workers": 3}, {"executor": "ray", "workers": 2})
    ]
    votes = [[(row.selection.tolist(), row.counts.tolist()) for row in run.votes] for run in runs]
    assert votes[0] == votes[1] == votes[2]


def test_sound_runs_have_keys_of_their_own(tmp_path: Any) -> None:
    path = tmp_path / "runs.sqlite"
    keys = [
        rs.evaluate(sound_model(sound), grid_data(), store=path, **HOW).key for sound in (False, True, 255, 510, 4080)
    ]
    assert len(set(keys)) == 4
    assert keys[1] == keys[2]
    with VoteStore(path) as store:
        assert "sound" not in store.config(keys[0])
        assert store.config(keys[1])["sound"] == 255
    again = rs.recertify(path, keys[1], "Linf", [0.01])
    assert again.sound == 255


def test_images_off_the_grid_are_refused_before_any_work() -> None:
    data = grid_data()
    data.images[5, 0, 0, 0] += 0.001
    with pytest.raises(InputError, match="multiples of 1/255"):
        rs.evaluate(sound_model(), data, store=None, **HOW)
    with pytest.raises(InputError, match="multiples of 1/255"):
        sound_model().certify(data.images[5:6], "L2", n=200)
    with pytest.raises(InputError, match="multiples of 1/255"):
        sound_model().predict(data.images[5:6], n=200)


@pytest.mark.parametrize("sound", [0, 2.5, "yes", 70_000, None, np.int64(0), np.True_, np.float64(255.0)])
def test_levels_that_make_no_sense_are_refused(sound: Any) -> None:
    with pytest.raises(ParameterError, match="sound must be True, False or a whole number"):
        sound_model(sound)


def test_numpys_whole_numbers_are_levels() -> None:
    model = sound_model(np.int64(255))  # type: ignore[arg-type]
    assert (type(model.levels), model.levels) == (int, 255)


def test_noise_that_has_no_exact_draws_is_refused() -> None:
    with pytest.raises(ParameterError, match="Gaussian and Laplace"):
        SmoothedClassifier(Rows(3), rs.MixedNorm(k=1, sigma=0.5), 3, sound=True)


def test_another_noise_is_drawn_as_it_is_certified() -> None:
    model = SmoothedClassifier(Shifted(0.5), rs.Gaussian(0.05), 2, sound=True)
    model.noise = rs.Gaussian(0.5)
    honest = SmoothedClassifier(Shifted(0.5), rs.Gaussian(0.5), 2, sound=True)
    assert counts(model, 100 / 255).tolist() == counts(honest, 100 / 255).tolist()
    model.noise = rs.MixedNorm(k=0.5, sigma=0.5)
    with pytest.raises(ParameterError, match="Gaussian and Laplace"):
        model.certify(images(A), "L2", n=200)


def test_copies_are_as_sound() -> None:
    import copy

    model = sound_model(510)
    assert copy.deepcopy(model).levels == model.with_bank(8).levels == 510
    assert toy_model().levels == 0
    assert half_space_model().grid is None


def test_attacks_are_told_that_they_leave_the_grid() -> None:
    model, data = sound_model(), grid_data()
    run = rs.evaluate(model, data, store=None, **HOW)
    with pytest.raises(ParameterError, match=r"off the grid of 1/255 .* without sound=True"):
        rs.attack_certificates(model, run, data, ["pgd"])


def test_a_benchmark_can_be_sound() -> None:
    plain = rs.benchmark(
        Rows(3), dataset=grid_data(), threat_model="L2", eps=0.05, noise="gaussian(sigma=0.25)", n=2000, sound=True,
        store=None,
    )  # fmt: skip
    assert plain == rs.benchmark(sound_model(), dataset=grid_data(), threat_model="L2", eps=0.05, n=2000, store=None)
    with pytest.raises(ParameterError, match="sound = 510 was given, but the model has 255"):
        rs.benchmark(sound_model(), dataset=grid_data(), threat_model="L2", eps=0.05, sound=510, store=None)
