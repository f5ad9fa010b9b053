"""Time and peak memory of every sampler against ``torch.randn`` of the same size, on one thread; prints JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import torch

from rs_plugin import parse_noise

SHAPE = (1000, 3072)
REPEATS = 15
NOISES = (
    "gaussian(sigma=0.5)",
    "laplace(b=0.35)",
    "l1_exponential(k=250, b=0.4)",
    "l2_exponential(k=250, sigma=0.52)",
    "linf_exponential(k=250, sigma=0.02)",
    "mixed_norm(k=50, sigma=0.5)",
    "mixed_norm(k=250, sigma=0.5)",
    "mixed_norm(k=2000, sigma=0.5)",
    "norm_exponential(norm=2, power=1, k=0, scale=0.01)",
    "max_tilted_exponential(power=1, k=50, scale=0.35)",
    "max_tilted_exponential(power=1.5, k=50, scale=0.35)",
)


def seconds(draw: Any) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        draw()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_bytes(draw: Any) -> int:
    """Return the most memory that torch's tensors held at once during one call, the result included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        draw()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def measure() -> dict[str, Any]:
    """Return ratios to ``torch.randn`` by noise."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def reference() -> torch.Tensor:
        return torch.randn(SHAPE, generator=generator)

    reference()
    base_bytes = peak_bytes(reference)
    rows = {}
    for text in NOISES:
        noise = parse_noise(text)

        def draw(noise: Any = noise) -> torch.Tensor:
            return noise.sample(SHAPE, generator=generator, dtype=torch.float32)

        draw()
        # The reference is timed beside every noise, so that a slow moment of the machine meets both.
        before, own, after = seconds(reference), seconds(draw), seconds(reference)
        rows[text] = {"time": own / ((before + after) / 2), "memory": peak_bytes(draw) / base_bytes}
    return {"shape": SHAPE, "randn_ms": 1e3 * seconds(reference), "ratios": rows}


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()
