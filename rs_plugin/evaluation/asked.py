"""What an evaluation is asked for, checked before anything is counted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch

from rs_plugin.certificates import Certificate
from rs_plugin.datasets import Dataset, choose, load_dataset
from rs_plugin.distributions.base import SAMPLER_VERSION
from rs_plugin.distributions.grid import GRID_VERSION
from rs_plugin.errors import InputError, ParameterError, UncertifiableRadiusWarning, UnknownNameError
from rs_plugin.estimation import AlphaBudget, StoppingRule, check_alpha, exceeds, least_trials, least_trials_anytime
from rs_plugin.estimation.arguments import shown
from rs_plugin.estimation.looks import RULE_VERSION
from rs_plugin.evaluation.executors import EXECUTORS, Counting, Found
from rs_plugin.evaluation.fingerprint import noise_fingerprint
from rs_plugin.smoothing import SmoothedClassifier, budgeted_certificate, check_draws, check_seed, check_whole
from rs_plugin.streams import CHUNK
from rs_plugin.threats import Threat, parse_threat
from rs_plugin.voting import block_rows

Stopping = Literal["fixed", "anytime"]

#: Part of the key of a run: raised whenever the same network, noise and images would be counted otherwise.
VOTES_VERSION: Final = 2

_DEVICES: Final = ("cpu", "cuda")
_PREDICTION_SHARE: Final = 30


@dataclass(frozen=True)
class Asked:
    """An evaluation that can be begun.

    Attributes:
        counting: the model, and how its votes are counted.
        data: the images.
        subset: the name by which they were chosen, None for all.
        threat: the threat model.
        radii: sorted, 0 among them.
        required: the probability that each requires.
        certificate: what says so.
        budget: how alpha is shared between votes and certificate.
        alpha: failure probability per image.
        stopping: ``"fixed"`` or ``"anytime"``.
        n0: draws that choose the class.
        n: draws that bound it, or their cap.
        prediction_draws: the cap for radius 0 in an anytime run.
        seed: of all draws.
    """

    counting: Counting
    data: Dataset
    subset: str | None
    threat: Threat
    radii: list[float]
    required: np.ndarray[Any, Any]
    certificate: Certificate
    budget: AlphaBudget
    alpha: float
    stopping: Stopping
    n0: int
    n: int
    prediction_draws: int
    seed: int

    def rule(self) -> StoppingRule | None:
        """Return the rule by which draws stop; None if their number is fixed."""
        if self.stopping == "fixed":
            return None
        limits = [self.prediction_draws, *[self.n] * (len(self.radii) - 1)]
        return StoppingRule(self.required, limits, self.budget.votes, CHUNK)

    def config(self, found: Found) -> dict[str, Any]:
        """Return everything that decides the votes of the run, with a network that was found to be ``found``."""
        model, data = self.counting.model, self.data
        config = {
            "schema": VOTES_VERSION,
            "sampler": SAMPLER_VERSION,
            "model": found.fingerprint,
            "noise": str(model.noise),
            "noise_fingerprint": noise_fingerprint(model.noise, data.dim),
            "dataset": data.name,
            "data_fingerprint": data.collection,
            "first_image": int(data.indices[0]),
            "subset": self.subset or "all",
            "images": len(data),
            "image_shape": list(data.image_shape),
            "preprocessing": data.preprocessing,
            "num_classes": model.num_classes,
            "n0": self.n0,
            "n": self.n,
            "seed": self.seed,
            "dtype": "float32",
            "autocast": "none" if model.precision == "float32" else model.precision,
            "compiled": model.compiled,
            "device": found.device,
            "block": [self.counting.rows, *data.image_shape],
            "layout": found.layout,
            "stopping": self.stopping,
        }
        if model.levels:
            config |= {"sound": model.levels, "grid": GRID_VERSION}
        if self.stopping == "anytime":
            config |= {"radii": self.radii, "threat_model": self.threat, "method": self.certificate.method}
            config |= {"alpha": self.alpha, "prediction_draws": self.prediction_draws, "rule": RULE_VERSION}
        return config


def ask(
    *,
    model: SmoothedClassifier,
    dataset: str | Path | Dataset,
    threat_model: str,
    radii: Sequence[float],
    stopping: str,
    n0: int,
    n: int,
    alpha: float,
    seed: int,
    n_examples: int | None,
    subset: str | None,
    device: str | torch.device | None,
    method: str,
    executor: str,
    workers: int | None,
    data_dir: str | Path | None,
    preprocessing: Any,
    batch_size: int | None,
) -> Asked:
    """Return what was asked for, after all checks that need no pass of the network; arguments are ``evaluate``'s."""
    if not isinstance(model, SmoothedClassifier):
        raise ParameterError(f"model must be a SmoothedClassifier, not {type(model).__name__}; wrap the network in one")
    threat = parse_threat(threat_model)
    if stopping not in ("fixed", "anytime"):
        raise UnknownNameError(f"unknown stopping rule {stopping!r}; known: fixed, anytime")
    if executor not in EXECUTORS:
        raise UnknownNameError(f"unknown executor {executor!r}; known: {', '.join(EXECUTORS)}")
    check_draws(n0, n)
    check_alpha(alpha)
    listed = check_radii(radii)
    for name, value in (("workers", workers), ("batch_size", batch_size)):
        if value is not None:
            check_whole(name, value)
    check_seed(seed)
    n0, n, seed = int(n0), int(n), int(seed)  # numpy's integers have no place in a key
    zero_listed = listed == [0.0] or 0.0 in np.atleast_1d(np.asarray(radii))
    data = chosen_images(dataset, subset, n_examples, data_dir, preprocessing)
    if data.num_classes != model.num_classes:
        raise InputError(f"{data.name!r} has {data.num_classes} classes, the model {model.num_classes}")
    if (grid := model.grid) is not None:
        for image in data.images:
            grid.steps_of(image)
    place = model.device if device is None else _checked_device(device)
    if executor == "local" and device is not None:
        model = _moved(model, place)
    if executor == "ray" and device is not None and place.index is not None:
        raise ParameterError(
            f"device {str(device)!r} is one of this process; workers of Ray have a GPU each: say {place.type!r}"
        )
    budget, certificate = budgeted_certificate(model.noise, threat, data.dim, method, alpha, seed, n, stopping)
    required = np.atleast_1d(certificate.required_probability(listed))
    return Asked(
        Counting(model, data.image_shape, int(batch_size or block_rows(data.dim, device=place.type)), place),
        data, subset, threat, listed, required, certificate, budget, alpha, cast(Stopping, stopping), n0, n,
        n if zero_listed else prediction_limit(n), seed,
    )  # fmt: skip


def chosen_images(
    dataset: str | Path | Dataset,
    subset: str | None,
    n_examples: int | None,
    data_dir: str | Path | None,
    preprocessing: Any,
) -> Dataset:
    """Return the images to evaluate, of a data set by name or of one that was given."""
    if isinstance(dataset, str | Path):
        return load_dataset(dataset, subset, n_examples, data_dir=data_dir, preprocessing=preprocessing)
    if data_dir is not None or preprocessing is not None:
        raise ParameterError("data_dir and preprocessing are for data sets by name; these images are at hand already")
    if not isinstance(dataset, Dataset):
        raise ParameterError(f"dataset must be a name or a Dataset, not {type(dataset).__name__}")
    return choose(dataset, dataset.name, subset, n_examples)


def _checked_device(device: str | torch.device) -> torch.device:
    with _device_named(device):
        target = torch.device(device)
        if target.type not in _DEVICES:
            raise RuntimeError(f"noise is drawn on {' and '.join(_DEVICES)} devices only")
        return target


def _moved(model: SmoothedClassifier, device: torch.device) -> SmoothedClassifier:
    with _device_named(device):
        return model.to(device)


@contextmanager
def _device_named(device: str | torch.device) -> Iterator[None]:
    """Say which device it is that cannot be used."""
    try:
        yield
    except (RuntimeError, AssertionError, TypeError) as error:  # torch's own, several lines long
        reason = (str(error).splitlines() or [""])[0]
        raise ParameterError(f"device {str(device)!r} cannot be used here: {reason}") from error


def prediction_limit(n: int) -> int:
    """Return the most draws that radius 0 gets in an anytime run that does not list it: whole chunks, about n / 30."""
    return min(n, CHUNK * math.ceil(n / (CHUNK * _PREDICTION_SHARE)))


def check_radii(radii: Sequence[float]) -> list[float]:
    """Return the radii, sorted, each once, with 0 among them.

    Raises:
        ParameterError: one is negative, NaN or infinite, or no number.
    """
    try:
        array = np.atleast_1d(np.asarray(radii, dtype=np.float64))
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last of tensors with a gradient
        raise ParameterError(f"radii must be a list of numbers, not {shown(radii)}") from None
    if array.ndim > 1:
        raise ParameterError(f"radii must be a flat list of numbers, not an array of shape {array.shape}")
    values = [float(r) for r in array]
    bad = [r for r in values if not (r >= 0.0 and np.isfinite(r))]
    if bad:
        raise ParameterError(f"a radius must be 0 or more and finite, not {bad[0]!r}")
    return sorted({0.0, *values})


def warn_uncertifiable(
    radii: Sequence[float], required: np.ndarray[Any, Any], n: int, alpha: float, stopping: Stopping
) -> None:
    """Warn of radii that not even unanimous votes could certify, with the least number of draws that could."""
    for radius, p in zip(radii, required, strict=True):
        if p >= 1.0 - 1e-7:
            need = None
        elif stopping == "fixed":
            need = least_trials(float(p), alpha)
        else:
            need = least_trials_anytime(float(p), alpha, test=exceeds)
        if need is None or need > n:
            could = "no practical number of draws could" if need is None else f"n >= {need} could"
            needs = f"{p:.6g}" if f"{p:.6g}" != "1" else f"1 - {1.0 - p:.2g}"
            above = f"a probability above {needs}" if p < 1.0 else "more than a float can tell from certainty"
            text = (
                f"n = {n} draws at alpha = {alpha:g} cannot certify radius {radius:g}, whatever the votes: it needs "
                f"{above}; {could}"
            )
            warnings.warn(UncertifiableRadiusWarning(text, radius, float(p), need), stacklevel=3)
