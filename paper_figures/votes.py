"""The votes behind Tables 1 to 3 and Figure 4: counted once, committed, read by everything else.

``python -m paper_figures.votes``, with ``RS_DATA`` at hand, counts those that are missing and writes the file that the
profile names. Every pair of a model and a noise is counted until what its tables ask is decided (anytime stopping,
``decided``); finished images are kept beside the file, so that an interruption loses nothing. No vote serves another
noise: sharing draws would save their generation, never a pass of the network.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import rs_plugin as rs
from paper_figures import dual
from paper_figures.profiles import DIMS, Profile, profile
from rs_plugin.errors import InputError
from rs_plugin.estimation import AlphaBudget
from rs_plugin.zoo.smoothed import CHECKPOINTS, smoothed

STORE: Final = Path(__file__).parent / ".cache" / "votes.sqlite"
COLUMNS: Final = ("dataset", "model", "noise", "stopped_by", "index", "label", "selected", "votes", "draws")


def count(
    chosen: Profile, dataset: str, model: str, noise: str, store: Path | None = STORE
) -> pd.DataFrame:
    """Count the votes of one model under one noise on the test images of a data set, printed name.

    Args:
        chosen: the profile.
        dataset: printed name of the data set.
        model: a name in the zoo, or a checkpoint's path.
        noise: as text.
        store: keeps what was counted; None for memory.

    Returns:
        One row per image, columns as in the file: ``selected`` is the class chosen on ``n0`` draws of its own,
        ``votes`` its count among ``draws`` others, whose number was chosen by looking at them; ``stopped_by`` the
        threat model whose radii decided it.
    """
    threat, radii, alpha = decided(chosen, dataset, model, noise)
    registered, subset = chosen.sets[dataset]
    checkpoint = Path(model).suffix in CHECKPOINTS
    classifier = smoothed(
        model, noise, precision=chosen.precision, compiled=chosen.compiled,
        normalisation=chosen.normalisation if checkpoint else None,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.UncertifiableRadiusWarning)  # a small noise reaches no large radius
        run = rs.evaluate(
            classifier, registered, threat, radii, "anytime", chosen.n0,
            chosen.more.get(model, chosen.n), alpha, subset=subset, store=store,
            device=chosen.device, progress=lambda done, total: print(f"\r{done} of {total}", end="", file=sys.stderr),
        )  # fmt: skip
    rows = [
        (dataset, model, noise, threat, row.index, row.label, int(row.selection.argmax()),
         int(row.counts[row.selection.argmax()]), int(row.counts.sum()))
        for row in run.votes
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def decided(chosen: Profile, dataset: str, model: str, noise: str) -> tuple[str, tuple[float, ...], float]:
    """Return the threat model, the radii and the failure probability whose decisions stop the draws of a pair.

    The family is certified by the Monte-Carlo dual too, which asks for a higher probability at the same radius and
    leaves the votes a smaller share of alpha. Were its votes stopped by the exact certificate alone, the dual would
    lose by that; so the radii at which the exact certificate asks for as much are decided as well, with that share.
    """
    threat, radii = chosen.radii(dataset, model, noise)
    smoothing = rs.parse_noise(noise)
    if isinstance(smoothing, rs.Gaussian | rs.Laplace):
        return threat, radii, chosen.alpha
    budget = AlphaBudget.split(chosen.alpha, deterministic=False)
    dim = DIMS[dataset]
    asked = dual.required(smoothing, threat, dim, np.array(radii), budget.certificate, chosen.dual_draws)
    as_much = rs.certificate(smoothing, threat, dim).radius(asked[asked < 1.0]) * (1.0 + 1e-5)  # it rounds down
    return threat, tuple(sorted({*radii, *np.atleast_1d(as_much).tolist()})), budget.votes


def load(chosen: Profile | None = None) -> pd.DataFrame:
    """Return the votes of a profile, that of ``RS_PROFILE`` if None.

    Raises:
        InputError: they have not been counted.
    """
    chosen = chosen or profile()
    if not chosen.votes.exists():
        raise InputError(f"there are no votes at {str(chosen.votes)!r}; `python -m paper_figures.votes` counts them")
    return pd.read_csv(chosen.votes)


def main() -> None:
    """Count what is missing of the profile's pairs, and write the file after each."""
    chosen = profile()
    STORE.parent.mkdir(exist_ok=True)
    chosen.votes.parent.mkdir(exist_ok=True)
    known = load(chosen) if chosen.votes.exists() else pd.DataFrame(columns=list(COLUMNS))
    found: dict[Any, pd.DataFrame] = dict(iter(known.groupby(["dataset", "model", "noise"], sort=False)))
    pairs = chosen.pairs()
    for number, pair in enumerate(pairs):
        if pair not in found:
            found[pair] = count(chosen, *pair)
            mean = found[pair]["draws"].mean()
            print(f"\r{number + 1} of {len(pairs)}: {pair[1]}, {pair[2]}: {mean:.0f} draws", file=sys.stderr)
        whole = pd.concat([found[pair] for pair in pairs if pair in found])
        compression = {"method": "gzip", "mtime": 0}  # the same bytes for the same votes
        whole.to_csv(chosen.votes, index=False, compression=compression, lineterminator="\n")


if __name__ == "__main__":
    main()
