"""Samples per second of ``evaluate`` on a digits model against a bare loop over the same network; prints JSON.

The bare loop runs the network on a ready-made noisy batch, nothing else, on as many threads with one image stream each
as ``evaluate`` uses. Where the rest goes is measured by adding the parts of ``evaluate`` to the loop one by one.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from rs_plugin import SmoothedClassifier, evaluate, load_base, load_dataset, parse_noise
from rs_plugin.streams import CHUNK, Stream, chunk_seed
from rs_plugin.voting import block_rows, single_threaded
from rs_plugin.voting.counter import group_slots

N0, N, IMAGES = 100, 4_000, 120
NOISES = (
    ("digits_gaussian_0.25", "gaussian(sigma=0.25)", "L2"),
    ("digits_laplace_0.25", "laplace(b=0.1768)", "L1"),
    ("digits_gaussian_0.25", "l2_exponential(k=8, sigma=0.2673)", "L2"),
    ("digits_mixednorm_0.25", "mixed_norm(k=8, sigma=0.2673)", "Linf"),
)


def bare(base: torch.nn.Module, rows: int, threads: int, blocks: int) -> float:
    """Return samples per second of the network alone."""
    batch = torch.rand(rows, 1, 8, 8)

    def loop(count: int) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(count):
                base(batch)

    return _rate(loop, threads, blocks, rows)


def with_noise(base: torch.nn.Module, noise: Any, rows: int, threads: int, blocks: int, *, network: bool) -> float:
    """Return samples per second of drawing noise as ``evaluate`` does, with or without the network behind it."""

    def loop(count: int) -> None:
        torch.set_num_threads(1)
        drawn, block = torch.empty(CHUNK * group_slots(rows, 64), 64), torch.empty(rows, 64)
        generator, left = torch.Generator(), 0
        with torch.inference_mode():
            for i in range(count):
                if left < rows:
                    seeds = [chunk_seed(0, i, Stream.ESTIMATION, j) for j in range(len(drawn) // CHUNK)]
                    noise.fill_chunks(drawn, seeds, generator)
                    left = len(drawn)
                torch.add(drawn[left - rows : left], 0.5, out=block)
                left -= rows
                if network:
                    base(block.view(rows, 1, 8, 8))

    return _rate(loop, threads, blocks, rows)


def _rate(loop: Any, threads: int, blocks: int, rows: int) -> float:
    with single_threaded(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, [3] * threads))
        start = time.perf_counter()
        list(pool.map(loop, [blocks] * threads))
        return threads * blocks * rows / (time.perf_counter() - start)


def measure() -> dict[str, Any]:
    """Return rates and ratios by noise."""
    threads = torch.get_num_threads()
    data = load_dataset("digits", None, IMAGES)
    rows = block_rows(data.dim)
    blocks = IMAGES * (N0 + N) // rows // threads
    result: dict[str, Any] = {"threads": threads, "block": rows, "noises": {}}
    for name, text, threat in NOISES:
        base, noise = load_base(name), parse_noise(text)
        model = SmoothedClassifier(base, noise, 10)
        before = bare(base, rows, threads, blocks)
        start = time.perf_counter()
        run = evaluate(model, data, threat, [0.0], n0=N0, n=N, seed=1, store=None)
        wall = time.perf_counter() - start
        counting = sum(run.records()["seconds"]) / threads
        after = bare(base, rows, threads, blocks)
        network = (before + after) / 2
        result["noises"][text] = {
            "bare_per_second": network,
            "evaluate_per_second": run.draws / counting,
            "ratio": run.draws / counting / network,
            "ratio_with_certificates": run.draws / wall / network,
            "noise_alone_ratio": with_noise(base, noise, rows, threads, blocks, network=False) / network,
            "noise_and_network_ratio": with_noise(base, noise, rows, threads, blocks, network=True) / network,
        }
    return result


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()
