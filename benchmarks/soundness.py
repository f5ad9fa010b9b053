"""What exact noise on a grid costs, against noise in floats, on one thread; prints JSON."""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

import rs_plugin as rs
from rs_plugin.datasets import Dataset
from rs_plugin.distributions.grid import GridNoise
from rs_plugin.networks import build_network

ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def ratio(plain: Callable[[], object], other: Callable[[], object]) -> list[float]:
    """Return the median, least and largest of the second's time over the first's, each between two of the first."""
    plain(), other()
    found = []
    for _ in range(ROUNDS):
        before, there, after = seconds(plain), seconds(other), seconds(plain)
        found.append(2.0 * there / (before + after))
    return [statistics.median(found), min(found), max(found)]


def images(count: int, shape: tuple[int, ...]) -> Dataset:
    """Return made-up images of 8 bits."""
    steps = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(0)).float()
    return Dataset("made up", steps / 255, torch.zeros(count, dtype=torch.int64), 10, torch.arange(count))


def counting(base: torch.nn.Module, noise: rs.SmoothingDistribution, data: Dataset, n: int) -> list[float]:
    """Return the time of a sound evaluation over that of a plain one."""

    def run(sound: bool) -> Callable[[], object]:
        model = rs.SmoothedClassifier(base, noise, 10, sound=sound)
        return lambda: rs.evaluate(model, data, "L2", [0.1], n=n, store=None, workers=1)

    return ratio(run(False), run(True))


def report() -> dict[str, Any]:
    """Return the ratios."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    out, generator = torch.empty(256, 3072), torch.Generator().manual_seed(0)
    draws = {}
    for noise in (rs.Gaussian(0.25), rs.Laplace(0.25)):
        grid = GridNoise(noise)
        draws[str(noise)] = ratio(
            lambda noise=noise: [noise.fill(out, generator) for _ in range(20)],  # type: ignore[misc]
            lambda grid=grid: [grid.fill(out, generator) for _ in range(20)],  # type: ignore[misc]
        )
    torch.manual_seed(0)
    resnet = build_network("cifar_resnet20", 10)
    small = rs.load_base("digits_gaussian_0.25")
    gaussian = rs.Gaussian(0.25)
    return {
        "draws": draws,
        "counting": {
            "ResNet-20, 3 x 32 x 32": counting(resnet, gaussian, images(4, (3, 32, 32)), 2000),
            "the digits' network, 1 x 8 x 8": counting(small, gaussian, images(60, (1, 8, 8)), 4000),
        },
    }


if __name__ == "__main__":
    print(json.dumps(report(), indent=1))
