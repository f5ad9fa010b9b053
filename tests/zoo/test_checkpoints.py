"""Checkpoints of the published structures, written here; and files that are none."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ModelError, UnknownNameError
from rs_plugin.networks import CIFAR10_MEAN, CIFAR10_STD, CifarResNet, Normalized
from rs_plugin.zoo.checkpoints import load_checkpoint

State = dict[str, Tensor]


def cifar(depth: int = 8) -> nn.Module:
    torch.manual_seed(4)
    network = CifarResNet(depth)
    images = torch.rand(64, 3, 32, 32)
    network.train()
    network((images - 0.47) / 0.2)  # some statistics of batches
    return network.eval()


def prefixed(network: nn.Module, prefix: str) -> State:
    return OrderedDict((prefix + key, value) for key, value in network.state_dict().items())


#: How the releases wrap a state.
STRUCTURES: dict[str, Callable[[nn.Module], Any]] = {
    "Cohen, CIFAR": lambda net: {"epoch": 90, "arch": "cifar_resnet110", "state_dict": prefixed(net, "1.")},
    "Cohen, parallel": lambda net: {"epoch": 90, "arch": "resnet50", "state_dict": prefixed(net, "1.module.")},
    "Yang": lambda net: prefixed(net, "model.module."),
    "bare": lambda net: prefixed(net, ""),
    "with its optimiser": lambda net: {
        "state_dict": prefixed(net, "1."),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9).state_dict(),
    },
    "old, without counters": lambda net: {
        key: value for key, value in prefixed(net, "module.").items() if "num_batches" not in key
    },
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_cifar_networks_in_every_structure(structure: str, tmp_path: Path) -> None:
    network, path = cifar(), tmp_path / "checkpoint.pth.tar"
    torch.save(STRUCTURES[structure](network), path)
    loaded = load_checkpoint(path, "mean_std")
    assert not loaded.training
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), Normalized(network, CIFAR10_MEAN, CIFAR10_STD)(images))


@pytest.mark.parametrize("depth", [20, 110])
def test_the_depth_is_that_of_the_file(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"arch": "anything", "state_dict": prefixed(CifarResNet(depth, 100), "1.")}, path)
    network = load_checkpoint(path, "none").network
    assert isinstance(network, CifarResNet) and len(network.layer2) == (depth - 2) // 6
    assert network.fc.out_features == 100


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_imagenet_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = getattr(models, name)(num_classes=1000).eval(), tmp_path / "net.pth.tar"
    torch.save({"arch": "resnet50", "state_dict": prefixed(network, "1.module.")}, path)
    loaded = load_checkpoint(path, "mean")
    assert type(loaded.network) is type(network)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        torch.testing.assert_close(loaded(image), expected)


class TestNormalisation:
    def labelled(self, network: Any, mean: Any, std: Any, count: int = 200) -> Dataset:
        """Images that the network gets right under one normalisation."""
        generator = torch.Generator().manual_seed(8)
        images = torch.rand((count, 3, 1, 1), generator=generator) * torch.ones(32, 32)
        images = (images + 0.3 * torch.rand((count, 3, 32, 32), generator=generator)).clamp(0, 1)
        model = Normalized(network, mean, std).eval()
        with torch.no_grad():
            network.fc.bias -= model(images).mean(0)  # so that all classes occur
            labels = model(images).argmax(1)
        return Dataset("x", images, labels, 10, torch.arange(count))

    @pytest.mark.parametrize(
        ("mean", "std"), [(CIFAR10_MEAN, CIFAR10_STD), (CIFAR10_MEAN, (1.0,) * 3), ((0.0,) * 3, (1.0,) * 3)]
    )
    def test_is_found_on_labelled_images(self, mean: Any, std: Any, tmp_path: Path) -> None:
        network, path = cifar(), tmp_path / "net.pt"
        labelled = self.labelled(network, mean, std)
        torch.save(prefixed(network, ""), path)
        loaded = load_checkpoint(path, labelled=labelled)
        assert loaded.mean.flatten().tolist() == pytest.approx(mean)
        assert loaded.std.flatten().tolist() == pytest.approx(std)

    def test_is_not_guessed(self, tmp_path: Path) -> None:
        network, path = cifar(), tmp_path / "net.pt"
        torch.save(prefixed(network, ""), path)
        with pytest.raises(InputError, match=r"does not say how its images are normalised.*mean_std, mean, none"):
            load_checkpoint(path)
        few = self.labelled(network, CIFAR10_MEAN, CIFAR10_STD, count=2)
        with pytest.raises(InputError, match="2 labelled images do not tell how"):
            load_checkpoint(path, labelled=few)
        with pytest.raises(UnknownNameError, match="unknown normalisation 'cohen'; known: mean_std, mean, none"):
            load_checkpoint(path, "cohen")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class TestRefusals:
    def test_code_is_not_run(self, tmp_path: Path) -> None:
        path, trace = tmp_path / "net.pt", tmp_path / "trace"
        torch.save({"state_dict": Evil(trace)}, path)
        with pytest.raises(InputError, match="which might be code, and is refused"):
            load_checkpoint(path, "none")
        assert not trace.exists()

    def test_a_whole_pickled_module_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(cifar(), path)
        with pytest.raises(InputError, match="might be code"):
            load_checkpoint(path, "none")

    @pytest.mark.parametrize("page", ["<!DOCTYPE html><html>", "  \n<html>Quota exceeded"])
    def test_a_web_page(self, page: str, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        path.write_text(page)
        with pytest.raises(InputError, match="is a web page, not a checkpoint"):
            load_checkpoint(path, "none")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_half_a_download(self, share: float, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(prefixed(cifar(), "1."), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"not a whole checkpoint .*download it again|might be code"):
            load_checkpoint(path, "none")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read the checkpoint .*No such file"):
            load_checkpoint(tmp_path / "none.pt", "none")

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"state_dict": {1: torch.zeros(1)}}])
    def test_no_state(self, content: Any, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(content, path)
        with pytest.raises(InputError, match="holds no state of a network"):
            load_checkpoint(path, "none")

    @pytest.mark.parametrize(
        "state",
        [
            {"weight": torch.zeros(2, 2)},
            {**prefixed(cifar(), "1."), "0.shift": torch.zeros(3)},
            {**prefixed(cifar(), ""), "layer4.0.conv1.weight": torch.zeros(1)},
            {key: value for key, value in prefixed(cifar(), "").items() if key != "layer2.0.bn1.weight"},
            {**prefixed(cifar(), ""), "conv1.weight": torch.zeros(16, 1, 3, 3)},
        ],
        ids=["no network", "more than a network", "another network", "part of one", "grey images"],
    )
    def test_no_known_architecture(self, state: State, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(state, path)
        with pytest.raises(ModelError, match=r"no known architecture|does not fit the architecture"):
            load_checkpoint(path, "none")
