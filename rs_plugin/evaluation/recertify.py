"""New certificates from stored votes: no network, no draws."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ParameterError, StoreError, UndecidedRadiusWarning
from rs_plugin.estimation import check_alpha
from rs_plugin.evaluation.asked import check_radii, warn_uncertifiable
from rs_plugin.evaluation.fingerprint import noise_fingerprint
from rs_plugin.evaluation.results import Run
from rs_plugin.evaluation.store import VoteStore
from rs_plugin.smoothing import budgeted_certificate
from rs_plugin.threats import Threat, parse_threat


def recertify(
    store: str | Path,
    key: str,
    threat_model: str,
    radii: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    alpha: float = 1e-3,
    method: str = "auto",
) -> Run:
    """Return a run's result with another threat model, other radii, alpha or method.

    Votes of fixed-n runs serve every threat model, radius and alpha, through Clopper-Pearson bounds. Votes of anytime
    runs were stopped by looking at them; they go through the confidence sequence, which is valid at any time.

    Args:
        store: path of the vote store.
        key: the run's key, or the beginning of it.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
        radii: where certified accuracy is wanted.
        alpha: failure probability per image.
        method: as for ``certificate``.

    Warns:
        UndecidedRadiusWarning: the votes of an anytime run were stopped when other radii than these were decided.

    Raises:
        UnknownNameError: no run, or more than one, has such a key.
        StoreError: the store cannot be read, holds no votes of the run, or those of a noise that was changed since.
        UnsupportedThreatError: nothing proves a certificate for the noise and threat model.
    """
    if not Path(store).exists():
        raise StoreError(f"there is no vote store at {str(store)!r}; give the path that evaluate was run with")
    with VoteStore(store) as votes:
        key = votes.find(key)
        config = votes.config(key)
        rows = list(votes.votes(key).values())
    if not rows:
        raise StoreError(f"run {key[:12]} of {str(store)!r} holds no votes yet; run its evaluation first")
    if len(rows) < config["images"]:
        raise StoreError(
            f"run {key[:12]} of {str(store)!r} holds votes for {len(rows)} of {config['images']} images; finish its "
            f"evaluation first, since an accuracy over the images that happen to be done is not the run's"
        )
    if config["stopping"] not in ("fixed", "anytime"):
        raise ParameterError(f"run {key[:12]} has stopping rule {config['stopping']!r}, which has no bound here")
    check_alpha(alpha)
    listed = check_radii(radii)
    threat = parse_threat(threat_model)
    dim = int(np.prod(config["image_shape"]))
    noise, n, stopping = parse_noise(config["noise"]), config["n"], config["stopping"]
    if noise_fingerprint(noise, dim) != config["noise_fingerprint"]:
        raise StoreError(
            f"run {key[:12]} was counted under another {noise} than the one of that name now; evaluate the model again"
        )
    budget, radii_of = budgeted_certificate(noise, threat, dim, method, alpha, config["seed"], n, stopping)
    run = Run(key, config, rows, radii_of, listed, alpha, budget, config["dataset"])
    _warn_undecided(config, key, threat, listed, alpha)
    warn_uncertifiable(listed, run.required, n, budget.votes, stopping)
    return run


def _warn_undecided(config: dict[str, Any], key: str, threat: Threat, radii: Sequence[float], alpha: float) -> None:
    """Warn where votes were stopped before they had shown all they could; radius 0 is decided in every run."""
    if config["stopping"] != "anytime":
        return
    same = config["threat_model"] == threat and alpha >= config["alpha"]
    open_ = [radius for radius in radii if radius > 0 and not (same and radius in config["radii"])]
    if open_:
        decided = ", ".join(f"{radius:g}" for radius in config["radii"])
        text = (
            f"run {key[:12]} left every image once {config['threat_model']} radii {decided} were decided at alpha = "
            f"{config['alpha']:g}; at {threat} {', '.join(f'{radius:g}' for radius in open_)}, alpha = {alpha:g}, more "
            f"draws could certify more"
        )
        warnings.warn(text, UndecidedRadiusWarning, stacklevel=3)
