"""A small model for images of CIFAR's shape, in the zoo for the length of a test."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from rs_plugin.datasets import Dataset
from rs_plugin.networks import architectures
from rs_plugin.zoo import list_models, save_model, weights_bytes
from rs_plugin.zoo.models import models


class Patches(nn.Module):
    """Four mean colours of an image, and a linear layer on them."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.linear = nn.Linear(12, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.linear(self.pool(x).flatten(1))
        return scores


def network() -> nn.Module:
    base = Patches()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        base.linear.weight.normal_(generator=generator).mul_(8)
        base.linear.bias.zero_()
    return base


def colours(count: int) -> Dataset:
    """Images of CIFAR's shape, labelled as the network above labels them, most of them."""
    generator = torch.Generator().manual_seed(6)
    corners = torch.rand((count, 3, 2, 2), generator=generator)
    images = torch.nn.functional.interpolate(corners, 32, mode="nearest")
    with torch.no_grad():
        labels = network()(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    return Dataset("cifar10", images, labels.clone(), 10, torch.arange(count))


@pytest.fixture
def zoo_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of that model, for cifar10, in the registry of models."""
    monkeypatch.setattr(architectures, "_targets", {**architectures._targets, "patches": Patches})
    base = network()
    card = dataclasses.replace(
        list_models()[0],
        name="Patches-2026",
        architecture="patches",
        num_classes=10,
        dataset="cifar10",
        noise="gaussian(sigma=0.25)",
        sha256=hashlib.sha256(weights_bytes(base)).hexdigest(),
    )
    path = save_model(base, card, tmp_path / "zoo")
    monkeypatch.setattr(models, "_targets", {**models._targets, card.name: path})
    return card.name
