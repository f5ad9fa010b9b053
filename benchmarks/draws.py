"""How many draws anytime stopping takes; prints JSON. Needs ``RS_DATA``, for published logs and CIFAR-10 images.

Simulated: for each of the 10 000 images of Cohen et al.'s logs (CIFAR-10, ResNet-110, n = 100 000) the probability of
its class is what the logged radius says, votes are drawn with it, and ``StoppingRule`` decides. The classes that the
log abstains on get probability 1/2. Real: 40 images, a model of the zoo, against the same model at n = 100 000;
``--simulated`` leaves that out.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats

from rs_plugin import SmoothedClassifier, evaluate, load_base, parse_noise
from rs_plugin.estimation import StoppingRule, exceeds, wald_limit
from rs_plugin.estimation.simulation import NextLook, simulate_stopping
from rs_plugin.evaluation.asked import prediction_limit
from rs_plugin.evaluation.logs import read_log
from rs_plugin.streams import CHUNK

N0, N, ALPHA = 100, 100_000, 1e-3
SIGMAS, RADII = ("0.25", "0.50"), ((0.25,), (0.5,), (0.25, 0.5))
AWAY = N / 10  # an image is away from a threshold if no test could need more draws than this
STORE = Path(__file__).parent / ".cache" / "draws.sqlite"

Array = np.ndarray[Any, Any]


def logged(sigma: str) -> tuple[Array, Array, Array]:
    """Return whether the log's prediction is right, its radius, and the probability that its radius stands for."""
    folder = Path(os.environ["RS_DATA"]) / "certification_logs" / "cohen2019_cifar10_resnet110"
    log = read_log(folder / f"sigma_{sigma}.tsv", float(sigma), N, ALPHA)
    return log["right"].to_numpy(), log["radius"].to_numpy(), log["votes"].to_numpy() / N


def betting(thresholds: Array) -> NextLook:
    """Return the rule of a gambler's wealth, looked at after every draw at first and then every hundredth part.

    The gambler bets Krichevsky and Trofimov's estimate (s + 1/2) / (n + 1) at every draw; his wealth against ``p*`` is
    ``B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) / (p*^s (1 - p*)^(n - s))``, and decides at 1/alpha in either direction.
    That is the betting sequence of V. Voracek (NeurIPS 2024), but for his level: his code compares with 1/(2 alpha).
    """

    def next_look(s: Array, n: Array) -> Array:
        undecided = (_log_wealth(s[:, None], n[:, None], thresholds) < -np.log(ALPHA)).any(1) & (n < N)
        return np.where(undecided, np.minimum(n + np.maximum(1, n // 100), N), n)

    return next_look


def shown_by_betting(s: Array, n: Array, threshold: float) -> Array:
    """Return whether the wealth shows p above the threshold."""
    return np.asarray((_log_wealth(s, n, threshold) >= -np.log(ALPHA)) & (s > threshold * n))


def _log_wealth(s: Array, n: Array, threshold: Array | float) -> Array:
    wealth = special.betaln(s + 0.5, n - s + 0.5) - special.betaln(0.5, 0.5)
    return np.asarray(wealth - special.xlogy(s, threshold) - special.xlog1py(n - s, -threshold))


def simulation() -> list[dict[str, Any]]:
    """Return a row for each noise and list of radii."""
    rng, rows = np.random.default_rng(0), []
    for sigma in SIGMAS:
        right, radius, p = logged(sigma)
        for radii in RADII:
            needed = stats.norm.cdf(np.array(radii) / float(sigma))
            rule = StoppingRule([0.5, *needed], [prediction_limit(N), *[N] * len(radii)], ALPHA, CHUNK)
            s, n = simulate_stopping(p, rule.next_look, rng)
            other_s, other_n = simulate_stopping(p, betting(needed), rng)
            wald = np.max([wald_limit(p, q, ALPHA) for q in needed], axis=0)
            away = (wald <= AWAY) & (p > needed.max())
            rows.append({
                "sigma": sigma,
                "radii": radii,
                "fixed": [100.0 * float((right & (radius >= r)).mean()) for r in radii],
                "anytime": [100.0 * float((right & exceeds(s, n, q, ALPHA)).mean()) for q in needed],
                "betting": [100.0 * float((right & shown_by_betting(other_s, other_n, q)).mean()) for q in needed],
                "factor": (N0 + N) / (N0 + n.mean()),
                "betting_factor": (N0 + N) / (N0 + other_n.mean()),
                "median": float(np.median(n)),
                "at_cap": 100.0 * float((n == N).mean()),
                "wald_ratio": float(np.median(n[away] / wald[away])),
                "wald_ratio_long": float(np.median((n / wald)[away & (wald >= 5 * CHUNK)])),
                "wald_images": int(away.sum()),
            })  # fmt: skip
    return rows


def real() -> dict[str, Any]:
    """Return what the same rule does on 40 images with a network."""
    STORE.parent.mkdir(exist_ok=True)
    noise = parse_noise("gaussian(sigma=0.25)")
    base = load_base("cifar10_jpeg_gaussian_0.25")
    model = SmoothedClassifier(base, noise, 10, precision="bfloat16", compiled=True)

    def run(radii: tuple[float, ...], stopping: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = {"dataset": "cifar10_jpeg", "subset": "every_250th", "store": STORE, "workers": os.cpu_count()}
            return evaluate(model, threat_model="L2", radii=radii, stopping=stopping, n0=N0, n=N, alpha=ALPHA, **images)

    fixed = run((0.25, 0.5), "fixed")
    rows = []
    for radii in RADII:
        anytime = run(radii, "anytime")
        needed = stats.norm.cdf(np.array(radii) / 0.25)
        n = np.array([outcome.n for outcome in anytime.outcomes])
        chosen = [outcome.votes.argmax() for outcome in anytime.outcomes]
        p = np.array([outcome.votes[c] / N for outcome, c in zip(fixed.outcomes, chosen, strict=True)])
        wald = np.max([wald_limit(p, q, ALPHA) for q in needed], axis=0)
        away = (wald <= AWAY) & (p > needed.max())
        accuracy = {
            name: [100.0 * float(np.mean([o.status.value == "certified" and o.radius >= r for o in each.outcomes]))
                   for r in radii]
            for name, each in (("fixed", fixed), ("anytime", anytime))
        }  # fmt: skip
        rows.append({"radii": radii, **accuracy, "factor": fixed.draws / anytime.draws,
                     "wald_ratio": float(np.median(n[away] / wald[away])), "wald_images": int(away.sum())})  # fmt: skip
    return {"images": len(fixed.outcomes), "rows": rows}


def measure() -> dict[str, Any]:
    """Return both, or why not."""
    if "RS_DATA" not in os.environ:
        return {"skipped": "RS_DATA is not set: the folder of certification logs and CIFAR-10 (JPEG) images"}
    return {"simulated": simulation(), "real": real()}


if __name__ == "__main__":
    json.dump(simulation() if sys.argv[1:] == ["--simulated"] else measure(), sys.stdout, indent=1)
    print()
