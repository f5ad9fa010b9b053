"""Where a difference between the family and its baseline comes from, one cause at a time.

* ``exponent``: ``k > 0`` at a fixed root mean square per coordinate: what it does to the probability of the label, and
  to the probability that a radius requires.
* ``scale``: the baseline's noise at several scales, ``k = 0``.
* ``certificate``: the Monte-Carlo dual against the exact certificate, on the same votes.
* ``estimation``: the same without votes: what each asks for, and what [Z]'s inequality for a single ``λ`` would.
* ``selection``: best on the test images against chosen on other images.

The first two are of the screened images, which no table uses: 200 draws each, enough for means over 250 images.
``draw`` draws the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import optimize, special

import rs_plugin as rs
from paper_figures import printed, screen
from paper_figures.accuracy import BEST, CHOSEN, INTERVAL
from paper_figures.drawing import TEXT_WIDTH, lines, styled
from paper_figures.profiles import DIMS, FAMILIES, Profile, profile
from paper_figures.tables import DUAL, EXACT, FAMILY, FAMILY_DUAL, SINGLE, Asked, menu
from paper_figures.votes import load

DIM: Final = DIMS[printed.CIFAR10]
THREATS: Final = {family: printed.of(table, printed.CIFAR10).threat for table, family in FAMILIES.items()}
EQUATIONS: Final = {"l1_exponential": "Eq. 10", "l2_exponential": "Eq. 11", "mixed_norm": "Eq. 13"}
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
    rows = []
    for (family, model, factor, k), noise, baseline, known, change in _changes(frame):
        rows.append(
            {
                "family": family, "model": model, "factor": factor, "k": k,
                "probability": 100.0 * known.mean(), **_paired_mean(change),
                "required": 100.0 * required_at_same_radius(noise, baseline, THREATS[family]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


class _Change(NamedTuple):
    """What ``k > 0`` changes in a pair: name, both noises, shares of label votes without it, by image, and change."""

    name: tuple[Any, ...]
    noise: str
    baseline: str
    known: pd.Series[float]
    change: pd.Series[float]


def _changes(frame: pd.DataFrame) -> Iterator[_Change]:
    """Yield the pairs with ``k > 0``, each beside plain noise of its scale on the same model."""
    plain = {_key(name, noise): (noise, _shares(group)) for name, noise, group in _groups(frame[frame["k"] == 0])}
    for name, noise, group in _groups(frame[frame["k"] > 0]):
        family, model, factor, _ = name
        baseline, known = plain[_baseline(family), model, factor]
        yield _Change(name, noise, baseline, known, _shares(group) - known)


def _baseline(family: str) -> str:
    """Return the name of a family's noise without ``k``."""
    return "laplace" if family == "l1_exponential" else "gaussian"


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
        One row per table, model, factor and radius of the table: threat, noise, probability (as of ``exponent``),
        change, low, high (points against factor 1), shown (the radius) and over (percent of images whose share of label
        votes exceeds ``p*``: a guess from few draws, to choose by, no certificate; NaN where ``p*`` is nearer to 1
        than a share of so few draws can be without being 1).
    """
    frame = screen.load() if frame is None else frame
    rows = []
    for table, family in FAMILIES.items():
        part = printed.of(table, printed.CIFAR10)
        plain = frame[(frame["k"] == 0) & (frame["noise"].str.startswith(f"{_baseline(family)}("))]
        for model, group in plain.groupby("model", sort=False):
            shares = {factor: _shares(one) for factor, one in group.groupby("factor")}
            for factor, label in shares.items():
                noise = str(group.loc[group["factor"] == factor, "noise"].iloc[0])
                certificate = rs.certificate(rs.parse_noise(noise), part.threat, DIM)
                required = certificate.required_probability(np.array(part.radii))
                over = np.where(required < 1.0 - 1.0 / screen.N, label.to_numpy()[:, None] > required, np.nan)
                common = {
                    "table": table, "threat": part.threat, "model": model, "factor": factor, "noise": noise,
                    "probability": 100.0 * label.mean(), **_paired_mean(label - shares[1.0]),
                }  # fmt: skip
                rows += [
                    {**common, "shown": shown, "over": share}
                    for shown, share in zip(part.shown, 100.0 * over.mean(axis=0), strict=True)
                ]
    return pd.DataFrame(rows)


def certificate(table: int, chosen: Profile | None = None, votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compare certificates of the family on the same votes, candidate by candidate.

    Returns:
        One row per data set, candidate and radius (``shown``): exact, single and dual, certified accuracies in percent,
        and gain, exact less dual in percentage points. ``single`` stands for [Z]'s inequality (``tables.Asked``).
    """
    chosen = chosen or profile()
    votes = load(chosen) if votes is None else votes
    rows = []
    for part in chosen.parts(table):
        methods = {"exact": FAMILY, "single": FAMILY._replace(method=SINGLE), "dual": FAMILY_DUAL}
        menus = {name: menu(row, part, chosen, votes) for name, row in methods.items()}
        for i, candidate in enumerate(menus["exact"].names):
            for j, shown in enumerate(part.shown):
                cells = {name: 100.0 * options.held[i, :, j].mean() for name, options in menus.items()}
                rows.append({"dataset": part.dataset, "candidate": candidate, "shown": shown, **cells})
    frame = pd.DataFrame(rows)
    return frame.assign(gain=frame["exact"] - frame["dual"])


def estimation(table: int, chosen: Profile | None = None) -> pd.DataFrame:
    """Return what a radius requires by the exact certificate and by two Monte-Carlo duals, without any votes.

    Returns:
        One row per member of the family and radius of the table: dataset, noise, shown, and exact, single and dual
        (percent; 100 or more where no votes suffice), as ``tables.Asked`` tells them.
    """
    chosen = chosen or profile()
    rows = []
    for part in chosen.parts(table):
        for noise in dict.fromkeys(c.noise for c in chosen.menus[table, part.dataset] if c.role == "family"):
            asked = {
                name: Asked.of(noise, part.threat, np.array(part.radii), method, DIMS[part.dataset], chosen).required
                for name, method in (("exact", EXACT), ("single", SINGLE), ("dual", DUAL))
            }
            for i, shown in enumerate(part.shown):
                cells = {name: 100.0 * required[i] for name, required in asked.items()}
                rows.append({"dataset": part.dataset, "noise": noise, "shown": shown, **cells})
    return pd.DataFrame(rows)


def chance(frame: pd.DataFrame | None = None, flips: int = 9_999, seed: int = 0) -> pd.DataFrame:
    """Ask whether ``k > 0`` changes probabilities in more pairs than it would by chance.

    Pairs share images, draws and the noise that they are compared with, so their intervals do not miss independently of
    each other. If ``k`` changed nothing, the sign of all of an image's differences might as well be the other one. So
    signs are flipped image by image, for all pairs at once; the statistic is the sum over pairs of the squared mean in
    units of its standard error.

    Args:
        frame: of the screening; the committed one if None.
        flips: how often.
        seed: of the signs.

    Returns:
        One row per family: pairs, shown (intervals that exclude 0), expected (as many by chance, mean over flips),
        p_value (share of flips, what was found among them, with a statistic as large).
    """
    frame = screen.load() if frame is None else frame
    changes: dict[str, list[pd.Series[float]]] = {}
    for each in _changes(frame):
        changes.setdefault(each.name[0], []).append(each.change)
    generator = np.random.default_rng(seed)
    rows = []
    for family, found in changes.items():
        values = pd.concat(found, axis=1).to_numpy()
        signs = np.vstack([np.ones(len(values)), generator.choice([-1.0, 1.0], (flips, len(values)))])
        mean, square = signs @ values / len(values), (values**2).mean(axis=0)
        spread = np.sqrt((square - mean**2) / (len(values) - 1))  # of the mean, as in _paired_mean
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.nan_to_num(np.abs(mean) / spread, nan=0.0, posinf=np.inf)  # 0 / 0: no change of any image
        shown, total = (score > _Z).sum(axis=1), (score**2).sum(axis=1)
        rows.append(
            {
                "family": family, "pairs": values.shape[1], "shown": int(shown[0]), "expected": shown[1:].mean(),
                "p_value": float((total >= total[0]).mean()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> Figure:
    """Return a panel per family: what ``k > 0`` adds to the label's probability against that probability at ``k = 0``.

    Args:
        frame: of ``exponent``.
    """
    families = list(dict.fromkeys(frame["family"]))
    with styled():
        figure = Figure(figsize=(TEXT_WIDTH, 2.8), layout="constrained")
        panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
        for axes, family in zip(panels, families, strict=True):
            part = frame[frame["family"] == family]
            curves = list(part.groupby("k"))
            axes.axhline(0.0, color="0.6", linewidth=0.8)
            for i, (line, (k, points)) in enumerate(zip(lines(len(curves)), curves, strict=True)):
                beside = points["probability"] + 0.4 * (i - (len(curves) - 1) / 2)  # so that marks do not hide others
                axes.errorbar(
                    beside, points["change"],
                    yerr=[points["change"] - points["low"], points["high"] - points["change"]], color=line.color,
                    marker=line.marker or "x", linestyle="none", markersize=4, elinewidth=0.8, label=f"$k={k:g}$",
                )  # fmt: skip
            axes.set_title(EQUATIONS[family])
            axes.set_xlabel("label's probability at $k=0$ (%)")
            axes.legend(loc="lower left")
        panels[0].set_ylabel("change (points)")
        return figure


def selection(table: pd.DataFrame) -> pd.DataFrame:
    """Return what choosing on the test images adds to each row of a table in long form, in percentage points.

    It is never below 0: what is best on all images certifies at least as many of them. A part of it is not flattery but
    the price of choosing by half as many images.

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
