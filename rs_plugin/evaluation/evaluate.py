"""Evaluate a smoothed classifier on a data set: count votes, keep them, certify."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import torch

from rs_plugin.datasets import Dataset
from rs_plugin.errors import ParameterError, StoreError
from rs_plugin.estimation.arguments import shown
from rs_plugin.evaluation.asked import ask, warn_uncertifiable
from rs_plugin.evaluation.executors import Executor, open_executor
from rs_plugin.evaluation.fingerprint import run_key
from rs_plugin.evaluation.results import Run
from rs_plugin.evaluation.store import ImageVotes, VoteStore
from rs_plugin.evaluation.work import Work
from rs_plugin.smoothing import SmoothedClassifier

Progress = Callable[[int, int], None]

_COMMIT_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 1.0


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
        progress: called with (images done, images in all). If it has a method ``remaining``, that is called with the
            seconds left, the least and the most to expect: images take unequally many draws in an anytime run, and easy
            ones end first.
        data_dir: as for ``load_dataset``.
        preprocessing: as for ``load_dataset``.
        batch_size: noisy images in one pass of the network; as many as suit the processor's cache if None. It is part
            of what decides the votes, since a network's rounding may depend on it.

    Raises:
        UnknownNameError: an unknown data set, subset, threat model, method, stopping rule or executor.
        InputError: images that cannot be used, or of other classes than the model's.
        ParameterError: draws, alpha, radii or parameters of the noise out of range.
        UnsupportedThreatError: nothing proves a certificate for the noise and threat model.
        ModelError: the network fails, does not answer with class scores of the right shape, the highest finite, or not
            for each image by itself.
        StoreError: the store cannot be used.
        WorkerError: workers cannot be had, do not agree with this process, or are lost again and again.
        DependencyError: a package that the executor needs is not installed.

    Warns:
        UncertifiableRadiusWarning: not even unanimous votes could certify one of the radii.
        WorkerWarning: a worker is not used, since it finds another model than the others, or draws otherwise.
    """
    if progress is not None and not callable(progress):
        raise ParameterError(f"progress must be a function of (images done, images in all), not {shown(progress)}")
    asked = ask(
        model=model, dataset=dataset, threat_model=threat_model, radii=radii, stopping=stopping, n0=n0, n=n,
        alpha=alpha, seed=seed, n_examples=n_examples, subset=subset, device=device, method=method, executor=executor,
        workers=workers, data_dir=data_dir, preprocessing=preprocessing, batch_size=batch_size,
    )  # fmt: skip
    warn_uncertifiable(asked.radii, asked.required, asked.n, asked.budget.votes, asked.stopping)
    data = asked.data
    with open_executor(executor, asked.counting, workers) as counters:
        found = counters.look(data.images[0])  # an unusable network is refused here, before any long work
        config = asked.config(found)
        key = run_key(config)
        with VoteStore(store) as votes:
            votes.add_run(key, config)
            done = votes.votes(key)
            todo = [i for i, index in enumerate(data.indices.tolist()) if index not in done]
            work = Work(asked, counters)
            work.check(done, f"run {key[:12]} of {str(store)!r}")
            _count(work, counters, todo, len(data), votes, key, progress)
            stored = votes.votes(key)
    lost = [index for index in data.indices.tolist() if index not in stored]
    if lost:
        raise StoreError(
            f"{str(store)!r} does not give back the votes of image {lost[0]} that were written to it: it is damaged; "
            f"move it away or use another path"
        )
    wanted = [stored[index] for index in data.indices.tolist()]
    return Run(key, config, wanted, asked.certificate, asked.radii, alpha, asked.budget, data.name)


def _count(
    work: Work,
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
    remaining = getattr(progress, "remaining", None)
    if not callable(remaining):
        remaining = None
    begun = last = told = time.monotonic()
    try:
        with closing(counters.run(work.polls(todo))) as rows:  # or workers would go on after an interruption
            for row in rows:
                fresh.append(row)
                done += 1
                now = time.monotonic()
                if now - last > _COMMIT_SECONDS:
                    store.add_votes(key, fresh)
                    fresh, last = [], time.monotonic()
                if progress is not None:
                    progress(done, total)
                if remaining is not None and now - told > _TELL_SECONDS:
                    each = (now - begun) / work.draws
                    remaining(*(each * draws for draws in work.draws_left(total - done)))
                    told = now
    finally:
        # An interruption or an error of one image loses none of those before it.
        if fresh:
            store.add_votes(key, fresh)
