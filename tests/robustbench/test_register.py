"""The way in: RobustBench imported, and our models by its own call."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rs_plugin
from rs_plugin import Gaussian, SmoothedClassifier, import_robustbench, register
from rs_plugin.errors import DependencyError, ParameterError
from rs_plugin.robustbench import registration
from tests.robustbench.conftest import colours, network

ROOT = Path(rs_plugin.__file__).parents[1]
pytestmark = [
    pytest.mark.skipif(find_spec("robustbench") is None, reason="RobustBench is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of RobustBench's and timm's own imports
]


def python(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "ignore", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)


class TestShim:
    def test_robustbench_can_be_imported_after_it(self) -> None:
        done = python(
            "import rs_plugin\n"
            "rs_plugin.import_robustbench()\n"
            "import robustbench, autoattack\n"
            "from robustbench.model_zoo import model_dicts\n"
            "from importlib.util import find_spec\n"
            "assert find_spec('autoattack') is not None\n"
            "print(autoattack.__name__, [sum(map(len, zoo.values())) for zoo in model_dicts.values()])\n"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "autoattack [114, 50, 42]\n"

    def test_an_autoattack_that_is_there_is_left_alone(self) -> None:
        done = python(
            "import sys, types\n"
            "own, state = types.ModuleType('autoattack'), types.ModuleType('autoattack.state')\n"
            "own.AutoAttack = state.EvaluationState = object\n"
            "sys.modules.update({'autoattack': own, 'autoattack.state': state})\n"
            "import rs_plugin\n"
            "rs_plugin.import_robustbench('robustbench.eval')\n"
            "assert sys.modules['autoattack'] is own\n"
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            ("robustbench", r"RobustBench is not installed; pip install 'rs-plugin\[robustbench\]'"),
            ("pkg_resources", "pip install 'setuptools<81'"),
        ],
    )
    def test_what_is_missing_is_named(self, missing: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "robustbench", raising=False)
        monkeypatch.setattr(
            "rs_plugin.robustbench.shim.find_spec", lambda name: None if name == missing else find_spec(name)
        )
        with pytest.raises(DependencyError, match=words):
            import_robustbench()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = set(registration._registered) | {registration._home().__name__}
    monkeypatch.setattr(registration, "_registered", {})
    import timm.models._registry as registry

    import_robustbench()
    for name in ("_model_entrypoints", "_model_to_module", "_model_default_cfgs", "_module_to_models"):
        held = getattr(registry, name)
        copied = type(held)(held) if not hasattr(held, "default_factory") else held.copy()
        for taken in earlier & set(copied):  # by another test of the same process
            del copied[taken]
        monkeypatch.setattr(registry, name, copied)


@pytest.mark.usefixtures("fresh")
class TestRegister:
    @pytest.mark.parametrize("threat", ["L2", "Linf"])
    def test_robustbench_loads_our_model(self, zoo_model: str, threat: str) -> None:
        names = register()
        assert f"patches_2026_cifar10_{threat.lower()}" in names
        load = import_robustbench("robustbench.utils").load_model
        model = load(zoo_model, dataset="cifar10", threat_model=threat)
        assert isinstance(model, SmoothedClassifier) and not model.training
        assert model.noise == Gaussian(0.25)
        for key, value in network().state_dict().items():
            assert torch.equal(model.base.state_dict()[key], value)
        images = colours(2).images
        assert torch.equal(model(images), SmoothedClassifier(network(), Gaussian(0.25), 10)(images))

    def test_models_of_other_data_sets_stay_out(self, zoo_model: str) -> None:
        """RobustBench's data sets are an enumeration; digits is none of them."""
        names = register()
        assert {"patches_2026_cifar10_l2", "patches_2026_cifar10_linf"} <= set(names)
        assert not any("digits" in name for name in names)

    def test_bundled_models_are_there_out_of_the_box(self) -> None:
        assert "cifar10_jpeg_gaussian_0_25_cifar10_l2" in register()
        load = import_robustbench("robustbench.utils").load_model
        model = load("cifar10_jpeg_gaussian_0_25", dataset="cifar10", threat_model="L2")
        assert isinstance(model, SmoothedClassifier) and model.noise == Gaussian(0.25)
        own = rs_plugin.load_base("cifar10_jpeg_gaussian_0.25").state_dict()
        assert all(torch.equal(model.base.state_dict()[key], value) for key, value in own.items())

    def test_names_that_fall_together_are_refused(self, zoo_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        card = next(card for card in registration.list_models() if card.name == zoo_model)
        twin = dataclasses.replace(card, name="patches.2026")
        monkeypatch.setattr(registration, "list_models", lambda: [card, twin])
        with pytest.raises(ParameterError, match="two models of the zoo lead to 'patches_2026_cifar10_l2'"):
            register()

    def test_imagenet_models_say_how_images_are_cut(self, zoo_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        card = next(card for card in registration.list_models() if card.name == zoo_model)
        other = dataclasses.replace(card, dataset="imagenet", num_classes=1000)
        monkeypatch.setattr(registration, "list_models", lambda: [other])
        register()
        data = import_robustbench("robustbench.data")
        enums = import_robustbench("robustbench.model_zoo.enums")
        cut = data.get_preprocessing(enums.BenchmarkDataset.imagenet, enums.ThreatModel.L2, zoo_model, None)
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
        assert torch.equal(cut(picture), data.PREPROCESSINGS["Res256Crop224"](picture))

    def test_may_be_called_again(self, zoo_model: str) -> None:
        assert register() == register()

    def test_a_name_that_is_taken_is_refused(self, zoo_model: str) -> None:
        from timm.models import is_model, register_model

        def patches_2026_cifar10_linf(**options: object) -> None: ...

        register_model(patches_2026_cifar10_linf)
        with pytest.raises(ParameterError, match="timm has a model 'patches_2026_cifar10_linf' already"):
            register()
        assert not is_model("patches_2026_cifar10_l2")

    def test_without_weights_a_fresh_network_is_made(self, zoo_model: str) -> None:
        import timm

        register()
        model = timm.create_model("patches_2026_cifar10_l2", bank=3)
        assert isinstance(model, SmoothedClassifier) and model.bank == 3
        assert not torch.equal(model.base.linear.weight, network().linear.weight)
        with pytest.raises(ParameterError, match="'Patches-2026' has 10 classes, not 100"):
            timm.create_model("patches_2026_cifar10_l2", num_classes=100)


def test_l1_is_ours_alone(zoo_model: str) -> None:
    model = rs_plugin.load_model(zoo_model, "cifar10", "L1")
    run = rs_plugin.evaluate(model, colours(6), "L1", [0.1], n=500, store=None)
    assert run.certificate.threat_model == "L1" and run.table()["certified_accuracy"][1] > 0.5


def test_a_model_of_robustbenchs_zoo_can_be_smoothed() -> None:
    """Its architecture, freshly initialised, since its weights would have to be fetched."""
    enums = import_robustbench("robustbench.model_zoo.enums")
    zoo = import_robustbench("robustbench.model_zoo").model_dicts
    base = zoo[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.L2]["Rade2021Helper_R18_ddpm"]["model"]()
    outcome = SmoothedClassifier(base, Gaussian(0.25), 10).certify(colours(1).images, "L2", n0=8, n=24, alpha=0.1)
    assert outcome[0].votes.sum() == 24
