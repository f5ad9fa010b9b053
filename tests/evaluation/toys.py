"""Networks and data sets of a few lines, with probabilities under noise that are known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from rs_plugin.datasets import Dataset
from rs_plugin.distributions import Gaussian
from rs_plugin.evaluation import Run
from rs_plugin.smoothing import SmoothedClassifier

SHAPE = (1, 2, 2)


class Rows(nn.Module):
    """Scores by elementwise products and sums along a row alone: no row can depend on its block."""

    pure_forward = True

    def __init__(self, classes: int = 3, dim: int = 4, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(classes, dim, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)
        self.shift = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) - self.shift).unsqueeze(1) * self.weight).sum(-1)


class HalfSpace(nn.Module):
    """Class 1 where the mean pixel of four is above 1/2; under Gaussian noise its probability is known."""

    pure_forward = True

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).sum(1) / 2.0 - 1.0
        return torch.stack([-score, score], dim=1)


def half_space_probability(images: Tensor, sigma: float) -> np.ndarray:
    """Return the probability of class 1: the score is linear with a gradient of length 1."""
    return stats.norm.cdf((images.double().flatten(1).sum(1).numpy() / 2.0 - 1.0) / sigma)


def images_of(probabilities: np.ndarray, sigma: float) -> Tensor:
    """Return constant images whose class 1 has these probabilities."""
    values = (1.0 + sigma * stats.norm.ppf(probabilities)) / 2.0
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, *SHAPE).contiguous()


def toy_data(count: int = 6, classes: int = 3, seed: int = 0, name: str = "toy") -> Dataset:
    """Return random images and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((count, *SHAPE), generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    return Dataset(name, images, labels, classes, torch.arange(count))


def labelled(images: Tensor, labels: list[int], classes: int = 2, name: str = "made") -> Dataset:
    """Return a data set of given images."""
    return Dataset(name, images, torch.tensor(labels), classes, torch.arange(len(images)))


def toy_model(sigma: float = 0.25, classes: int = 3, seed: int = 0) -> SmoothedClassifier:
    """Return a smoothed classifier of rows that do not depend on one another."""
    return SmoothedClassifier(Rows(classes, seed=seed), Gaussian(sigma), classes)


def half_space_model(sigma: float = 0.25) -> SmoothedClassifier:
    """Return the smoothed half-space."""
    return SmoothedClassifier(HalfSpace(), Gaussian(sigma), 2)


def votes_of(run: Run) -> list[tuple[Any, ...]]:
    """Return all of a run's votes that must not depend on who counted them."""
    return [(r.index, r.label, r.base, r.selection.tolist(), r.counts.tolist()) for r in run.votes]
