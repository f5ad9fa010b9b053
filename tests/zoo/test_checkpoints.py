"""Checkpoints of the published structures, written here; and files that are none."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ModelError, UnknownNameError
from rs_plugin.networks import CIFAR10_MEAN, CIFAR10_STD, CifarResNet, Normalized, WideResNet
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
    "Cohen, CIFAR": lambda net: {"epoch": 90, "arch": "cifar_resnet8", "state_dict": prefixed(net, "1.")},
    "Cohen, parallel": lambda net: {"epoch": 90, "arch": "cifar_resnet8", "state_dict": prefixed(net, "1.module.")},
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
    before = torch.get_rng_state()
    loaded = load_checkpoint(path, "mean_std")
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.training
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), Normalized(network, CIFAR10_MEAN, CIFAR10_STD)(images))


@pytest.mark.parametrize("depth", [20, 110])
def test_the_depth_is_that_of_the_file(depth: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"arch": f"cifar_resnet{depth}", "state_dict": prefixed(CifarResNet(depth, 100), "1.")}, path)
    network = load_checkpoint(path, "none").network
    assert isinstance(network, CifarResNet) and len(network.layer2) == (depth - 2) // 6
    assert network.fc.out_features == 100


@pytest.mark.parametrize("arch", ["cifar_resnet110", "resnet50_v1_caffe", "vgg16"])
def test_another_architecture_than_the_file_says(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"arch": arch, "state_dict": prefixed(cifar(8), "1.")}, path)
    with pytest.raises(ModelError, match=f"says that it holds {arch!r}, but .* those of 'cifar_resnet8'"):
        load_checkpoint(path, "none")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_imagenet_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = getattr(models, name)(num_classes=1000).eval(), tmp_path / "net.pth.tar"
    torch.save({"arch": name, "state_dict": prefixed(network, "1.module.")}, path)
    loaded = load_checkpoint(path, "mean")
    assert type(loaded.network) is type(network)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        torch.testing.assert_close(loaded(image), expected)


class OriginalWideBlock(nn.Module):
    """The block of Zagoruyko & Komodakis under the names of Yang et al.'s files, written with torch's modules alone."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if before != width:
            self.convShortcut = nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pre = self.bn1(x).clamp_min(0)
        out: Tensor = self.conv2(self.bn2(self.conv1(pre)).clamp_min(0))
        return out + (self.convShortcut(pre) if hasattr(self, "convShortcut") else x)


class OriginalWide(nn.Module):
    """The network of Yang et al.'s files for CIFAR."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        count, channels = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for stage in (1, 2, 3):
            block = nn.Module()
            block.layer = nn.Sequential(
                OriginalWideBlock(channels[stage - 1], channels[stage], 1 if stage == 1 else 2),
                *(OriginalWideBlock(channels[stage], channels[stage], 1) for _ in range(count - 1)),
            )
            setattr(self, f"block{stage}", block)
        self.bn1, self.fc = nn.BatchNorm2d(channels[3]), nn.Linear(channels[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block.layer(x)
        scores: Tensor = self.fc(nn.functional.avg_pool2d(self.bn1(x).clamp_min(0), 8).flatten(1))
        return scores


class TestYang:
    """Their files: a wide residual network, or torchvision's, and the normalisation beside it."""

    def state(self, network: nn.Module, mean: Any = CIFAR10_MEAN, std: Any = CIFAR10_STD) -> State:
        norm = {
            "norm.module.mu": torch.tensor(mean).view(3, 1, 1),
            "norm.module.log_sig": torch.tensor(std).log().view(3, 1, 1),
        }
        return {**norm, **prefixed(network, "model.module.")}

    @pytest.mark.parametrize(("depth", "width"), [(10, 2), (16, 4), (40, 2)])
    def test_wide_networks_answer_as_the_original(self, depth: int, width: int, tmp_path: Path) -> None:
        torch.manual_seed(1)
        network, path = OriginalWide(depth, width), tmp_path / "cifar_gaussian_025.pt"
        network(torch.randn(32, 3, 32, 32))  # some statistics of batches
        torch.save(self.state(network.eval()), path)
        loaded = load_checkpoint(path)
        assert isinstance(loaded.network, WideResNet)
        assert len(loaded.network.block2) == (depth - 4) // 6
        images = torch.rand(4, 3, 32, 32)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), network((images - mean) / std), rtol=1e-4, atol=1e-5)

    def test_the_normalisation_is_the_file_s(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(self.state(cifar(), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), path)
        loaded = load_checkpoint(path)
        assert loaded.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert loaded.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
        with pytest.raises(InputError, match="says itself how its images are normalised, and not by 'mean_std'"):
            load_checkpoint(path, "mean_std")
        torch.save(self.state(cifar()), path)
        assert load_checkpoint(path, "mean_std").std.flatten().tolist() == pytest.approx(CIFAR10_STD)

    def test_a_normalisation_that_cannot_be(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        for state in (
            {**self.state(cifar()), "norm.module.mu": torch.zeros(1)},
            {**self.state(cifar()), "norm.module.log_sig": torch.tensor([0.0, -100.0, 0.0])},
            {**self.state(cifar()), "norm.module.mu": torch.tensor([0.0, float("nan"), 0.0])},
            {**self.state(cifar()), "norm.module.log_sig": torch.tensor([0.0, float("nan"), 0.0])},
        ):
            torch.save(state, path)
            with pytest.raises(InputError, match="which is not for RGB images"):
                load_checkpoint(path)


class TestManifest:
    def test_names_the_normalisation_by_the_sum(self, tmp_path: Path) -> None:
        path, other = tmp_path / "net.pt", tmp_path / "other.pt"
        torch.save(prefixed(cifar(), "1."), path)
        torch.save(prefixed(cifar(14), "1."), other)
        entry = {
            "name": "mine",
            "address": "https://example.org/net.pt",
            "filename": "net.pt",
            "source": "me",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "normalisation": "mean",
        }
        manifest = tmp_path / "mine.json"
        manifest.write_text(json.dumps({"format": "rs_plugin.zoo.published", "version": 1, "files": [entry]}))
        assert load_checkpoint(path, manifest=manifest).std.flatten().tolist() == [1.0, 1.0, 1.0]
        with pytest.raises(InputError, match="is 'mine' of the manifest, which normalises by 'mean', not by 'none'"):
            load_checkpoint(path, "none", manifest=manifest)
        with pytest.raises(InputError, match="does not say how"):
            load_checkpoint(other, manifest=manifest)


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

    @pytest.mark.parametrize("modern", [True, False], ids=["zip", "before torch 1.6"])
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
    def test_half_a_download(self, share: float, modern: bool, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(prefixed(cifar(), "1."), path, _use_new_zipfile_serialization=modern)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        # Half of an old file is a pickle cut off, which torch reports as it does what it will not unpickle.
        with pytest.raises(InputError, match=r"not a whole checkpoint .*download it again|which might be code"):
            load_checkpoint(path, "none")

    @pytest.mark.parametrize("modern", [True, False], ids=["zip", "before torch 1.6"])
    def test_damaged_bytes_end_in_one_of_our_errors(self, modern: bool, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save({"arch": "cifar_resnet8", "state_dict": prefixed(cifar(), "1.")}, path,
                   _use_new_zipfile_serialization=modern)  # fmt: skip
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(0, len(whole) if modern else 20_000, 8):
                content[place] = rng.integers(0, 256)
            path.write_bytes(content)
            with contextlib.suppress(InputError, ModelError):
                load_checkpoint(path, "none")

    def test_files_of_before_torch_1_6(self, tmp_path: Path) -> None:
        network, path = cifar(), tmp_path / "net.pt"
        torch.save({"state_dict": prefixed(network, "1.")}, path, _use_new_zipfile_serialization=False)
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(load_checkpoint(path, "none")(images), network(images))

    def test_the_normalisation_of_cifar_10_is_not_that_of_other_data(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pt"
        torch.save(prefixed(CifarResNet(8, 100), "1."), path)
        with pytest.raises(InputError, match=r"has 100 classes, and 'mean_std' is that of CIFAR-10; load it"):
            load_checkpoint(path, "mean_std")
        assert load_checkpoint(path, "none").network.fc.out_features == 100

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read the checkpoint .*No such file .*; give its path"):
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
