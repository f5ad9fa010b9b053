"""Base networks and the lookup by architecture. Inputs are images in [0, 1]; normalisation lives inside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from rs_plugin.errors import ModelError, ParameterError
from rs_plugin.registry import Registry


class DigitsNet(nn.Module):
    """A small convolutional classifier of 8 by 8 grey images, made for millions of forward passes on a CPU.

    Two convolutions (4 by 4 with stride 2, then 3 by 3) take 1 x 8 x 8 to 64 x 2 x 2, two linear layers end it:
    53 000 parameters, 116 000 multiplications an image.

    Args:
        num_classes: number of scores.
    """

    #: Mean and standard deviation of the grey values of the training images, rounded.
    MEAN: Final = 0.3
    STD: Final = 0.375

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Linear(128, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, shape (batch, classes), of images of shape (batch, 1, 8, 8)."""
        scores: Tensor = self.classifier(self.features((x - self.MEAN) / self.STD))
        return scores


class Normalized(nn.Module):
    """A network behind its normalisation: ``network((x - mean) / std)``, channel by channel.

    Args:
        network: what answers.
        mean: one number a channel.
        std: one number a channel.
    """

    mean: Tensor
    std: Tensor
    network: Any

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's scores of normalised images."""
        scores: Tensor = self.network((x - self.mean) / self.std)
        return scores


class _Block(nn.Module):
    """Two 3 by 3 convolutions beside a shortcut, which is a 1 by 1 convolution where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            shortcut = nn.Conv2d(before, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.downsample(x))


class CifarResNet(nn.Module):
    """The residual network for 32 by 32 images of He et al. (CVPR 2016), Section 4.2, with ``6 n + 2`` layers.

    Three stages of ``n`` blocks with 16, 32 and 64 channels; shortcuts that change shape are 1 by 1 convolutions (their
    option B), and parameters have the names of published checkpoints: ``layer1.0.conv1.weight``.

    Args:
        depth: number of layers: 20, 32, 56, 110 and the like.
        num_classes: number of scores.

    Raises:
        ParameterError: the depth is not of the form ``6 n + 2``.
    """

    def __init__(self, depth: int, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ParameterError(f"depth must be 6 n + 2, as in 20, 56 or 110, not {depth!r}")
        count = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, count, 1)
        self.layer2 = self._stage(16, 32, count, 2)
        self.layer3 = self._stage(32, 64, count, 2)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, shape (batch, classes), of normalised images, shape (batch, 3, 32, 32)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores

    @staticmethod
    def _stage(before: int, width: int, count: int, stride: int) -> nn.Sequential:
        rest = [_Block(width, width, 1) for _ in range(count - 1)]
        return nn.Sequential(_Block(before, width, stride), *rest)


class _WideBlock(nn.Module):
    """Normalisation and ReLU before each of two 3 by 3 convolutions, beside a shortcut, 1 by 1 where widths differ."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if before != width else None

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        inner: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """The wide residual network for 32 by 32 images of Zagoruyko & Komodakis (BMVC 2016), without dropout.

    Three stages of ``n`` blocks with ``16 w``, ``32 w`` and ``64 w`` channels, ``6 n + 4`` layers.

    Args:
        depth: number of layers: 16, 28, 40 and the like.
        width: the widening factor ``w``, 2 or more.
        num_classes: number of scores.

    Raises:
        ParameterError: the depth is not of the form ``6 n + 4``, or the width is below 2.
    """

    def __init__(self, depth: int, width: int, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ParameterError(f"depth must be 6 n + 4, as in 16, 28 or 40, not {depth!r}")
        if width < 2:
            raise ParameterError(f"width must be 2 or more, not {width!r}")
        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = self._stage(16, 16 * width, count, 1)
        self.block2 = self._stage(16 * width, 32 * width, count, 2)
        self.block3 = self._stage(32 * width, 64 * width, count, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, shape (batch, classes), of normalised images, shape (batch, 3, 32, 32)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        scores: Tensor = self.fc(torch.relu(self.bn1(x)).mean((2, 3)))
        return scores

    @staticmethod
    def _stage(before: int, width: int, count: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            _WideBlock(before, width, stride), *(_WideBlock(width, width, 1) for _ in range(count - 1))
        )


#: Means and standard deviations of CIFAR-10's channels, as the literature rounds them.
CIFAR10_MEAN: Final = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: Final = (0.2023, 0.1994, 0.2010)


def _cifar_resnet(depth: int, num_classes: int) -> nn.Module:
    return Normalized(CifarResNet(depth, num_classes), CIFAR10_MEAN, CIFAR10_STD)


def _wide_resnet(depth: int, width: int, num_classes: int) -> nn.Module:
    return Normalized(WideResNet(depth, width, num_classes), CIFAR10_MEAN, CIFAR10_STD)


Architecture = Callable[[int], nn.Module]

#: From a name to what makes a freshly initialised network for a number of classes; other packages add theirs under
#: the entry-point group.
architectures: Registry[Architecture] = Registry("architecture", callable, "rs_plugin.architectures")
architectures.register("digits_net", DigitsNet)
for _depth in (20, 32, 56, 110):
    architectures.register(f"cifar_resnet{_depth}", functools.partial(_cifar_resnet, _depth))
architectures.register("wide_resnet40_2", functools.partial(_wide_resnet, 40, 2))


def build_network(architecture: str, num_classes: int) -> nn.Module:
    """Return a new network; its weights are drawn from torch's global generator.

    Raises:
        UnknownNameError: no architecture has that name.
        ParameterError: fewer than two classes.
        ModelError: what is registered under the name does not make networks.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ParameterError(f"num_classes must be an integer of 2 or more, not {num_classes!r}")
    network = architectures.get(architecture)(num_classes)
    if not isinstance(network, nn.Module):
        raise ModelError(f"architecture {architecture!r} made {network!r}, which is not a torch.nn.Module")
    return network
