"""What a GPU makes of a network and its noise, as ratios to what the card can; prints JSON lines.

``python benchmarks/gpu.py MODEL``: MODEL is a name of the zoo, or a card. The network alone runs on ready-made noisy
batches in channels-last order; *counting* is ``evaluate``'s, from draws to votes. Bandwidths count bytes that are
written, and for the copy bytes that are read as well.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from rs_plugin import SmoothedClassifier, evaluate, load_base, load_dataset, parse_noise
from rs_plugin.datasets import Dataset
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.voting import Ask, DrawRange, VoteCounter, block_rows
from rs_plugin.voting.passes import computing_in

SHAPE, DIM = (3, 32, 32), 3072
SIGMA = 0.5
NOISES = (
    f"gaussian(sigma={SIGMA})",
    "laplace(b=0.35355)",
    "l1_exponential(k=500, b=0.4224)",
    "l2_exponential(k=500, sigma=0.5464)",
    "linf_exponential(k=100, sigma=0.0001408)",
    "mixed_norm(k=25, sigma=0.502)",
)
SECONDS = 0.5  # that each measurement takes, about


def rate(call: Callable[[], Any], amount: int, seconds: float = SECONDS) -> float:
    """Return amounts a second of a call that only launches work, once it is warm."""
    call()
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            call()
        torch.cuda.synchronize()
        count += 4
    return amount * count / (time.perf_counter() - start)


def told(**found: Any) -> None:
    """Print a line of results."""
    print(json.dumps(found), flush=True)


def bandwidths(rows: int) -> None:
    """Print the card's copy bandwidth, and what the samplers write of it."""
    source = torch.rand(1 << 28, device="cuda")
    target = torch.empty_like(source)
    copy = rate(lambda: target.copy_(source), 2 * source.nbytes)
    told(what="copy", bytes_per_second=copy)
    draws, generator = torch.empty(rows, DIM, device="cuda"), torch.Generator("cuda")
    plain = rate(lambda: draws.normal_(generator=generator), draws.nbytes)
    told(what="one call of normal_", of_copy=plain / copy, rows=rows)
    for text in NOISES:
        noise = parse_noise(text)
        written = rate(lambda: noise.fill_chunks(draws, list(range(rows // CHUNK)), generator), draws.nbytes)  # noqa: B023
        told(what="sampler", noise=text, of_copy=written / copy, rows_per_second=written / DIM / 4, rows=rows)


class Probe:
    """A network on the card, and the rates of it.

    Args:
        base: the network.
        rows: noisy images in one pass.
        precision: of the network.
        compiled: whether ``torch.compile`` is used.
    """

    def __init__(self, base: torch.nn.Module, images: torch.Tensor, rows: int, precision: str, compiled: bool) -> None:
        self.images, self.rows, self.precision = images, rows, precision
        self.settings = {"rows": rows, "precision": precision, "compiled": compiled}
        start = time.perf_counter()
        device = torch.device("cuda")
        noise = parse_noise(NOISES[0])
        self.counter = VoteCounter(base, noise, 10, SHAPE, device, rows, precision, compiled)
        self.manner = self.counter.manner(images[0])
        told(what="ready", seconds=time.perf_counter() - start, manner=self.manner, **self.settings)

    def bare(self) -> float:
        """Return passes a second of the network alone."""
        batch = torch.randn(self.rows, *SHAPE, device="cuda").contiguous(memory_format=self.manner.memory_format)
        with self.counter._mode(), computing_in(self.precision, batch.device):
            found = rate(lambda: self.counter._network(batch), self.rows)
        told(what="network alone", per_second=found, **self.settings)
        return found

    def counting(self, text: str, n: int, bare: float) -> float:
        """Return passes a second of counting the votes of images in turn."""
        self.counter._noise = parse_noise(text)
        asks = [Ask(image, i, 0, [DrawRange(Stream.ESTIMATION, 0, n)]) for i, image in enumerate(self.images)]
        self.counter.ask(asks[:1])
        start = time.perf_counter()
        self.counter.ask(asks)
        found = n * len(asks) / (time.perf_counter() - start)
        told(what="counting", noise=text, per_second=found, ratio=found / bare, n=n, **self.settings)
        return found

    def profile(self, n: int) -> None:
        """Print how busy the card is while votes are counted, and with what."""
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        ask = Ask(self.images[0], 0, 0, [DrawRange(Stream.ESTIMATION, 0, n)])
        with torch.profiler.profile(activities=activities) as profile:
            start = time.perf_counter()
            self.counter.ask([ask])
            wall = time.perf_counter() - start
        kernels = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(e.time_range.elapsed_us() for e in kernels) / 1e6
        told(what="profile", busy=busy / wall, kernels=len(kernels), seconds=wall, **self.settings)
        print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=14, max_name_column_width=60))


def whole(base: torch.nn.Module, data: Dataset, compiled: bool) -> None:
    """Print seconds an image of ``evaluate``: n = 100 000, and until one radius is decided."""
    model = SmoothedClassifier(base, parse_noise(NOISES[0]), 10, precision="bfloat16", compiled=compiled)
    for stopping, radii in (("fixed", [0.0]), ("anytime", [0.5])):
        start = time.perf_counter()
        run = evaluate(model, data, "L2", radii, stopping, n0=100, n=100_000, device="cuda", store=None)
        wall = time.perf_counter() - start
        counted = float(sum(run.records()["seconds"]))
        told(what="evaluate", stopping=stopping, radii=radii, images=len(data), seconds_an_image=counted / len(data),
             whole_call=wall, draws=run.draws, compiled=compiled)  # fmt: skip


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--dataset", default="cifar10_jpeg")
    parser.add_argument("--compiled", action="store_true", help="with torch.compile too, which takes a minute")
    parser.add_argument("--profile", action="store_true", help="print what the card does while votes are counted")
    arguments = parser.parse_args()
    told(card=torch.cuda.get_device_name(), torch=str(torch.__version__))
    base = load_base(arguments.model).cuda()
    data = load_dataset(arguments.dataset, None, 4)
    rows = block_rows(DIM, device="cuda")
    bandwidths(rows)
    for compiled in (False, True)[: 1 + arguments.compiled]:
        probe = Probe(base, data.images, rows, "bfloat16", compiled)
        bare = probe.bare()
        for text in NOISES:
            probe.counting(text, 40_000, bare)
        if arguments.profile:
            probe.profile(40_000)
        whole(base, data, compiled)


if __name__ == "__main__":
    main()
