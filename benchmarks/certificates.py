"""Measure certificates on one core: seconds for a curve of radii, and errors against recorded values.

Run ``OMP_NUM_THREADS=1 python benchmarks/certificates.py [reference.json]``; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import rs_plugin as rs
from rs_plugin.errors import UnsupportedThreatError

RADII = 300
DIMS = (3072, 150528)
REFERENCE = Path(__file__).parents[1] / "tests" / "oracles" / "reference.json"


def timed(noise: Any, threat: str, dim: int) -> dict[str, float]:
    """Return processor and wall seconds for the required probabilities of radii from 0 to what 0.999 certifies."""
    certificate = rs.certificate(noise, threat, dim)
    # In Linf a radius protects about √d times less per unit; both ranges end near p* = 0.999 for Gaussian noise.
    largest = 3.0 * noise.sigma / (dim**0.5 if threat == "Linf" else 1.0)
    radii = np.linspace(0.0, largest, RADII + 1)[1:]
    wall, cpu = time.perf_counter(), time.process_time()
    certificate.required_probability(radii)
    return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


def errors(path: Path) -> dict[str, dict[str, float]]:
    """Return by family the least and the largest excess of required probabilities over the recorded ones."""
    groups = defaultdict(list)
    for row in json.loads(path.read_text(encoding="utf-8"))["p_star"]:
        groups[row["noise"], row["threat"], row["dim"]].append(row)
    found: dict[str, list[float]] = defaultdict(list)
    for (text, threat, dim), rows in groups.items():
        for spelt, number in (("norm=L1", "norm=1"), ("norm=L2", "norm=2"), ("norm=Linf", "norm=inf")):
            text = text.replace(spelt, number)
        try:
            certificate = rs.certificate(rs.parse_noise(text), threat, dim)
        except UnsupportedThreatError:
            continue
        value = certificate.required_probability([row["radius"] for row in rows])
        found[f"{text.split('(')[0]} {threat}"] += list(value - [row["p_star"] for row in rows])
    return {name: {"least": min(v), "largest": max(v), "values": len(v)} for name, v in sorted(found.items())}


def main(path: Path = REFERENCE) -> dict[str, Any]:
    """Return everything that is measured."""
    rs.certificate(rs.L2Exponential(2, 1.0), "L2", 10).required_probability([0.5])  # imports and first tables
    timings = {
        f"{noise.name} {threat} d={dim}": timed(noise, threat, dim)
        for noise, threat in ((rs.L2Exponential(250, 1.0), "L2"), (rs.MixedNorm(250, 1.0), "Linf"))
        for dim in DIMS
    }
    return {"radii": RADII, "timings": timings, "errors": errors(path)}


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:2])), indent=1))
