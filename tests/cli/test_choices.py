"""What is taken where an option is left out, and what is said of choices that may mislead."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from rs_plugin.certificates import certificate
from rs_plugin.cli.options import LAST_REQUIRED, default_radii
from rs_plugin.datasets import load_dataset
from rs_plugin.datasets.base import IMAGE_SHAPES, datasets
from rs_plugin.distributions import parse_noise
from rs_plugin.estimation import least_trials
from rs_plugin.evaluation.suite import RADII
from rs_plugin.robustbench.__main__ import main as benchmark_main
from rs_plugin.zoo import list_models
from rs_plugin.zoo.smoothed import doubt_of
from tests.cli.conftest import Cli
from tests.cli.test_cli import narrow, refused
from tests.robustbench.conftest import colours

CIFAR = "cifar10_jpeg_gaussian_0.25"
FEW = ["--n-examples", "2", "--n0", "5", "--n", "20", "--alpha", "0.05"]
IMAGES = Path(os.environ.get("RS_DATA", "/nowhere")) / "cifar10" / "cifar10_jpeg_test.zip"


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a few images under the name of the data set of the bundled CIFAR models."""

    def load(preprocessing: str | None = None) -> Any:
        data = dataclasses.replace(colours(4), name="cifar10_jpeg", collection="")
        if preprocessing is None:
            return data
        images = torch.nn.functional.interpolate(data.images, 224)
        return dataclasses.replace(data, images=images, collection="", preprocessing=preprocessing)

    monkeypatch.setattr(datasets, "_targets", {**datasets._targets, "cifar10_jpeg": load})


@pytest.mark.usefixtures("cifar")
class TestDataSet:
    def test_is_the_models_own(self, cli: Cli) -> None:
        code, out, err = cli("evaluate", "--model", CIFAR, *FEW, "--radii", "0.1", "--json")
        assert (code, err) == (0, "") and json.loads(out)["runs"][0]["dataset"] == "cifar10_jpeg"
        code, out, err = cli("evaluate", "--model", CIFAR, *FEW, "--radii", "0.1", "--dataset", "digits")
        assert code == 0 and f"{CIFAR!r} was trained for 'cifar10_jpeg', not for 'digits'" in err

    def test_that_is_not_at_hand(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RS_DATA", raising=False)
        monkeypatch.setitem(datasets._targets, "cifar10_jpeg", "rs_plugin.datasets.known:load_cifar10_jpeg")
        words = ["evaluate", "--model", CIFAR]
        refused(cli(*words), "'cifar10_jpeg' is not in this", "set RS_DATA or --data-dir", "another by --dataset")
        assert "by --dataset" not in cli(*words, "--dataset", "cifar10_jpeg")[2]

    def test_is_needed_for_a_checkpoint(self, cli: Cli, tmp_path: Path) -> None:
        from rs_plugin.networks import CifarResNet

        state = {f"1.{key}": value for key, value in CifarResNet(8, 10).state_dict().items()}
        torch.save({"arch": "cifar_resnet8", "state_dict": state}, tmp_path / "net.pt")
        words = ["evaluate", "--model", "net.pt", "--noise", "gaussian(sigma=0.25)", "--normalisation", "none"]
        refused(cli(*words), "'net.pt' does not say what it is for; give --dataset")

    def test_of_another_shape_gets_a_warning(self, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
        words = [*FEW, "--radii", "0.1", "--preprocessing", "Res256Crop224"]
        code, _, err = cli("evaluate", "--model", CIFAR, *words)
        warned = f"images have shape (3, 224, 224), and {CIFAR!r} was trained on images of shape (3, 32, 32)"
        assert code == 0 and err == f"rs-plugin: warning: the {warned}\n"
        words = ["--model_name", CIFAR, "--dataset", "cifar10_jpeg", "--threat_model", "L2", "--eps", "0.1"]
        words += ["--n_ex", "1", "--n", "50", "--n0", "5", "--alpha", "0.05", "--preprocessing", "Res256Crop224"]
        assert benchmark_main(words) == 0 and warned in capsys.readouterr().err


def test_shapes_of_data_sets_are_those_of_their_images() -> None:
    assert load_dataset("digits", None, 1).image_shape == IMAGE_SHAPES["digits"]
    assert {card.dataset for card in list_models()} <= IMAGE_SHAPES.keys() <= set(datasets.names())
    card = next(card for card in list_models() if card.name == "digits_gaussian_0.25")
    assert doubt_of(card, "digits", (1, 8, 8)) is None and doubt_of(card, "some/folder", (1, 8, 8)) is None
    assert "shape (1, 9, 9)" in str(doubt_of(card, "some/folder", (1, 9, 9)))
    assert doubt_of(dataclasses.replace(card, dataset="mine"), "some/folder", (1, 9, 9)) is None


@pytest.mark.skipif(not IMAGES.is_file(), reason="RS_DATA holds no cifar10/cifar10_jpeg_test.zip")
def test_shapes_of_cifar() -> None:
    assert load_dataset("cifar10_jpeg", None, 1).image_shape == IMAGE_SHAPES["cifar10_jpeg"]


class TestRadii:
    @pytest.mark.parametrize("threat", ["L1", "L2", "Linf"])
    @pytest.mark.parametrize("dim", [64, 3072])
    @pytest.mark.parametrize("noise", ["gaussian(sigma=0.5)", "laplace(b=0.1768)", "linf_exponential(k=8, sigma=0.05)"])
    def test_span_what_a_thousand_draws_can_show(self, noise: str, dim: int, threat: str) -> None:
        law = parse_noise(noise)
        radii = default_radii(law, threat, dim, "auto")
        required = certificate(law, threat, dim).required_probability(radii)
        assert 0.95 < required[-1] <= LAST_REQUIRED and least_trials(float(required[-1]), 1e-3) <= 1000
        assert radii == pytest.approx([radii[0] * number for number in range(1, 5)], rel=1e-12)
        assert float(f"{radii[0]:.2g}") == radii[0]

    def test_of_usual_noise_are_the_usual_ones(self) -> None:
        assert tuple(default_radii(parse_noise("gaussian(sigma=0.25)"), "L2", 64, "auto")) == RADII["L2"][1:]
        assert default_radii(parse_noise("gaussian(sigma=0.25)"), "Linf", 3072, "auto") == [
            0.0027, 0.0054, 0.0081, 0.0108,
        ]  # fmt: skip

    def test_are_taken_with_a_model_and_by_recertify(self, cli: Cli) -> None:
        cli("evaluate", "--model", "digits_gaussian_0.12", "--threat-model", "Linf", *FEW)
        runs = json.loads(cli("recertify", "--json")[1])
        expected = [0.0, *default_radii(parse_noise("gaussian(sigma=0.12)"), "Linf", 64, "auto")]
        again = cli("recertify", "--run", runs[0]["key"], "--threat-model", "Linf", "--alpha", "0.05", "--json")[1]
        for text in (Path("results/evaluate.json").read_text(), again):
            assert [row["radius"] for row in json.loads(text)["runs"][0]["table"]] == expected


class TestAnytime:
    def test_has_more_draws_to_stop_within(self, cli: Cli) -> None:
        words = ["evaluate", "--model", "digits_gaussian_0.25", "--n-examples", "3", "--json"]
        anytime = ["--stopping", "anytime"]
        for extra, n in ((anytime, 10_000), ([], 1000), ([*anytime, "--n", "500"], 500)):
            assert json.loads(cli(*words, *extra)[1])["runs"][0]["config"]["n"] == n
        text = " ".join(cli("evaluate", "--help")[1].split())
        assert "(default: 1000, anytime 10000)" in text and "a thirtieth of --n at most unless it is listed" in text

    def test_other_radii_later_get_a_warning(self, cli: Cli) -> None:
        words = ["evaluate", "--model", "digits_gaussian_0.25", "--stopping", "anytime", "--radii", "0.1", "0.2"]
        assert cli(*words, "--n-examples", "3", "--n", "2000", "--alpha", "0.01")[2] == ""
        ((key, _),) = sqlite3.connect("runs.sqlite").execute("SELECT key, config FROM runs").fetchall()
        recertify = ["recertify", "--run", key, "--alpha"]
        for extra in (["0.01"], ["0.02", "--radii", "0.2"], ["0.01", "--threat-model", "L2", "--radii", "0"]):
            code, _, err = cli(*recertify, *extra)
            assert (code, err) == (0, ""), extra
        stopped = f"run {key[:12]} left every image once L2 radii 0, 0.1, 0.2 were decided at alpha = 0.01"
        for extra, what in (
            (["0.01", "--radii", "0.15", "0.2"], "at L2 0.15, alpha = 0.01"),
            (["0.001", "--radii", "0.2"], "at L2 0.2, alpha = 0.001"),
            (["0.01", "--threat-model", "Linf", "--radii", "0.01"], "at Linf 0.01, alpha = 0.01"),
        ):
            assert f"{stopped}; {what}, more draws could certify more\n" in cli(*recertify, *extra)[2]

    def test_the_list_of_runs_tells_where_they_stopped(self, cli: Cli) -> None:
        words = ["--n-examples", "1", "--n", "300", "--radii", "0.1", "0.2", "--stopping", "anytime"]
        cli("evaluate", "--model", "digits_gaussian_0.25", "--precision", "bfloat16", *words)
        out = cli("recertify")[1]
        assert narrow(out) and "bfloat16; L2 radii 0, 0.1, 0.2 at alpha = 0.001" in " ".join(out.split())


def test_the_compiler_and_the_size_of_a_pass(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    words = ["evaluate", "--model", "digits_gaussian_0.25", *FEW, "--radii", "0.1", "--json"]
    code, out, err = cli(*words, "--batch-size", "96", "--compiled")
    config = json.loads(out)["runs"][0]["config"]
    assert (code, err) == (0, "") and (config["block"][0], config["compiled"]) == (96, True)
    logging.getLogger("torch.utils.cpp_extension").filters.clear()
    assert "CUDA" not in caplog.text
    listing = cli("recertify")[1]
    assert "float32, compiled" in listing
