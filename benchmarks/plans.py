"""Plans against the runs that they are of, on the digits; prints JSON."""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

import numpy as np

import rs_plugin as rs
from rs_plugin.streams import CHUNK

MODELS = ("digits_gaussian_0.25", "digits_gaussian_0.5")
HOW: dict[str, Any] = {"radii": [0.2, 0.4], "stopping": "anytime", "n": 50_000, "store": None}
SEEDS = 12


def report() -> dict[str, Any]:
    """Return how often runs lay within their plans, and the plans' errors, for passes and for seconds."""
    rows = []
    warnings.simplefilter("ignore")
    for name in MODELS:
        base = rs.load_base(name)
        sigma = float(name.rsplit("_", 1)[1])
        for seed in range(SEEDS):
            model = rs.SmoothedClassifier(base, rs.Gaussian(sigma), 10)
            plan = rs.plan(model, seed=seed, seconds=2.0, **HOW)
            begun = time.perf_counter()
            run = rs.evaluate(model, seed=seed, **HOW)
            seconds = time.perf_counter() - begun
            passes = sum(CHUNK * (2 + -(-int(row.counts.sum()) // CHUNK)) for row in run.votes)
            rows.append(
                {
                    "passes": passes / plan.passes.mean, "seconds": seconds / plan.seconds.mean,
                    "within": plan.passes.least <= passes <= plan.passes.most,
                    "width": plan.passes.most / plan.passes.least, "worst": plan.passes.worst / passes,
                }
            )  # fmt: skip
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    within = columns.pop("within")
    spread = {name: [float(x) for x in np.quantile(values, [0.0, 0.5, 1.0])] for name, values in columns.items()}
    return {"plans": len(rows), "within": int(within.sum()), **spread}


if __name__ == "__main__":
    print(json.dumps(report(), indent=1))
