"""Bundled models are what their cards say; nothing else is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rs_plugin.datasets import load_dataset
from rs_plugin.distributions import Gaussian, Laplace, parse_noise
from rs_plugin.errors import ChecksumError, ModelError, ParameterError, UnknownNameError, UnsupportedThreatError
from rs_plugin.evaluation.suite import BASELINES, SUITE, smoothed
from rs_plugin.networks import DigitsNet
from rs_plugin.training import EVALUATION_DRAWS, EVALUATION_SEED, TrainConfig, accuracy, command_line
from rs_plugin.zoo import ModelCard, list_models, load_base, load_card, load_saved, models, save_model, weights_bytes
from rs_plugin.zoo.models import WEIGHTS
from rs_plugin.zoo.smoothed import load_model
from rs_plugin.zoo.smoothed import smoothed as smoothed_model

SCALES = ("0.12", "0.25", "0.5")
DIGITS = [f"digits_{family}_{scale}" for family in ("gaussian", "laplace", "mixednorm") for scale in SCALES]
CIFAR = sorted(path.stem for path in WEIGHTS.glob("cifar10_jpeg_*.json"))
NAMES = sorted([*DIGITS, *CIFAR])


def _card(name: str) -> ModelCard:
    return load_card(models.get(name))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The path of a card that was just saved."""
    torch.manual_seed(0)
    model = DigitsNet()
    digest = hashlib.sha256(weights_bytes(model)).hexdigest()
    return save_model(model, dataclasses.replace(_card(DIGITS[0]), name="mine-1.5", sha256=digest), tmp_path / "new")


def test_the_bundled_models_are_listed() -> None:
    cards = list_models()
    assert [card.name for card in cards] == models.names()
    assert set(NAMES) <= {card.name for card in cards}
    assert {path.stem for path in WEIGHTS.glob("*.safetensors")} == {path.stem for path in WEIGHTS.glob("*.json")}
    assert sorted(path.stem for path in WEIGHTS.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str) -> None:
    card = _card(name)
    content = (WEIGHTS / f"{name}.safetensors").read_bytes()
    assert card.name == name
    assert card.sha256 == hashlib.sha256(content).hexdigest()
    assert len(content) < (500_000 if name in DIGITS else 4_000_000)
    # The number in the name is the root mean square of one coordinate; four decimals of the parameter are kept.
    noise = parse_noise(card.noise)
    assert str(noise) == card.noise
    dim = 64 if name in DIGITS else 3072
    *_, family, scale = name.removesuffix("_adv").split("_")
    assert math.sqrt(noise.second_moment(dim)) == pytest.approx(float(scale), abs=1e-4)
    assert noise.name.replace("_", "") == family
    config = TrainConfig(**card.recipe)  # type: ignore[arg-type]
    assert (config.dataset, config.architecture, config.seed) == (card.dataset, card.architecture, card.seed)
    assert parse_noise(config.noise) == noise
    assert card.command == command_line(config, name)
    assert card.licence == "MIT"
    assert ("CC BY 4.0" if name in DIGITS else "CIFAR, A. Krizhevsky (2009)") in card.data_source
    losses = [loss for _, loss in sorted((int(epoch), loss) for epoch, loss in card.losses.items())]
    assert len(losses) >= min(10, config.epochs) and losses[-1] < losses[0] and str(config.epochs) in card.losses
    assert (WEIGHTS / f"{name}.json").read_text(encoding="utf-8") == card.to_json()


@pytest.mark.parametrize("name", DIGITS)
def test_model_reaches_its_recorded_accuracies(name: str) -> None:
    card = _card(name)
    model = load_base(name)
    assert not model.training
    assert sum(value.numel() for value in model.parameters()) == card.parameters
    dataset = load_dataset(card.dataset)
    # Rounding differs between processors; it may turn an image that lies on a border, so one of 360 is let go.
    assert accuracy(model, dataset) == pytest.approx(card.accuracy_clean, abs=1.01 / 360)
    assert card.noise_draws == EVALUATION_DRAWS
    same = accuracy(model, dataset, parse_noise(card.noise), draws=EVALUATION_DRAWS, seed=EVALUATION_SEED)
    assert same == pytest.approx(card.accuracy_noise, abs=5.01 / 7200)
    # Other draws: two means of 7 200 draws each, a difference of 5 standard deviations has probability below 1e-6.
    # (The variance within images is at most that of independent draws.)
    other = accuracy(model, dataset, parse_noise(card.noise), draws=EVALUATION_DRAWS, seed=EVALUATION_SEED + 1)
    deviation = math.sqrt(2 * card.accuracy_noise * (1 - card.accuracy_noise) / 7200)
    assert abs(other - card.accuracy_noise) < 5 * deviation


IMAGES = Path(os.environ.get("RS_DATA", "/nowhere")) / "cifar10" / "cifar10_jpeg_test.zip"


@pytest.mark.skipif(not IMAGES.is_file(), reason="RS_DATA holds no cifar10/cifar10_jpeg_test.zip")
@pytest.mark.parametrize("name", CIFAR)
def test_cifar_model_reaches_its_recorded_accuracies(name: str) -> None:
    """On every 10th image, with five draws; the card is about all 10 000, with twenty."""
    card, model = _card(name), load_base(name)
    dataset = load_dataset(card.dataset, "every_10th")
    # Means of 1 000 of the 10 000 images: five standard deviations, without the factor sqrt(0.9) for the finite whole.
    for found, recorded in (
        (accuracy(model, dataset), card.accuracy_clean),
        (accuracy(model, dataset, parse_noise(card.noise), draws=5, seed=7), card.accuracy_noise),
    ):
        assert abs(found - recorded) < 5 * math.sqrt(recorded * (1 - recorded) / len(dataset))


def test_noise_costs_more_where_there_is_more() -> None:
    for family in ("gaussian", "laplace", "mixednorm"):
        small, middle, large = (_card(f"digits_{family}_{scale}").accuracy_noise for scale in SCALES)
        assert small > middle > large > 0.7


def test_loading_leaves_the_global_generator_alone(saved: Path) -> None:
    before = torch.get_rng_state()
    load_base(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_save_and_load(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["mine-1.5.json", "mine-1.5.safetensors"]
    model, card = load_saved(saved)
    assert card == load_card(saved)
    assert hashlib.sha256(weights_bytes(model)).hexdigest() == card.sha256
    assert weights_bytes(load_base(saved)) == weights_bytes(load_base(str(saved))) == weights_bytes(model)


def test_tampered_weights_are_refused(saved: Path) -> None:
    weights = saved.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    expected, found = load_card(saved).sha256, hashlib.sha256(content).hexdigest()
    sums = rf"mine-1.5.safetensors is not .*sha256 {found[:12]}…, on the card {expected[:12]}…\); reinstall"
    with pytest.raises(ChecksumError, match=sums) as caught:
        load_base(saved)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_a_dot_may_be_written_as_robustbench_writes_it() -> None:
    assert weights_bytes(load_base("digits_gaussian_0_25")) == weights_bytes(load_base("digits_gaussian_0.25"))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'digits_gaussian_0\.25'"):
        load_base("digits_gaussian_0-25")


def test_cards_are_found_by_path(saved: Path) -> None:
    for path in (saved, str(saved)):
        assert weights_bytes(load_model(path).base) == weights_bytes(load_base(saved))
    for load in (load_base, load_model):
        with pytest.raises(ParameterError, match=r"give the card \(\.json\) beside it"):
            load(saved.with_suffix(".safetensors"))
    with pytest.raises(ParameterError, match=r"'mine-1\.5' is for 'digits', not 'cifar10'"):
        load_model(saved, "cifar10")


def test_a_model_under_another_name_than_its_card_s_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_targets", {**models._targets, "other": saved})
    with pytest.raises(ParameterError, match=r"model 'other' has a card that says 'mine-1\.5'; register it under that"):
        list_models()


def test_how_a_model_votes(saved: Path) -> None:
    for model in (load_model(saved, precision="bfloat16", compiled=True), smoothed_model(saved, compiled=True)):
        assert model.compiled
    assert load_model(saved, precision="bfloat16").precision == "bfloat16" and not load_model(saved).compiled


def test_noise_without_a_rule_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(saved, threat_model="Linf").noise == parse_noise(load_card(saved).noise)
    noise = Gaussian(0.12)
    noise.worst_shift_rules = frozenset()
    monkeypatch.setattr("rs_plugin.zoo.smoothed.parse_noise", lambda text: noise)
    with pytest.raises(UnsupportedThreatError, match="no proven rule certifies gaussian"):
        load_model(saved)


def test_the_comparison_has_its_baselines_as_they_were_trained() -> None:
    assert smoothed(SUITE[0], 64).noise == Laplace(0.1768) == parse_noise(_card("digits_laplace_0.25").noise)
    assert smoothed(SUITE[2], 64).noise == Gaussian(0.25) == parse_noise(_card("digits_gaussian_0.25").noise)
    for entry in SUITE:
        moment = smoothed(entry, 64).noise.second_moment(64)
        # Rescaling and the moment's quadrature are good to far more digits than these.
        assert moment == pytest.approx(parse_noise(BASELINES[entry.threat]).second_moment(64), rel=1e-9)


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    content = safetensors.torch.save({"weight": torch.zeros(3)})
    saved.with_suffix(".safetensors").write_bytes(content)
    card = dataclasses.replace(load_card(saved), sha256=hashlib.sha256(content).hexdigest())
    saved.write_text(card.to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="does not fit architecture 'digits_net'"):
        load_base(saved)
    saved.with_suffix(".safetensors").write_bytes(b"not safetensors")
    digest = hashlib.sha256(b"not safetensors").hexdigest()
    saved.write_text(dataclasses.replace(card, sha256=digest).to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match="does not fit"):
        load_base(saved)


def test_save_refuses_a_card_of_other_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ChecksumError, match="make a new card"):
        save_model(DigitsNet(), _card(DIGITS[0]), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match=r"cannot write .*choose another folder"):
        save_model(load_base(DIGITS[0]), _card(DIGITS[0]), tmp_path / "file")


def test_missing_files(saved: Path) -> None:
    saved.with_suffix(".safetensors").unlink()
    with pytest.raises(ParameterError, match="cannot read the weights"):
        load_base(saved)
    with pytest.raises(ParameterError, match="cannot read the model card"):
        load_base(saved.with_name("none.json"))


def test_unknown_name() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'digits_gausian_0.25'.*Did you mean 'digits_gaussian_0.25'"
    ):
        load_base("digits_gausian_0.25")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": None}, r"lacks \['sha256'\]"),
        ({"colour": "red"}, r"unknown fields \['colour'\]"),
        ({"num_classes": "10"}, "num_classes = '10'"),
        ({"seed": True}, "seed = True"),
        ({"accuracy_clean": "high"}, "accuracy_clean = 'high'"),
        ({"name": "../evil"}, "'../evil'"),
    ],
)
def test_damaged_cards(saved: Path, change: dict[str, object], message: str) -> None:
    content = {**json.loads(saved.read_text(encoding="utf-8")), **change}
    saved.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    with pytest.raises(ParameterError, match=message):
        load_card(saved)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[1]", "must hold a JSON object, not list")])
def test_cards_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=message):
        load_card(path)


def test_the_zoo_needs_few_rooms_at_import() -> None:
    """The noise families, the data sets and the training stay unloaded; the package's own __init__ is left out."""
    script = (
        "import sys, types\n"
        f"package = types.ModuleType('rs_plugin'); package.__path__ = [{str(WEIGHTS.parents[1])!r}]\n"
        "sys.modules['rs_plugin'] = package\n"
        "import rs_plugin.zoo\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('rs_plugin.')}))\n"
        "print(sorted({'sklearn', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(["errors", "files", "networks", "registry", "zoo"]), "[]"]
