"""Run every benchmark and write ``benchmarks/RESULTS.md``: ``python benchmarks/results.py``, about five minutes.

Nothing else should run on the machine meanwhile. Figures are ratios within one run where there is something to compare
with, and processor seconds on one core otherwise.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
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


def main() -> int:
    """Run the benchmarks one after the other and write the results."""
    sections = [_machine(), _comparison(), _throughput(), _sampling(), _certificates()]
    text = "# Measured\n\nWritten by `python benchmarks/results.py`.\n\n" + "\n\n".join(sections) + "\n"
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
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
    return f"## The default comparison\n\n{COMPARISON_TEXT}\n\n{seconds:.0f} s."


def _throughput() -> str:
    rows = [
        [f"`{name}`", *(f"{row[key]:.2f}" for key in ("ratio", "noise_and_network_ratio", "noise_alone_ratio")),
         f"{row['ratio_with_certificates']:.2f}"]
        for name, row in _run("throughput.py")["noises"].items()
    ]  # fmt: skip
    header = ["noise", "counting", "noise and network", "noise alone", "whole call"]
    return f"## Counting votes\n\n{THROUGHPUT_TEXT}\n\n{_table(header, rows)}"


def _sampling() -> str:
    ratios = _run("sampling.py")["ratios"]
    rows = [[f"`{name}`", f"{row['time']:.2f}", f"{row['memory']:.2f}"] for name, row in ratios.items()]
    return f"## Sampling\n\n{SAMPLING_TEXT}\n\n{_table(['noise', 'time', 'memory'], rows)}"


def _certificates() -> str:
    result = _run("certificates.py")
    timings = [[f"`{name}`", f"{row['cpu_seconds']:.1f}"] for name, row in result["timings"].items()]
    errors = [
        [f"`{name}`", str(row["values"]), f"{row['least']:.1e}", f"{row['largest']:.1e}"]
        for name, row in result["errors"].items()
    ]
    return (
        f"## Certificates\n\n{CERTIFICATES_TEXT}\n\n{_table(['certificate', 'seconds'], timings)}\n\n"
        f"{ERRORS_TEXT}\n\n{_table(['certificate', 'values', 'least excess', 'largest excess'], errors)}"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
