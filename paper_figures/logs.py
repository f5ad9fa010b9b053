"""[Z]'s baselines in Tables 2 and 3, recomputed from certification logs that are published.

``python -m paper_figures.logs``, with ``RS_DATA`` at hand, writes ``paper_figures/data/published_logs.csv``: the logs
themselves stay where they are. They were published with Salman et al. (NeurIPS 2019), github.com/Hadisalman/
smoothing-adversarial, MIT licence: Cohen, Rosenfeld & Kolter's four models of CIFAR-10 and three of ImageNet, and
fourteen of Salman et al.; Gaussian noise, n0 = 100, n = 100 000, alpha = 0.001. For Laplace noise none are published.

A log says what n = 100 000 draws of each image certify. Our own votes stop early, at 25 000 draws or, for the model
that decides Table 3's first radii, at 50 000 (``profiles``). So what the same models would certify with those limits is
simulated too: votes are drawn with the probabilities that the log's radii stand for, ``RUNS`` times over, and the mean
is shown; one run strays from it by 0.1 to 0.3 points. Where all of 100 000 votes agree, half a vote is taken not to:
were all such images certain, 4/255 in Table 3 would lose one point less.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from paper_figures.accuracy import BEST, CHOSEN, Held, Menu, cell
from paper_figures.printed import CIFAR10, IMAGENET, of
from rs_plugin.estimation import StoppingRule, exceeds
from rs_plugin.estimation.simulation import simulate_stopping
from rs_plugin.evaluation.asked import prediction_limit
from rs_plugin.evaluation.logs import read_log
from rs_plugin.streams import CHUNK

N, ALPHA = 100_000, 1e-3
LIMIT: Final = 25_000  # of the simulated draws, as of ours
MORE: Final = {(3, 0.25): 50_000}  # the same by table and σ, where ours go on for longer
RUNS: Final = 10
DIM: Final = 3072  # of CIFAR-10, for Linf by way of L2
TABLE: Final = Path(__file__).parent / "data" / "published_logs.csv"
LOGGED, ANYTIME = "n = 100 000", "stopped early"


class Logs(NamedTuple):
    """Logs of one folder, for one table; ``step`` takes every so manieth of their images."""

    table: int
    dataset: str
    folder: str
    step: int


LOGS: Final = (
    Logs(2, CIFAR10, "cohen2019_cifar10_resnet110", 20),
    Logs(2, IMAGENET, "cohen2019_imagenet_resnet50", 1),
    Logs(3, CIFAR10, "salman2019_cifar10_resnet110", 20),
)


def compute(root: Path | str) -> pd.DataFrame:
    """Return the baselines from the logs under ``root``, one row per table, data set, stopping, protocol and radius.

    Returns:
        Columns table, dataset, radius (input units, the table's threat model), stopping, protocol, certified, low, high
        (percent, means over runs), images, chosen (files, most often).
    """
    rows: list[dict[str, Any]] = []
    for logs in LOGS:
        printed = of(logs.table, logs.dataset)
        radii = np.array(printed.radii)
        size = np.sqrt(DIM) if printed.threat == "Linf" else 1.0
        for stopping, menus in _menus(logs, Path(root) / logs.folder, radii * size).items():
            for protocol in (BEST, CHOSEN):
                for place, radius in enumerate(printed.radii):
                    rows.append(
                        {
                            "table": logs.table, "dataset": logs.dataset, "radius": radius, "stopping": stopping,
                            "protocol": protocol, **_mean_cell([menu.by(protocol) for menu in menus], place),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def load() -> pd.DataFrame:
    """Return the committed table."""
    return pd.read_csv(TABLE, comment="#")


def beside_print(protocol: str) -> pd.DataFrame:
    """Return what [Z] prints beside what the logs give, one row per table, data set and radius.

    Args:
        protocol: how the best log is chosen at each radius.

    Returns:
        Columns table, dataset, shown (the radius), baseline and family (as printed), logged and anytime (certified).
    """
    known = load()
    frames = []
    for logs in LOGS:
        part = known[(known["table"] == logs.table) & (known["dataset"] == logs.dataset)]
        printed = of(logs.table, logs.dataset)
        frame: dict[str, Any] = {
            "table": logs.table, "dataset": logs.dataset, "shown": printed.shown, "baseline": printed.baseline,
            "family": printed.family,
        }  # fmt: skip
        for name, stopping in (("logged", LOGGED), ("anytime", ANYTIME)):
            rows = part[(part["stopping"] == stopping) & (part["protocol"] == protocol)].sort_values("radius")
            frame[name] = rows["certified"].to_numpy()
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _menus(logs: Logs, folder: Path, radii: np.ndarray[Any, Any]) -> dict[str, list[Menu]]:
    """Return what the models of a folder certify at L2 radii: as logged, once, and in every run that stops early."""
    paths = sorted(folder.glob("*.tsv"))
    logged, anytime = [], []
    for number, path in enumerate(paths):
        sigma = float(path.stem.rsplit("_", 1)[1])
        log = read_log(path, sigma, N, ALPHA).iloc[:: logs.step]
        right = log["right"].to_numpy()[:, None]
        logged.append(right & (log["radius"].to_numpy()[:, None] >= radii))
        p = (log["votes"].to_numpy() + 0.5) / (N + 1.0)  # where all votes agree, the next one still may not
        limit = MORE.get((logs.table, sigma), LIMIT)
        generator = np.random.default_rng(number)
        anytime.append([right & _shown(p, radii / sigma, limit, generator) for _ in range(RUNS)])
    names, reach = tuple(path.stem for path in paths), np.ones((len(paths), len(radii)), np.bool_)
    runs = [Menu(names, np.stack(run), reach) for run in zip(*anytime, strict=True)]
    return {LOGGED: [Menu(names, np.stack(logged), reach)], ANYTIME: runs}


def _mean_cell(runs: list[tuple[Held, list[str]]], place: int) -> dict[str, Any]:
    """Return the mean over runs of certified, low and high at one radius, and what is chosen most often."""
    cells = pd.DataFrame([{**cell(held[:, place]), "chosen": names[place]} for held, names in runs])
    means = {column: float(cells[column].mean()) for column in ("certified", "low", "high")}
    return {**means, "images": int(cells["images"].iloc[0]), "chosen": str(cells["chosen"].mode()[0])}


def _shown(
    p: np.ndarray[Any, Any], ratios: np.ndarray[Any, Any], limit: int, generator: np.random.Generator
) -> Held:  # fmt: skip
    """Return what one simulated anytime run shows, shape (images, radii); ``ratios`` are radii in units of ``σ``."""
    required = special.ndtr(ratios)
    rule = StoppingRule([0.5, *required], [prediction_limit(limit), *[limit] * len(required)], ALPHA, CHUNK)
    s, n = simulate_stopping(p, rule.next_look, generator)
    return np.asarray(exceeds(s[:, None], n[:, None], required, ALPHA))


def main() -> None:
    """Write the table."""
    if "RS_DATA" not in os.environ:
        raise SystemExit("RS_DATA is not set: the folder that holds certification_logs/")
    frame = compute(Path(os.environ["RS_DATA"]) / "certification_logs")
    TABLE.parent.mkdir(exist_ok=True)
    source = "the logs of github.com/Hadisalman/smoothing-adversarial (Salman et al., NeurIPS 2019), MIT licence"
    head = f"# Written by `python -m paper_figures.logs` from {source}\n"
    TABLE.write_text(head + frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


if __name__ == "__main__":
    main()
