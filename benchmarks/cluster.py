"""What a Ray cluster gives, and where it ends: ``python benchmarks/cluster.py`` prints JSON, in some minutes.

*Measured*: draws a second of ``evaluate`` with one and with two workers on this machine, over those of one thread, from
the first image on; the processor time that the caller takes for a unit of work and for an image, with workers that
answer at once; and how long ``ray.wait`` takes over many units.

*Simulated*: the caller is one thread that hands out units, takes answers and stores images, with the costs that were
measured; workers have two units at a time and take as long as their draws do; an image's values go to the worker with
each unit, through one network card. The simulation is compared with the measurement at one and two workers, and then
run for 1 000 workers that count 3 000 draws a second each (about what one GPU does with a ResNet-50 on ImageNet),
50 000 images and 100 000 draws, with units of one second and of longer.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import time
import warnings
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import rs_plugin as rs
from rs_plugin.datasets import Dataset
from rs_plugin.evaluation.executors import on_ray, units
from rs_plugin.networks import build_network
from rs_plugin.streams import CHUNK
from rs_plugin.voting import Answer, group_slots

SHAPE, N, IMAGES = (3, 32, 32), 2000, 24


class Instant(on_ray.Worker):
    """Answers at once, whatever it is asked."""

    def count(self, tasks: Any) -> list[Answer]:
        """Return votes for class 0."""
        answers = []
        for _, _, _, ranges, clean in tasks:
            counts = [np.array([part.stop - part.start] + [0] * 9) for part in ranges]
            answers.append(Answer(counts, 0 if clean else None, 1e-6))
        return answers


def data(images: int, shape: tuple[int, ...] = SHAPE) -> Dataset:
    """Return made-up images."""
    values = torch.rand((images, *shape), generator=torch.Generator().manual_seed(0))
    return Dataset("made up", values, torch.zeros(images, dtype=torch.int64), 10, torch.arange(images))


def model() -> rs.SmoothedClassifier:
    """Return a ResNet-20 with weights as they are made."""
    torch.manual_seed(0)
    return rs.SmoothedClassifier(build_network("cifar_resnet20", 10), rs.Gaussian(0.25), 10)


def timed(images: int, n: int, **how: Any) -> dict[str, float]:
    """Return wall and processor seconds of a run from its first image on."""
    begun: list[float] = []

    def progress(done: int, total: int) -> None:
        if not begun:
            begun.extend((time.perf_counter(), time.process_time()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rs.evaluate(model(), data(images), "L2", [0.1], n=n, store=None, progress=progress, **how)
    return {"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1]}


def efficiency(ray: Any) -> dict[str, Any]:
    """Return the rates of workers over that of one thread, each between two runs of that."""
    draws = IMAGES * N
    rates = {}
    for workers in (1, 2):
        before = timed(IMAGES, N, workers=1)["wall"]
        there = timed(IMAGES, N, workers=workers, executor="ray")["wall"]
        after = timed(IMAGES, N, workers=1)["wall"]
        alone = (before + after) / 2.0
        rates[str(workers)] = {
            "draws_a_second": draws / there, "one_thread": draws / alone, "ratio": alone / there,
            "of_the_workers": alone / there / workers,
        }  # fmt: skip
    return rates


def costs(ray: Any) -> dict[str, float]:
    """Return the caller's processor seconds for a unit, a slot of it and an image, and those of ``ray.wait``."""
    plain, seconds = on_ray.Worker, units._SECONDS
    group = group_slots(256, 3072)
    rows = []
    try:
        on_ray.Worker = Instant  # type: ignore[misc]
        for images, n, size in ((40, 20_000, 0.0), (40, 20_000, 1.0), (2000, 200, 1.0)):
            units._SECONDS = size  # type: ignore[misc]
            used = timed(images, n, workers=2, executor="ray")["cpu"]
            slots = images * (-(-n // CHUNK) + 2)
            # Units are of one group, or grow to their largest.
            sent = slots / group if size == 0.0 else max(2.0, slots / (group * units._MOST) + 8)
            rows.append([sent, slots, images, used])
    finally:
        on_ray.Worker, units._SECONDS = plain, seconds  # type: ignore[misc]
    table = np.array(rows)
    unit, slot, image = np.linalg.solve(table[:, :3], table[:, 3])
    return {"unit": float(unit), "slot": float(slot), "image": float(image), **waiting(ray)}


def waiting(ray: Any) -> dict[str, float]:
    """Return how long ``ray.wait`` takes over 2 and over 2 000 calls that are not answered."""

    class Sleeper:
        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    found = {}
    for many in (2, 2000):
        actor = ray.remote(Sleeper).remote()
        refs = [actor.sleep.remote(600.0) for _ in range(many)]
        time.sleep(1.0)
        begun = time.perf_counter()
        for _ in range(20):
            ray.wait(refs, num_returns=1, timeout=0)
        found[f"wait_{many}"] = (time.perf_counter() - begun) / 20
        ray.kill(actor)
    return found


@dataclass(frozen=True)
class Cluster:
    """What is simulated.

    Attributes:
        workers: how many.
        rate: draws a second of each.
        images: to be counted.
        draws: of each.
        unit_seconds: how long a unit takes.
        unit: the caller's seconds for a unit.
        slot: for a slot of 64 draws.
        image: for an image.
        wait: for a look at all units that are out.
        bytes: of an image, which go with each unit.
        bandwidth: of the caller's network card, bytes a second.
        latency: from the caller to a worker.
    """

    workers: int
    rate: float
    images: int
    draws: int
    unit_seconds: float
    unit: float
    slot: float
    image: float
    wait: float
    bytes: int
    bandwidth: float = 1.25e9
    latency: float = 1e-3


def simulated(cluster: Cluster) -> dict[str, float]:
    """Return the seconds of a run, how busy the caller is, and the share of the workers' time that counts.

    A unit is draws of one image. The caller hands out what it can, waits for an answer, takes all that are there, and
    so on, as ``on_ray._Round`` does.
    """
    size = max(CHUNK, int(cluster.unit_seconds * cluster.rate) // CHUNK * CHUNK)
    pieces = -(-cluster.draws // size)
    left = deque((image, min(size, cluster.draws - size * k)) for image in range(cluster.images) for k in range(pieces))
    open_ = [pieces] * cluster.images
    free = deque([*range(cluster.workers)] * 2)
    busy_until = [0.0] * cluster.workers
    events: list[tuple[float, int, int]] = []  # when an answer is there, whose, of which image
    now = busy = card = counted = 0.0
    while left or events:
        while free and left:
            worker, (image, draws) = free.popleft(), left.popleft()
            cost = cluster.unit / 2.0 + cluster.slot * draws / CHUNK
            now, busy = now + cost, busy + cost
            card = max(card, now) + cluster.bytes / cluster.bandwidth
            start = max(busy_until[worker], card + cluster.latency)
            busy_until[worker] = start + draws / cluster.rate
            counted += draws / cluster.rate
            heapq.heappush(events, (busy_until[worker] + cluster.latency, worker, image))
        now = max(now, events[0][0]) + 2.0 * cluster.wait
        busy += 2.0 * cluster.wait
        while events and events[0][0] <= now:
            _, worker, image = heapq.heappop(events)
            free.append(worker)
            open_[image] -= 1
            cost = cluster.unit / 2.0 + (cluster.image if not open_[image] else 0.0)
            now, busy = now + cost, busy + cost
    return {"seconds": now, "caller_busy": busy / now, "workers_count": counted / (now * cluster.workers)}


def report() -> dict[str, Any]:
    """Return all figures."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        torch.set_num_threads(1)
        measured, cost = efficiency(ray), costs(ray)
    finally:
        ray.shutdown()
    per = {name: max(cost[name], 0.0) for name in ("unit", "slot", "image")}
    rate = float(np.mean([measured[w]["one_thread"] for w in measured]))
    here = Cluster(1, rate, IMAGES, N + 100, 1.0, **per, wait=cost["wait_2"], bytes=12_288)
    checks = {w: simulated(replace(here, workers=int(w))) for w in measured}
    for w, found in checks.items():
        found["ratio"] = IMAGES * N / rate / found["seconds"]
        found["measured_ratio"] = measured[w]["ratio"]
    large = Cluster(1000, 3000.0, 50_000, 100_000, 1.0, **per, wait=cost["wait_2000"], bytes=602_112)
    sizes = {
        f"{workers} workers, units of {seconds:g} s": simulated(
            replace(large, workers=workers, unit_seconds=seconds, images=min(50_000, 20 * workers))
        )
        # What the executor does: a second up to 250 workers, then longer in proportion; and a second for all.
        for workers, seconds in ((100, 1.0), (1000, 1.0), (1000, 4.0), (4000, 1.0), (4000, 16.0), (16_000, 64.0))
    }
    return {"efficiency": measured, "costs": cost, "checks": checks, "large": sizes}


if __name__ == "__main__":
    print(json.dumps(report(), indent=1))
    sys.exit(0)
