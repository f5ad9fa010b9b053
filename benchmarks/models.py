"""Certified accuracy of the CIFAR models of the zoo on every 20th test image; prints JSON. Needs ``RS_DATA``.

Anytime, n0 = 100, n = 100 000, alpha = 0.001, each model under the noise of its training, in bfloat16, compiled. Votes
are kept beside this file, so that an interrupted run goes on. Names on the command line restrict it to those models.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from rs_plugin import evaluate
from rs_plugin.threats import Threat
from rs_plugin.zoo import ModelCard, list_models
from rs_plugin.zoo.smoothed import smoothed

STORE = Path(__file__).parent / ".cache" / "models.sqlite"

#: Threat model and radii by the family of a model's noise.
QUESTIONS: dict[str, tuple[Threat, tuple[float, ...]]] = {
    "gaussian": ("L2", (0.25, 0.5)),
    "laplace": ("L1", (0.25, 0.5)),
    "mixed_norm": ("Linf", (2 / 255, 4 / 255)),
}


def certified(card: ModelCard) -> dict[str, Any]:
    """Return a model's certified accuracies in percent, with their 95 % intervals, and what they cost."""
    threat, radii = QUESTIONS[card.noise.split("(")[0]]
    model = smoothed(card.name, precision="bfloat16", compiled=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # radii that a small noise cannot certify are reported as 0
        run = evaluate(
            model, "cifar10_jpeg", threat, radii, "anytime", 100, 100_000, subset="every_20th", store=STORE,
            workers=os.cpu_count(),
        )  # fmt: skip
    table = run.table().set_index("radius").loc[list(radii)]
    shares = {name: (100.0 * table[name]).round(2).tolist() for name in ("certified_accuracy", "certified_low")}
    high = (100.0 * table["certified_high"]).round(2).tolist()
    return {"threat": threat, "radii": radii, **shares, "certified_high": high, "draws": run.draws / len(run.outcomes)}


def measure(names: list[str]) -> dict[str, Any]:
    """Return a row for each model, or why there is none."""
    if "RS_DATA" not in os.environ:
        return {"skipped": "RS_DATA is not set: the folder of CIFAR-10 (JPEG) images"}
    STORE.parent.mkdir(exist_ok=True)
    cards = [card for card in list_models() if card.dataset == "cifar10_jpeg" and (not names or card.name in names)]
    return {card.name: certified(card) for card in cards}


if __name__ == "__main__":
    json.dump(measure(sys.argv[1:]), sys.stdout, indent=1)
    print()
