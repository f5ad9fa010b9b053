"""Run every benchmark and write ``benchmarks/RESULTS.md``: ``python benchmarks/results.py``, a quarter of an hour.

``--only cluster plans`` measures these sections alone and leaves the others as they are.

With ``RS_DATA`` the first time takes a quarter of an hour more, for votes that are kept in ``benchmarks/.cache``.

Nothing else should run on the machine meanwhile. Figures are ratios within one run where there is something to compare
with, and processor seconds on one core otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import scipy
import torch

HERE = Path(__file__).parent

THROUGHPUT_TEXT = """\
`python benchmarks/throughput.py`: samples a second of `evaluate` (n0 = 100, n = 4 000, 120 digits) over those of a
bare loop of the same network on a ready-made batch of the same size, on one thread. *noise alone* and *noise and
network* are the rates of the parts, over the same bare loop. What *noise and network* lacks of 1 is the noise; what
*counting* lacks beyond that is copying, checking and counting the answers. *whole call* includes the certificates of
all images, which for `mixed_norm` are quadratures, one for each number of votes that occurs."""

SAMPLING_TEXT = """\
`python benchmarks/sampling.py`: time and peak memory of a (1000, 3072) float32 block over those of `torch.randn`, on
one thread."""

CERTIFICATES_TEXT = """\
`python benchmarks/certificates.py`: processor seconds on one core for the required probabilities of 300 radii."""

ERRORS_TEXT = """\
Excess of required probabilities over reference values (`tests/oracles`): a certificate must never be below the truth.
References carry an error of their own, 1e-9 to 1e-8, up to 1e-7 for `mixed_norm` in five dimensions. The largest excess
of `mixed_norm` is in three dimensions at k = 2.2; from five dimensions on it is below 4e-7."""

COMPARISON_TEXT = """\
`rs-plugin evaluate` without arguments, in an empty folder with an empty cache, on all cores: seconds from start to end,
import included."""


NETWORKS_TEXT = """\
`python benchmarks/networks.py`: ResNet-20 on images of CIFAR's size, on one thread, as ratios to the samples a second
of the network alone: float32, a ready-made batch of 256 noisy images in channels-last order. Medians, least and most of
three rounds, the network alone timed before and after each. Of 61 passes two are shown a second time, to test that the
network answers for each image by itself; in long runs that is one pass in 64."""

PROTOCOLS_TEXT = """\
The same for the protocols of others, written afresh (Cohen et al.) or as installed (the toolbox), and for `evaluate`;
the last column is the ratio to Cohen et al.'s protocol."""

MEMORY_TEXT = """\
Peak memory of a process that counts n draws of each of four digits: it does not grow with n."""

SIMULATED_TEXT = """\
`python benchmarks/draws.py`: draws of anytime stopping, n0 = 100 included, against n0 + n = 100 100 for every image, at
alpha = 0.001. *Simulated* for all 10 000 images of the certification logs of Cohen et al. (CIFAR-10, ResNet-110): the
probability of each class is what its logged radius says. *betting* is the sequence of Voracek (NeurIPS 2024),
re-derived: wealth of a gambler who bets Krichevsky and Trofimov's estimate, looked at after every draw at first and
then every hundredth part, at level alpha (his code compares with 1 / (2 alpha)). Certified accuracy in percent: at
n = 100 000, anytime, betting. *Wald* is the median ratio of draws, after the class was chosen, to the least that any
test can expect, log(1/alpha) / KL(p || p\\*), over images above all thresholds and away from them: where that limit is
n / 10 at most. Draws come in chunks of 64, so *long* is for images where it is five chunks or more."""

MODELS_TEXT = """\
`python benchmarks/models.py`: certified accuracy of the CIFAR models of the zoo on every 20th test image (500), in
percent, with 95 % intervals over images; anytime, n = 100 000, alpha = 0.001, bfloat16, compiled. For comparison, the
ResNet-110 of Cohen et al. at sigma 0.25 reaches 60 at L2 0.25 and 43 at 0.5, on the original images."""

CLUSTER_TEXT = """\
`python benchmarks/cluster.py`: draws a second of `evaluate` with workers of Ray on this machine, over those of one
thread, from the first image on (ResNet-20, CIFAR's size, 24 images, n = 2 000). Starting Ray takes some seconds more.
*a worker*: the ratio over the number of workers; two workers and the caller share two cores. *simulated*: what the
simulation below says."""

CLUSTER_LARGE_TEXT = """\
Simulated, not measured: the caller as one thread with these costs, workers of 3 000 draws a second, ImageNet's images,
n = 100 000, images sent through a card of 10 Gbit/s. *workers count*: the share of the workers' time that is not spent
waiting."""

PLANS_TEXT = """\
`python benchmarks/plans.py`: anytime runs on the 360 digits, n = 50 000, two models and twelve seeds each, over what
their plans expected; *width* is the upper end of a plan's range over its lower end, *worst* the worst case over the
truth."""

SOUNDNESS_TEXT = """\
`python benchmarks/soundness.py`: time of `sound=True` over that without it, on one thread: draws of a (256, 3072)
block, and whole evaluations."""

NOTES = """\
## What was tried

* Batch normalisation folded into convolutions by hand: nothing in float32, 1.5 times in bfloat16. `torch.compile` with
  weights as constants includes it and is faster; without constants it brings 1.3 times in float32, 1.1 in bfloat16.
* Weights in channels-last order beside the images: no difference beyond the machine's drift in float32.
* Looks after every tenth of the way to a decision, for every quarter: 2 % fewer draws, a third more looks. Looks at
  totals that grow by a quarter, whatever the votes: 5 % more draws. Giving up by a confidence sequence at alpha: twice
  the draws.
* Radius 0 decided to the end beside other radii: two to four times the draws, spent on predictions that are close.

What is left above the network alone is the noise itself (*noise alone* below, for small images), one pass over each
block that adds image and noise in the network's layout, and, where n is small, places of a chunk of 64 draws that no
draw is in."""

GPU_TEXT = """\
`python benchmarks/gpu.py MODEL`: a ResNet-110 for CIFAR-10 in bfloat16. Rows are noisy images, 3072 values. *draws*:
the samplers alone. *network alone*: ready-made batches in channels-last order. *counting*: from draws to votes.
*evaluate*: four images, n = 100 000, and anytime to decide one radius. The published logs of Cohen et al. (2019) show
14.1 to 15.0 s for an image of a ResNet-110 at n = 100 000, on their card."""

REAL_TEXT = """\
The same rule with a network: `cifar10_jpeg_gaussian_0.25` in bfloat16, compiled, on every 250th test image (40),
certified accuracy in percent at n = 100 000 and anytime."""


def main() -> int:
    """Run the benchmarks one after the other and write the results."""
    parser = argparse.ArgumentParser(description="Measure, and write benchmarks/RESULTS.md.")
    parser.add_argument("--only", nargs="+", choices=MEASURED, metavar="SECTION", help=", ".join(MEASURED))
    chosen = parser.parse_args().only
    path = HERE / "RESULTS.md"
    head, *sections = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n## ")
    if not chosen:
        head = "\n\n".join(["# Measured", "Written by `python benchmarks/results.py`.", _machine()])
    for name in chosen or (name for name in MEASURED if name != "gpu" or torch.cuda.is_available()):
        section = MEASURED[name]().removeprefix("## ")
        title = section.split("\n", 1)[0]
        place = next((i for i, old in enumerate(sections) if old.split("\n", 1)[0] == title), len(sections))
        sections[place : place + 1] = [section]
    text = "\n\n## ".join([head, *sections]) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text)
    return 0


def _run(script: str) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(
        subprocess.run(
            [sys.executable, str(HERE / script)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    )


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"Machine: {processor}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, NumPy {numpy.__version__}, SciPy {scipy.__version__}. Load average at the start: "
        f"{os.getloadavg()[0]:.1f}."
    )


def _comparison() -> str:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RS_PLUGIN_CACHE": str(Path(folder) / "cache")}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "rs_plugin", "evaluate"], cwd=folder, env=environment, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    return _section("The default comparison", COMPARISON_TEXT, f"{seconds:.0f} s.")


def _throughput() -> str:
    rows = [
        [f"`{name}`", *(f"{row[key]:.2f}" for key in ("ratio", "noise_and_network_ratio", "noise_alone_ratio")),
         f"{row['ratio_with_certificates']:.2f}"]
        for name, row in _run("throughput.py")["noises"].items()
    ]  # fmt: skip
    header = ["noise", "counting", "noise and network", "noise alone", "whole call"]
    return _section("Counting votes", THROUGHPUT_TEXT, _table(header, rows))


def _networks() -> str:
    result = _run("networks.py")
    noises = [[f"`{name}`", *(f"{ratio:.2f}" for ratio in row)] for name, row in result["noises"].items()]
    protocols = result["protocols"]
    cohen = protocols["CERTIFY of Cohen et al."][0]
    rows = [[name, *(f"{ratio:.2f}" for ratio in (*row, row[0] / cohen))] for name, row in protocols.items()]
    missing = [f"Not installed, so not timed: {result['missing']}."] if result["missing"] else []
    memory = [[n, f"{size / result['memory']['1000']:.2f}"] for n, size in result["memory"].items()]
    return _section(
        "A network", NETWORKS_TEXT, _table(["noise", "counting", "least", "most"], noises), PROTOCOLS_TEXT, *missing,
        _table(["what", "ratio", "least", "most", "to Cohen et al."], rows), MEMORY_TEXT,
        _table(["n", "peak memory, ratio"], memory),
    )  # fmt: skip


def _draws() -> str:
    result = _run("draws.py")
    if "skipped" in result:
        return _section("Draws", f"Not measured: {result['skipped']}.")

    def percent(*shares: list[float]) -> str:
        return "; ".join(", ".join(f"{share:.1f}" for share in each) for each in zip(*shares, strict=True))

    header = ["sigma", "radii", "fewer draws", "betting", "accuracy", "median n", "Wald", "long"]
    simulated = [
        [row["sigma"], ", ".join(map(str, row["radii"])), f"{row['factor']:.0f}x", f"{row['betting_factor']:.0f}x",
         percent(row["fixed"], row["anytime"], row["betting"]), f"{row['median']:.0f}", f"{row['wald_ratio']:.2f}",
         f"{row['wald_ratio_long']:.2f}"]
        for row in result["simulated"]
    ]  # fmt: skip
    real = [
        [", ".join(map(str, row["radii"])), f"{row['factor']:.0f}x", percent(row["fixed"], row["anytime"]),
         f"{row['wald_ratio']:.2f}"]
        for row in result["real"]["rows"]
    ]  # fmt: skip
    measured = _table(["radii", "fewer draws", "accuracy", "Wald"], real)
    return _section("Draws", SIMULATED_TEXT, _table(header, simulated), REAL_TEXT, measured)


def _models() -> str:
    result = _run("models.py")
    if "skipped" in result:
        return _section("Models", f"Not measured: {result['skipped']}.")
    rows = [
        [f"`{name}`", row["threat"], f"{radius:.4g}", f"{found:.1f}", f"{low:.1f} to {high:.1f}", f"{row['draws']:.0f}"]
        for name, row in result.items()
        for radius, found, low, high in zip(
            row["radii"], row["certified_accuracy"], row["certified_low"], row["certified_high"], strict=True
        )
    ]
    header = ["model", "norm", "radius", "certified", "interval", "draws an image"]
    return _section("Models", MODELS_TEXT, _table(header, rows))


def _sampling() -> str:
    ratios = _run("sampling.py")["ratios"]
    rows = [[f"`{name}`", f"{row['time']:.2f}", f"{row['memory']:.2f}"] for name, row in ratios.items()]
    return _section("Sampling", SAMPLING_TEXT, _table(["noise", "time", "memory"], rows))


def _certificates() -> str:
    result = _run("certificates.py")
    timings = [[f"`{name}`", f"{row['cpu_seconds']:.1f}"] for name, row in result["timings"].items()]
    errors = [
        [f"`{name}`", str(row["values"]), f"{row['least']:.1e}", f"{row['largest']:.1e}"]
        for name, row in result["errors"].items()
    ]
    return _section(
        "Certificates", CERTIFICATES_TEXT, _table(["certificate", "seconds"], timings), ERRORS_TEXT,
        _table(["certificate", "values", "least excess", "largest excess"], errors),
    )  # fmt: skip


def _cluster() -> str:
    result = _run("cluster.py")
    measured = [
        [workers, f"{row['ratio']:.2f}", f"{row['of_the_workers']:.2f}", f"{result['checks'][workers]['ratio']:.2f}"]
        for workers, row in result["efficiency"].items()
    ]
    cost = result["costs"]
    large = [
        [name, f"{row['workers_count']:.0%}", f"{row['caller_busy']:.0%}"] for name, row in result["large"].items()
    ]
    costs = (
        f"The caller's processor time: {1e3 * cost['unit']:.2f} ms a unit, {1e6 * cost['slot']:.1f} µs for 64 draws, "
        f"{1e3 * cost['image']:.2f} ms an image; `ray.wait` takes {1e3 * cost['wait_2']:.2f} ms over 2 units and "
        f"{1e3 * cost['wait_2000']:.1f} ms over 2 000."
    )
    return _section(
        "A cluster", CLUSTER_TEXT, _table(["workers", "to one thread", "a worker", "simulated"], measured), costs,
        CLUSTER_LARGE_TEXT, _table(["cluster", "workers count", "caller is busy"], large),
    )  # fmt: skip


def _plans() -> str:
    result = _run("plans.py")
    rows = [[name, *(f"{value:.2f}" for value in result[name])] for name in ("passes", "seconds", "width", "worst")]
    within = f"{result['within']} of {result['plans']} runs took as many passes as their plan's range says."
    return _section("Plans", PLANS_TEXT, within, _table(["what", "least", "median", "most"], rows))


def _soundness() -> str:
    result = _run("soundness.py")
    rows = [
        [f"{what}: `{name}`" if what == "draws" else f"{what}: {name}", *(f"{value:.2f}" for value in row)]
        for what in ("draws", "counting") for name, row in result[what].items()
    ]  # fmt: skip
    return _section("Sound counting", SOUNDNESS_TEXT, _table(["what", "ratio", "least", "most"], rows))


def _gpu() -> str:
    command = [sys.executable, str(HERE / "gpu.py"), "cifar10_jpeg_resnet110_gaussian_0.5", "--compiled"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return gpu_section([json.loads(line) for line in printed.splitlines() if line.startswith("{")])


def gpu_section(found: list[dict[str, Any]]) -> str:
    """Return the section of what ``gpu.py`` printed."""
    of = {what: [line for line in found if line.get("what") == what] for what in {line.get("what") for line in found}}
    kind = {False: "as it is", True: "compiled"}
    card, copy = found[0], of["copy"][0]["bytes_per_second"]
    about = f"{card['card']}, torch {card['torch']}; its copies move {copy / 1e12:.2f} TB/s, reading and writing."
    plain = of["one call of normal_"][0]
    samplers = [["one call of `normal_`", f"{plain['of_copy']:.3f}", f"{plain['of_copy'] * copy / 12288 / 1e6:.2f}"]]
    samplers += [
        [f"`{line['noise']}`", f"{line['of_copy']:.4f}", f"{line['rows_per_second'] / 1e6:.2f}"]
        for line in of["sampler"]
    ]
    network = [
        [str(line["rows"]), kind[line["compiled"]], f"{line['per_second'] / 1e3:.1f}"]
        for line in of["network alone"]
    ]
    counting = [
        [f"`{line['noise']}`", str(line["rows"]), kind[line["compiled"]],
         f"{line['per_second'] / 1e3:.1f}", f"{line['ratio']:.2f}"]
        for line in of["counting"]
    ]  # fmt: skip
    whole = [
        [line["stopping"], kind[line["compiled"]], f"{line['draws'] / line['images']:,.0f}",
         f"{line['seconds_an_image']:.2f}"]
        for line in of["evaluate"]
    ]  # fmt: skip
    return _section(
        "On a GPU", GPU_TEXT, about,
        _table(["draws", "of the copy bandwidth", "million rows a second"], samplers),
        _table(["rows in a pass", "network", "thousand rows a second"], network),
        _table(["counting", "rows in a pass", "network", "thousand draws a second", "of the network alone"], counting),
        _table(["evaluate", "network", "draws an image", "seconds an image"], whole),
    )  # fmt: skip


def _section(title: str, *parts: str) -> str:
    return "\n\n".join((f"## {title}", *parts))


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


#: The sections in their order, by name.
MEASURED: dict[str, Callable[[], str]] = {
    "comparison": _comparison, "networks": _networks, "draws": _draws, "models": _models, "notes": lambda: NOTES,
    "throughput": _throughput, "sampling": _sampling, "certificates": _certificates, "cluster": _cluster,
    "plans": _plans, "soundness": _soundness, "gpu": _gpu,
}  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
