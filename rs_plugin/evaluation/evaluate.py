"""Evaluate a smoothed classifier on a data set: count votes, keep them, certify."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch

from rs_plugin.datasets import Dataset, choose, load_dataset
from rs_plugin.distributions.base import SAMPLER_VERSION
from rs_plugin.errors import InputError, ParameterError, StoreError, UncertifiableRadiusWarning, UnknownNameError
from rs_plugin.estimation import (
    StoppingRule,
    check_alpha,
    exceeds,
    least_trials,
    least_trials_anytime,
    select_class,
)
from rs_plugin.estimation.arguments import shown
from rs_plugin.estimation.looks import RULE_VERSION
from rs_plugin.evaluation.executors import EXECUTORS, Counting, Executor, Found, answers_to, open_executor
from rs_plugin.evaluation.fingerprint import noise_fingerprint, run_key
from rs_plugin.evaluation.results import Run
from rs_plugin.evaluation.store import SCHEMA_VERSION, ImageVotes, VoteStore, image_digest
from rs_plugin.smoothing import SmoothedClassifier, budgeted_certificate, check_draws, check_seed, check_whole
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.threats import parse_threat
from rs_plugin.voting import Answer, Ask, Counts, DrawRange, Poll, block_rows

Stopping = Literal["fixed", "anytime"]
Progress = Callable[[int, int], None]

_DEVICES: Final = ("cpu", "cuda")
_COMMIT_SECONDS: Final = 0.5
_PREDICTION_SHARE: Final = 30
_RECOUNTED: Final = 16  # images whose stored votes are checked at every reuse


def evaluate(
    model: SmoothedClassifier,
    dataset: str | Path | Dataset = "digits",
    threat_model: str = "L2",
    radii: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    stopping: str = "fixed",
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 1e-3,
    seed: int = 0,
    n_examples: int | None = None,
    subset: str | None = None,
    store: str | Path | None = "runs.sqlite",
    device: str | torch.device | None = None,
    *,
    method: str = "auto",
    executor: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    data_dir: str | Path | None = None,
    preprocessing: Any = None,
    batch_size: int | None = None,
) -> Run:
    """Certify a smoothed classifier on a data set; votes that are stored already are not counted again.

    Args:
        model: the smoothed classifier.
        dataset: a registered name, the path of a folder or zip file of images, or a ``Dataset``.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
        radii: where certified accuracy is wanted, in input units; 0 stands for the prediction itself. Where 0 is not
            listed, anytime stopping spends at most one draw in 30 of ``n`` on whether the class is the most probable
            one, so that images whose prediction is close cost little and count as abstentions.
        stopping: ``"fixed"`` counts ``n`` draws for every image; ``"anytime"`` stops as soon as all radii are decided,
            at most after ``n`` draws.
        n0: draws that choose the class.
        n: draws that bound it, or their cap.
        alpha: failure probability per image, votes and certificate together.
        seed: of all draws.
        n_examples: only the first so many images of the subset.
        subset: ``"every_20th"`` and the like; chosen before anything runs.
        store: path of the vote store, None to keep votes in memory only.
        device: where the network runs, its own device if None; the model is moved there and stays.
        method: as for ``certificate``.
        executor: where votes are counted; on devices of one type the result does not depend on it. ``"local"``: on
            threads of this process. ``"ray"``: by workers of the Ray cluster that this process is connected to, that
            ``RAY_ADDRESS`` names or that runs on this machine; where there is none, one is started for the call. The
            model is sent there by pickle, and moved to ``device`` there.
        workers: how many share the work; the result does not depend on it. Ray's take a CPU each, and a GPU if that is
            the device; as many as there is room for if None. Threads: torch's number of them if None, where all code
            of the network is torch's, torchvision's or this package's, or its classes say ``pure_forward = True``
            (``docs/statistics.md``); any other network runs on one thread.
        progress: called with (images done, images in all).
        data_dir: as for ``load_dataset``.
        preprocessing: as for ``load_dataset``.
        batch_size: noisy images in one pass of the network; as many as suit the processor's cache if None. It is part
            of what decides the votes, since a network's rounding may depend on it.

    Raises:
        UnknownNameError: an unknown data set, subset, threat model, method or stopping rule.
        ParameterError: draws, alpha, radii or parameters of the noise out of range.
        UnsupportedThreatError: nothing proves a certificate for the noise and threat model.
        ModelError: the network fails, does not answer with class scores of the right shape, the highest finite, or not
            for each image by itself.
        StoreError: the store cannot be used.

    Warns:
        UncertifiableRadiusWarning: not even unanimous votes could certify one of the radii.
    """
    if not isinstance(model, SmoothedClassifier):
        raise ParameterError(f"model must be a SmoothedClassifier, not {type(model).__name__}; wrap the network in one")
    threat = parse_threat(threat_model)
    if stopping not in ("fixed", "anytime"):
        raise UnknownNameError(f"unknown stopping rule {stopping!r}; known: fixed, anytime")
    check_draws(n0, n)
    check_alpha(alpha)
    listed = check_radii(radii)
    asked = listed == [0.0] or 0.0 in np.atleast_1d(np.asarray(radii))
    prediction_draws = n if asked else prediction_limit(n)
    for name, value in (("workers", workers), ("batch_size", batch_size)):
        if value is not None:
            check_whole(name, value)
    if progress is not None and not callable(progress):
        raise ParameterError(f"progress must be a function of (images done, images in all), not {shown(progress)}")
    check_seed(seed)
    n0, n, seed = int(n0), int(n), int(seed)  # numpy's integers have no place in a key
    data = chosen_images(dataset, subset, n_examples, data_dir, preprocessing)
    if data.num_classes != model.num_classes:
        raise InputError(f"{data.name!r} has {data.num_classes} classes, the model {model.num_classes}")
    if executor not in EXECUTORS:
        raise UnknownNameError(f"unknown executor {executor!r}; known: {', '.join(EXECUTORS)}")
    place = model.device if device is None else _checked_device(device)
    if executor == "local" and device is not None:
        model = _moved(model, place)
    budget, radii_of = budgeted_certificate(model.noise, threat, data.dim, method, alpha, seed, n, stopping)
    required = np.atleast_1d(radii_of.required_probability(listed))
    warn_uncertifiable(listed, required, n, budget.votes, cast(Stopping, stopping))

    counting = Counting(model, data.image_shape, int(batch_size or block_rows(data.dim)), place)
    with open_executor(executor, counting, workers) as counters:
        found = counters.look(data.images[0])  # an unusable network is refused here, before any long work
        config = _config(counting, found, data, subset, n0, n, seed, cast(Stopping, stopping))
        rule = None
        if stopping == "anytime":
            limits = [prediction_draws, *[n] * (len(listed) - 1)]
            rule = StoppingRule(required, limits, budget.votes, CHUNK)
            config |= {"radii": listed, "threat_model": threat, "method": radii_of.method, "alpha": alpha}
            config |= {"prediction_draws": prediction_draws, "rule": RULE_VERSION}
        key = run_key(config)
        with VoteStore(store) as votes:
            votes.add_run(key, config)
            done = votes.votes(key)
            todo = [i for i, index in enumerate(data.indices.tolist()) if index not in done]
            work = _Work(data, counters, n0, n, seed, rule)
            work.check(done, f"run {key[:12]} of {str(store)!r}")
            _count(work, counters, todo, len(data), votes, key, progress)
            stored = votes.votes(key)
    wanted = [stored[index] for index in data.indices.tolist()]
    return Run(key, config, wanted, radii_of, listed, alpha, budget, data.name)


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


class _Work:
    """How the votes of one image are counted."""

    def __init__(
        self, data: Dataset, counters: Executor, n0: int, n: int, seed: int, rule: StoppingRule | None
    ) -> None:
        self._data, self._counters, self._n0, self._n, self._seed, self._rule = data, counters, n0, n, seed, rule

    def polls(self, positions: Iterable[int]) -> Iterator[Poll[ImageVotes]]:
        """Yield what asks for the votes of the image at each position of the data set."""
        return map(self._poll, positions)

    def check(self, stored: dict[int, ImageVotes], where: str) -> None:
        """Refuse stored votes that are of other images, or not of this network.

        The key of a run describes its network as far as a description goes. What it computes with may lie beyond that,
        in a module that was edited for instance; so the draws that chose the class are made again for some of the
        images, other ones at every call, and must fall as they did, but for rounding on another machine.

        Raises:
            StoreError: they are.
        """
        remedy = "use another store"
        positions = [i for i, index in enumerate(self._data.indices.tolist()) if index in stored]
        for position in positions:
            index, label = int(self._data.indices[position]), int(self._data.labels[position])
            if stored[index].digest != image_digest(self._data.images[position], label):
                raise StoreError(
                    f"{where} has votes of another image, or label, at index {index}: the data were changed since; "
                    f"{remedy}"
                )
        chosen = np.random.default_rng().permutation(positions)[:_RECOUNTED]
        selection = DrawRange(Stream.SELECTION, 0, self._n0)
        asks = [self._ask(position, [selection]) for position in chosen.tolist()]
        for ask, again in zip(asks, answers_to(self._counters, asks), strict=True):
            moved = int(np.abs(again.counts[0] - stored[ask.index].selection).sum()) // 2
            if moved > 1 + self._n0 // 50:
                raise StoreError(
                    f"{where} has votes that are not this network's: {moved} of {self._n0} draws fall otherwise now "
                    f"for image {ask.index}; something that it computes with was changed since; {remedy}"
                )

    def _ask(self, position: int, ranges: list[DrawRange], *, clean: bool = False) -> Ask:
        return Ask(self._data.images[position], int(self._data.indices[position]), self._seed, ranges, clean)

    def _poll(self, position: int) -> Poll[ImageVotes]:
        selection_draws = DrawRange(Stream.SELECTION, 0, self._n0)
        if self._rule is None:
            draws = [selection_draws, DrawRange(Stream.ESTIMATION, 0, self._n)]
            answer = yield self._ask(position, draws, clean=True)
            (selection, votes), seconds = answer.counts, answer.seconds
        else:
            answer = yield self._ask(position, [selection_draws], clean=True)
            (selection,), seconds = answer.counts, answer.seconds
            votes, more = yield from self._until_decided(position, int(select_class(selection)), self._rule)
            seconds += more
        index, label = int(self._data.indices[position]), int(self._data.labels[position])
        assert answer.base is not None
        digest = image_digest(self._data.images[position], label)
        return ImageVotes(index, label, answer.base, selection, votes, seconds, digest)

    def _until_decided(
        self, position: int, chosen: int, rule: StoppingRule
    ) -> Generator[Ask, Answer, tuple[Counts, float]]:
        votes, seconds = np.zeros(self._data.num_classes, dtype=np.int64), 0.0
        while True:
            seen = int(votes.sum())
            total = int(rule.next_look(votes[chosen], seen))
            if total == seen:
                return votes, seconds
            answer = yield self._ask(position, [DrawRange(Stream.ESTIMATION, seen, total)])
            votes, seconds = votes + answer.counts[0], seconds + answer.seconds


def _count(
    work: _Work,
    counters: Executor,
    todo: list[int],
    total: int,
    store: VoteStore,
    key: str,
    progress: Progress | None,
) -> None:
    done = total - len(todo)
    if progress is not None:
        progress(done, total)
    fresh: list[ImageVotes] = []
    last = time.monotonic()
    try:
        with closing(counters.run(work.polls(todo))) as rows:  # or workers would go on after an interruption
            for row in rows:
                fresh.append(row)
                done += 1
                if time.monotonic() - last > _COMMIT_SECONDS:
                    store.add_votes(key, fresh)
                    fresh, last = [], time.monotonic()
                if progress is not None:
                    progress(done, total)
    finally:
        # An interruption or an error of one image loses none of those before it.
        if fresh:
            store.add_votes(key, fresh)


def _config(
    counting: Counting, found: Found, data: Dataset, subset: str | None, n0: int, n: int, seed: int, stopping: Stopping
) -> dict[str, Any]:
    """Return everything that decides the votes of a run."""
    model = counting.model
    return {
        "schema": SCHEMA_VERSION,
        "sampler": SAMPLER_VERSION,
        "model": found.fingerprint,
        "noise": str(model.noise),
        "noise_fingerprint": noise_fingerprint(model.noise, data.dim),
        "dataset": data.name,
        "data_fingerprint": data.collection,
        "first_image": int(data.indices[0]),
        "subset": subset or "all",
        "images": len(data),
        "image_shape": list(data.image_shape),
        "preprocessing": data.preprocessing,
        "num_classes": model.num_classes,
        "n0": n0,
        "n": n,
        "seed": seed,
        "dtype": "float32",
        "autocast": "none" if model.precision == "float32" else model.precision,
        "compiled": model.compiled,
        "device": found.device,
        "block": [counting.rows, *data.image_shape],
        "layout": found.layout,
        "stopping": stopping,
    }
