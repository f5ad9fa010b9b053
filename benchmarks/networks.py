"""Samples per second of a ResNet-20 inside ``evaluate``, alone, and in the protocols of others; prints JSON.

Everything runs on one thread, in float32 unless said otherwise. Rates of one machine drift, so the network alone is
timed before and after each of the others, figures are ratios to the mean of the two, and the median of three is taken.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from rs_plugin import SmoothedClassifier, evaluate, load_base, parse_noise
from rs_plugin.datasets import Dataset
from rs_plugin.voting import block_rows

SHAPE, SIGMA = (3, 32, 32), 0.25
IMAGES, N0, N = 2, 100, 7_680
ROUNDS = 3
NOISES = (
    ("gaussian(sigma=0.25)", "L2"),
    ("laplace(b=0.1768)", "L1"),
    ("l2_exponential(k=100, sigma=0.2542)", "L2"),
    ("linf_exponential(k=100, sigma=0.0001408)", "Linf"),
    ("mixed_norm(k=100, sigma=0.2542)", "Linf"),
)
COHEN_BATCH = 400  # the default of the published command


def bare(network: nn.Module, layout: torch.memory_format, precision: torch.dtype | None = None) -> float:
    """Return samples per second of the network on a ready-made noisy batch, of the size that ``evaluate`` has."""
    batch = torch.rand(block_rows(3072), *SHAPE).contiguous(memory_format=layout)
    half = torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None)
    with torch.inference_mode(), half:
        return _rate(lambda: network(batch), len(batch), 8)


def counting(network: nn.Module, noise: str, threat: str, images: Dataset, **settings: Any) -> float:
    """Return samples per second of counting votes; certificates come after it and are timed elsewhere."""
    model = SmoothedClassifier(network, parse_noise(noise), 10, **settings)
    run = evaluate(model, images, threat, [0.0], n0=N0, n=N, store=None, workers=1)
    return run.draws / float(sum(run.records()["seconds"]))


def cohen(network: nn.Module, image: torch.Tensor, n: int) -> float:
    """Return samples per second of CERTIFY's sampling as published (J. Cohen et al., ICML 2019), written afresh.

    Batches of 400 in channels-first float32, new tensors for each, and counts kept in NumPy on the host.
    """

    def sample() -> None:
        counts, left = np.zeros(10, dtype=int), n
        with torch.no_grad():
            while left > 0:
                size = min(COHEN_BATCH, left)
                left -= size
                batch = image.repeat((size, 1, 1, 1))
                predictions = network(batch + torch.randn_like(batch) * SIGMA).argmax(1)
                for answer in predictions.cpu().numpy():
                    counts[answer] += 1

    return _rate(sample, n, 2)


def toolbox(network: nn.Module, image: torch.Tensor, n: int) -> float:
    """Return samples per second of the adversarial-robustness-toolbox's certificate."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    smoothed = PyTorchRandomizedSmoothing(
        model=network, loss=nn.CrossEntropyLoss(), input_shape=SHAPE, nb_classes=10, sample_size=N0, scale=SIGMA,
        alpha=1e-3, device_type="cpu",
    )  # fmt: skip
    array = image[None].numpy()
    return _rate(lambda: smoothed.certify(array, n=n, batch_size=block_rows(3072)), n + N0, 2)


def peak_memory(n: int) -> float:
    """Return the peak resident memory, in MiB, of a process that counts ``n`` draws of each of four images."""
    code = (
        "import resource, torch, rs_plugin as rs\n"
        "from rs_plugin.datasets import Dataset\n"
        "images = torch.rand(4, 1, 8, 8)\n"
        "data = Dataset('random', images, torch.zeros(4, dtype=torch.int64), 10, torch.arange(4))\n"
        f"rs.evaluate(rs.load_model('digits_gaussian_0.25'), data, 'L2', [0.1], n={n}, store=None, workers=1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def _rate(call: Callable[[], Any], samples: int, repeats: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return samples * repeats / (time.perf_counter() - start)


def measure() -> dict[str, Any]:
    """Return ratios, and the rate of the network alone."""
    torch.set_num_threads(1)
    network = load_base("cifar10_jpeg_gaussian_0.25")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((IMAGES, *SHAPE), generator=generator)
    data = Dataset("random", images, torch.zeros(IMAGES, dtype=torch.int64), 10, torch.arange(IMAGES))
    last, first = torch.channels_last, torch.contiguous_format
    gaussian = functools.partial(counting, network, *NOISES[0], data)
    tasks: dict[str, Callable[[], float]] = {
        **{text: functools.partial(counting, network, text, threat, data) for text, threat in NOISES},
        "network alone, channels-first": lambda: bare(network, first),
        "network alone, bfloat16": lambda: bare(network, last, torch.bfloat16),
        "CERTIFY of Cohen et al.": lambda: cohen(network, images[0], 1_600),
        "adversarial-robustness-toolbox": lambda: toolbox(network, images[0], 1_500),
        "evaluate, float32": gaussian,
        "evaluate, float32, compiled": lambda: gaussian(compiled=True),
        "evaluate, bfloat16": lambda: gaussian(precision="bfloat16"),
        "evaluate, bfloat16, compiled": lambda: gaussian(precision="bfloat16", compiled=True),
    }
    missing = "" if importlib.util.find_spec("art") else "adversarial-robustness-toolbox"
    tasks.pop(missing, None)
    rates: list[float] = [bare(network, last)]
    ratios: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            rate = task()
            rates.append(bare(network, last))
            ratios[name].append(rate / np.mean(rates[-2:]))
    noises = [text for text, _ in NOISES]
    spread = {name: [float(np.median(found)), min(found), max(found)] for name, found in ratios.items()}
    return {
        "bare_rate": float(np.median(rates)),
        "noises": {name: spread[name] for name in noises},
        "protocols": {name: found for name, found in spread.items() if name not in noises},
        "missing": missing,
        "memory": {str(n): peak_memory(n) for n in (1_000, 10_000, 100_000)},
    }


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()
