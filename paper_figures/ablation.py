"""Where a difference between the family and its baseline comes from, one cause at a time.

* ``exponent``: ``k > 0`` at a fixed root mean square per coordinate: what it does to the probability of the label, and
  to the probability that a radius requires.
* ``scale``: the baseline's noise at several scales, ``k = 0``.
* ``certificate``: the Monte-Carlo dual against the exact certificate, on the same votes.
* ``selection``: best on the test images against chosen on other images.

The first two are of the screened images, which no table uses: 200 draws each, enough for means over 250 images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import optimize, special

import rs_plugin as rs
from paper_figures import printed, screen
from paper_figures.accuracy import BEST, CHOSEN, INTERVAL
from paper_figures.profiles import DIMS, FAMILIES, Profile, profile
from paper_figures.tables import FAMILY, FAMILY_DUAL, menu
from paper_figures.votes import load

DIM: Final = DIMS[printed.CIFAR10]
THREATS: Final = {family: printed.of(table, printed.CIFAR10).threat for table, family in FAMILIES.items()}
REQUIRED: Final = 0.9  # what the baseline asks for at the radius at which p* is compared
_Z: Final = float(special.ndtri((1.0 + INTERVAL) / 2.0))


def exponent(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compare ``k > 0`` with ``k = 0`` on the same model and images at the same root mean square per coordinate.

    Args:
        frame: of the screening; the committed one if None.

    Returns:
        One row per family, model, factor and ``k``: probability (mean over images of the share of draws that fall into
        the label's class, percent, ``k = 0``), change, low, high (percentage points that ``k`` adds, with a 95 %
        interval over images), required (percent: ``p*`` under the family at the
        radius at which the baseline requires 90 %), images.
    """
    frame = screen.load() if frame is None else frame
    plain = {_key(name, baseline): group for name, baseline, group in _groups(frame[frame["k"] == 0])}
    rows = []
    for name, noise, group in _groups(frame[frame["k"] > 0]):
        family, model, factor, k = name
        baseline = "laplace" if family == "l1_exponential" else "gaussian"
        known = plain[baseline, model, factor]
        rows.append(
            {
                "family": family, "model": model, "factor": factor, "k": k,
                "probability": 100.0 * _shares(known).mean(), **_paired_mean(_shares(group) - _shares(known)),
                "required": 100.0 * required_at_same_radius(noise, known["noise"].iloc[0], THREATS[family]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _groups(frame: pd.DataFrame) -> Iterator[tuple[tuple[Any, ...], str, pd.DataFrame]]:
    """Yield family, model, factor and exponent, the noise, and the rows of each pair that was screened."""
    for name, group in frame.groupby(["family", "model", "factor", "k"], sort=False):
        yield tuple(name), str(group["noise"].iloc[0]), group


def _key(name: tuple[Any, ...], noise: str) -> tuple[str, str, float]:
    """Return the name of a plain noise, the model and the factor."""
    return noise.split("(")[0], name[1], name[2]


def _shares(group: pd.DataFrame) -> pd.Series[float]:
    """Return the share of draws that fell into the label's class, by the images' numbers."""
    return group.set_index("index")["label_votes"] / screen.N


def scale(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what the baseline's noise does to a model at each scale, ``k = 0``.

    Args:
        frame: of the screening; the committed one if None.

    Returns:
        One row per threat model, model and factor: noise, probability (as of ``exponent``), change, low, high (points
        against factor 1), and for every radius of the family's table, by its printed name, the percent of images whose
        share of label votes exceeds ``p*``: a guess from few draws, to choose by, no certificate.
    """
    frame = screen.load() if frame is None else frame
    plain = frame[frame["k"] == 0]
    rows = []
    for (family, model), group in plain.groupby(["family", "model"], sort=False):
        parts = {f: part.set_index("index")["label_votes"] / screen.N for f, part in group.groupby("factor")}
        threat = THREATS[str(family)]
        table = next(table for table, name in FAMILIES.items() if name == family)
        part = printed.of(table, printed.CIFAR10)
        for factor, shares in parts.items():
            noise = str(group.loc[group["factor"] == factor, "noise"].iloc[0])
            certificate = rs.certificate(rs.parse_noise(noise), threat, DIM)
            over = shares.to_numpy()[:, None] > certificate.required_probability(np.array(part.radii))
            rows.append(
                {
                    "threat": threat, "model": model, "factor": factor, "noise": noise,
                    "probability": 100.0 * shares.mean(), **_paired_mean(shares - parts[1.0]),
                    **dict(zip(part.shown, 100.0 * over.mean(axis=0), strict=True)),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def certificate(table: int, chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compare the two certificates of the family on the same votes, candidate by candidate.

    Returns:
        One row per data set, candidate and radius (``shown``): exact and dual, certified accuracies in percent, and
        gain, exact less dual in percentage points.
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    rows = []
    for part in chosen.parts(table):
        options = [menu(row, part, chosen, votes) for row in (FAMILY, FAMILY_DUAL)]
        exact, dual = (option.held.mean(axis=1) * 100.0 for option in options if option is not None)
        names = options[0].names if options[0] is not None else ()
        for name, first, second in zip(names, exact, dual, strict=True):
            for shown, one, other in zip(part.shown, first, second, strict=True):
                rows.append({"dataset": part.dataset, "candidate": name, "shown": shown, "exact": one, "dual": other})
    frame = pd.DataFrame(rows)
    return frame.assign(gain=frame["exact"] - frame["dual"])


def selection(table: pd.DataFrame) -> pd.DataFrame:
    """Return what choosing on the test images adds to each row of a table in long form, in percentage points.

    Returns:
        One row per table, data set and row: mean and largest, over radii, of *best on the test images* less *chosen on
        other images*.
    """
    wide = table[table["protocol"].isin([BEST, CHOSEN])].pivot(
        index=["table", "dataset", "row", "radius"], columns="protocol", values="certified"
    )
    gain = (wide[BEST] - wide[CHOSEN]).dropna()
    return gain.groupby(level=["table", "dataset", "row"], sort=False).agg(["mean", "max"]).reset_index()


def required_at_same_radius(noise: str, baseline: str, threat: str) -> float:
    """Return ``p*`` of a noise at the radius at which the baseline requires 0.9."""
    plain = rs.certificate(rs.parse_noise(baseline), threat, DIM)

    def excess(log_radius: float) -> float:
        return float(plain.required_probability(math.exp(log_radius))) - REQUIRED

    radius = math.exp(optimize.brentq(excess, -15.0, 5.0, xtol=1e-12))
    return float(rs.certificate(rs.parse_noise(noise), threat, DIM).required_probability(radius))


def _paired_mean(values: pd.Series[float]) -> dict[str, Any]:
    """Return the mean of paired differences with a normal 95 % interval, in percentage points, and their number."""
    reach = _Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    middle = float(values.mean())
    return {"change": 100.0 * middle, "low": 100.0 * (middle - reach), "high": 100.0 * (middle + reach),
            "images": len(values)}  # fmt: skip
