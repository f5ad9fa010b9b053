"""Which noises are worth many draws: a few draws of each, on test images that no table uses.

``python -m paper_figures.screen`` counts those that are missing from ``paper_figures/data/screen.csv.gz``, with
``RS_DATA`` at hand, in about half an hour on two cores for all, and writes that file after each. The images are numbers
10, 50, 90, … of CIFAR-10's test images; those of the tables are 0, 20, 40, …
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

import rs_plugin as rs
from paper_figures.scales import of_scale, rms
from paper_figures.votes import write_packed
from rs_plugin.datasets import Dataset
from rs_plugin.distributions import SmoothingDistribution
from rs_plugin.zoo import load_card
from rs_plugin.zoo.models import card_path

DIM: Final = 3072
N0, N = 40, 200
STORE: Final = Path(__file__).parent / ".cache" / "screen.sqlite"
TABLE: Final = Path(__file__).parent / "data" / "screen.csv.gz"

#: Multiples of the root mean square per coordinate that a model was trained with.
FACTORS: Final = (1.0, 0.84, 1.19, 0.71, 1.41)


class Tried(NamedTuple):
    """A family, its exponents ``k`` (0 is the baseline), and the models that it is tried with."""

    family: str
    exponents: tuple[int, ...]
    models: tuple[str, ...]


TRIED: Final = (
    Tried(
        "l2_exponential",
        (0, 500, 1500),
        ("gaussian_0.25", "gaussian_0.25_adv", "gaussian_0.5", "gaussian_0.12", "gaussian_1", "mixednorm_0.25"),
    ),
    Tried(
        "mixed_norm",
        (25, 100, 250),
        ("gaussian_0.25", "gaussian_0.25_adv", "mixednorm_0.25", "gaussian_0.12", "gaussian_0.5"),
    ),
    Tried("l1_exponential", (0, 500, 1500), ("laplace_0.25", "laplace_0.5", "gaussian_0.5", "gaussian_1")),
)


class Pair(NamedTuple):
    """A model, by its name in the zoo, under a noise of one scale."""

    model: str
    family: str
    k: int
    factor: float
    noise: SmoothingDistribution


def pairs() -> Iterator[Pair]:
    """Yield what is tried: every exponent at the trained scales, then ``k = 0`` at other scales."""
    for factor in FACTORS:
        for family, exponents, models in TRIED:
            for name in models:
                model = f"cifar10_jpeg_{name}"
                trained = rms(rs.parse_noise(load_card(card_path(model)).noise), DIM)
                for k in exponents:
                    if factor == 1.0 or k == 0:
                        noise = of_scale(family, k, round(factor * trained, 4), DIM)
                        yield Pair(model, family, k, factor, noise)


def held_out() -> Dataset:
    """Return test images 10, 50, 90, …"""
    tenth: Dataset = rs.load_dataset("cifar10_jpeg", "every_10th")
    return tenth.take(slice(1, None, 4))


def count(pair: Pair, data: Dataset) -> pd.DataFrame:
    """Return a row per image: its number and label, and the class chosen on ``N0`` draws of its own.

    Of ``N`` other draws, votes fell into that class and label_votes into the label's.
    """
    model = rs.SmoothedClassifier(rs.load_base(pair.model), pair.noise, data.num_classes, precision="bfloat16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.UncertifiableRadiusWarning)
        run = rs.evaluate(model, data, "Linf", [0.0], n0=N0, n=N, store=STORE)  # votes serve every threat model
    rows: list[dict[str, Any]] = [
        {
            "index": image.index,
            "label": image.label,
            "selected": int(image.selection.argmax()),
            "votes": int(image.counts[image.selection.argmax()]),
            "label_votes": int(image.counts[image.label]),
        }
        for image in run.votes
    ]
    frame = pd.DataFrame(rows)
    for name, value in (("noise", str(pair.noise)), ("factor", pair.factor), ("k", pair.k), ("family", pair.family)):
        frame.insert(0, name, value)
    frame.insert(0, "model", pair.model)
    return frame


def load() -> pd.DataFrame:
    """Return the committed table: model, family, k, factor, noise, index, label, selected, votes, label_votes.

    Raises:
        InputError: there is none.
    """
    if not TABLE.exists():
        raise rs.InputError(f"there is no screening at {str(TABLE)!r}; `python -m paper_figures.screen` makes it")
    return pd.read_csv(TABLE)


def main() -> None:
    """Count what is missing, and write the table after each pair."""
    STORE.parent.mkdir(exist_ok=True)
    frames = [group for _, group in load().groupby(["model", "noise"], sort=False)] if TABLE.exists() else []
    known = {(frame["model"].iloc[0], frame["noise"].iloc[0]) for frame in frames}
    data = held_out()
    for number, pair in enumerate(pairs()):
        if (pair.model, str(pair.noise)) in known:
            continue
        frames.append(count(pair, data))
        right = (frames[-1]["selected"] == frames[-1]["label"]).mean()
        print(f"{number} {pair.model} {pair.noise}: {100 * right:.1f} % right", file=sys.stderr, flush=True)
        write_packed(TABLE, pd.concat(frames))


if __name__ == "__main__":
    main()
