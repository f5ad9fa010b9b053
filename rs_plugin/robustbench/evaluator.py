"""``benchmark``: RobustBench's call, with a certified accuracy where RobustBench has an attacked one."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rs_plugin.datasets import Dataset, load_dataset
from rs_plugin.distributions import SmoothingDistribution, parse_noise
from rs_plugin.errors import ParameterError, counted
from rs_plugin.evaluation import Run, evaluate
from rs_plugin.evaluation.asked import check_radii, chosen_images
from rs_plugin.evaluation.evaluate import Progress
from rs_plugin.report.tables import percent, short_radius
from rs_plugin.robustbench.attacks import AttackedAccuracy, attacked_accuracy
from rs_plugin.robustbench.model_info import DECIMALS, check_info, info_path, write_info
from rs_plugin.robustbench.proposals import check_attacks
from rs_plugin.smoothing import LEVELS, SmoothedClassifier, check_draws, check_whole
from rs_plugin.threats import check_radius, parse_threat


def benchmark(
    model: nn.Module,
    n_examples: int | None = None,
    dataset: str | Path | Dataset = "cifar10",
    threat_model: str = "Linf",
    to_disk: bool = False,
    model_name: str | None = None,
    data_dir: str | Path | None = None,
    corruptions_data_dir: None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    eps: float | None = None,
    log_path: str | Path | None = None,
    preprocessing: Any = None,
    aa_state_path: None = None,
    *,
    noise: SmoothingDistribution | str | None = None,
    stopping: str = "anytime",
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 1e-3,
    seed: int = 0,
    subset: str | None = None,
    method: str = "auto",
    store: str | Path | None = "runs.sqlite",
    workers: int | None = None,
    info_dir: str | Path = "model_info",
    radii: Sequence[float] = (),
    attack: Sequence[str] = (),
    attack_n: int = 1000,
    bank: int = 64,
    precision: str | None = None,
    compiled: bool | None = None,
    sound: bool | int | None = None,
    executor: str = "local",
    progress: Progress | None = None,
) -> tuple[float, float]:
    """Certify a model as ``robustbench.benchmark`` attacks one: same arguments, same order, same two numbers.

    Prints both, and appends what it prints to ``log_path``. An abstention counts as an error in either number.

    Args:
        model: a ``SmoothedClassifier``, or a network for images in [0, 1], RobustBench's included, with ``noise``.
        n_examples: the first so many images; all if None.
        dataset: as for ``evaluate``; RobustBench's enum members will do.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``, or RobustBench's enum member.
        to_disk: write ``<info_dir>/<dataset>/<threat model>/<model_name>.json``, or bring it up to date.
        model_name: names that file; needed for it.
        data_dir: the folder that holds the data set, or where to download it; by default where ``RS_DATA`` points, and
            ``./data`` if that is not set.
        corruptions_data_dir: must be None: nothing certifies against corruptions.
        device: where the network runs; its own device if None. The model is moved there and stays.
        batch_size: noisy images in one pass of the network; as many as suit the cache if None.
        eps: the radius, in units of images in [0, 1].
        log_path: a text file to which the printed lines are appended.
        preprocessing: of image files, as for ``load_dataset``.
        aa_state_path: must be None: no AutoAttack runs here.
        noise: the smoothing noise of a plain network, or its text; a ``SmoothedClassifier`` has one already.
        stopping: ``"anytime"`` leaves an image as soon as ``eps`` is decided, ``"fixed"`` counts ``n`` draws for each.
        n0: draws that choose the class.
        n: draws that bound it, or their cap.
        alpha: failure probability per image.
        seed: of all draws.
        subset: ``"every_20th"`` and the like.
        method: as for ``certificate``.
        store: path of the vote store, None to keep votes in memory only.
        workers: as for ``evaluate``.
        info_dir: the folder of ``to_disk``.
        radii: further radii that are certified at the same ``alpha``, for the curve in the file.
        attack: ``"pgd"``, ``"autoattack"`` or both: what finds an upper bound beside the certified accuracy, as
            ``attacked_accuracy`` does.
        attack_n: fresh draws that judge every image an attack proposes.
        bank: draws of the surrogate that is attacked, for a plain network; a ``SmoothedClassifier`` has its own.
        precision: of a plain network's votes, as for ``SmoothedClassifier``, which has its own.
        compiled: the same.
        sound: the same.
        executor: as for ``evaluate``.
        progress: called with (images done, images in all), of the certificates and then of the attack.

    Returns:
        The smoothed classifier's accuracy, and its certified accuracy at ``eps``, as shares of the images.

    Raises:
        ParameterError: an argument out of range, or one that means nothing here.
        UnknownNameError, UnsupportedThreatError, InputError, ModelError, StoreError: as ``evaluate`` does.
        DependencyError: AutoAttack is asked for and not installed.
    """
    threat = parse_threat(_text(threat_model))
    radius = _checked_eps(eps)
    for name, value in (("corruptions_data_dir", corruptions_data_dir), ("aa_state_path", aa_state_path)):
        if value is not None:
            raise ParameterError(f"{name} = {value!r} means nothing to a certificate; leave it out")
    attacks = check_attacks(attack) if attack else ()
    check_whole("attack_n", attack_n)
    check_draws(1, attack_n)
    source: str | Path | Dataset = _text(dataset)
    if to_disk and model_name is None:
        raise ParameterError("to_disk=True needs model_name, which names the file")
    if model_name is not None:
        info_path("dataset", threat, model_name, info_dir)  # a name that cannot be is refused before any work
    if data_dir is None and source in ("cifar10", "cifar100") and not os.environ.get("RS_DATA"):
        data_dir = "./data"  # as RobustBench has it, which downloads there
    smoothed = _smoothed(model, noise, source, data_dir, bank, precision, compiled, sound)
    if attacks and smoothed.grid is not None:
        raise ParameterError("attacks move images off the grid that sound=True counts on; leave one of them out")
    if to_disk and model_name is not None:
        path = info_path(getattr(source, "name", str(source)), threat, model_name, info_dir)
        check_info(path, radius, str(smoothed.noise))
    started = time.monotonic()
    # Radius 0 is listed, so that the clean accuracy gets all draws under anytime stopping too.
    run = evaluate(
        smoothed, source, threat, [0.0, radius, *check_radii(radii)], stopping, n0, n, alpha, seed, n_examples, subset,
        store, device, method=method, executor=executor, workers=workers, progress=progress, data_dir=data_dir,
        preprocessing=preprocessing, batch_size=batch_size,
    )  # fmt: skip
    clean = run.smoothed_accuracy
    certified = sum(outcome.holds_at(radius) for outcome in run.outcomes) / len(run.outcomes)
    attacked = None
    if attacks:
        data = chosen_images(source, subset, n_examples, data_dir, preprocessing)
        attacked = attacked_accuracy(
            smoothed, data, threat, radius, attacks, n=attack_n, alpha=alpha, seed=seed, progress=progress
        )
    lines = _report(run, radius, clean, certified, attacked, time.monotonic() - started)
    if to_disk and model_name is not None:
        lines.append(f"Written: {write_info(run, model_name, radius, clean, certified, info_dir, attacked)}")
    print("\n".join(lines))
    if log_path is not None:
        with Path(log_path).open("a", encoding="utf-8") as log:
            log.write("\n".join(lines) + "\n")
    return clean, certified


def _text(value: Any) -> Any:
    """Return the text of RobustBench's enum members, anything else as it is."""
    return getattr(value, "value", value)


def _checked_eps(eps: float | None) -> float:
    if eps is None:
        raise ParameterError("eps must be given: the radius to certify, in units of images in [0, 1], as in 8/255")
    return check_radius("eps", eps)


def _smoothed(
    model: Any,
    noise: SmoothingDistribution | str | None,
    dataset: str | Path | Dataset,
    data_dir: str | Path | None,
    bank: int,
    precision: str | None,
    compiled: bool | None,
    sound: bool | int | None,
) -> SmoothedClassifier:
    if isinstance(model, list | tuple):
        raise ParameterError("benchmark takes one model at a time; call it once for each")
    wanted = parse_noise(noise) if isinstance(noise, str) else noise
    if isinstance(model, SmoothedClassifier):
        if wanted is not None and wanted != model.noise:
            raise ParameterError(
                f"noise = {wanted} was given, but the model is smoothed with {model.noise}; smooth its base network, "
                f"model.base, with the noise that is meant"
            )
        for name, given, own in (
            ("precision", precision, model.precision),
            ("compiled", compiled, model.compiled),
            ("sound", LEVELS if sound is True else sound, model.levels or False),
        ):
            if given not in (None, own):
                raise ParameterError(
                    f"{name} = {given!r} was given, but the model has {own!r}; smooth its base network, model.base, "
                    f"with what is meant"
                )
        return model
    if not isinstance(model, nn.Module):
        raise ParameterError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if wanted is None:
        raise ParameterError(f"a plain {type(model).__name__} needs noise=, as in 'gaussian(sigma=0.25)'")
    known = dataset if isinstance(dataset, Dataset) else load_dataset(dataset, None, 1, data_dir=data_dir)
    how: dict[str, Any] = {"precision": precision or "float32", "compiled": compiled or False, "sound": sound or False}
    return SmoothedClassifier(model, wanted, known.num_classes, bank=bank, **how)


def _report(
    run: Run, eps: float, clean: float, certified: float, attacked: AttackedAccuracy | None, seconds: float
) -> list[str]:
    certificate = run.certificate
    details = [
        f"Clean: the smoothed classifier's, abstentions ({percent(run.abstention_rate, DECIMALS)}%) are errors; "
        f"its base network alone, without noise: {percent(run.base_accuracy, DECIMALS)}%.",
        f"Certified: {certificate.threat_model}, eps = {short_radius(eps)}; {certificate.noise}, {certificate.method}; "
        f"alpha = {run.alpha:g} an image.",
        f"{counted(len(run.outcomes), 'image')} of {run.dataset}, {run.draws / len(run.outcomes):.0f} draws an image "
        f"({run.config['stopping']}, n = {run.config['n']}), {seconds:.1f} s.",
    ]
    if attacked is not None:
        details.insert(
            0, f"Attacked accuracy: {percent(attacked.accuracy, DECIMALS, up=True)}% at most is true; {attacked}."
        )
    # The first two lines are RobustBench's but for a word, and for rounding down.
    lines = [f"Clean accuracy: {percent(clean, DECIMALS)}%", f"Certified accuracy: {percent(certified, DECIMALS)}%"]
    return lines + [line for text in details for line in textwrap.wrap(text, 80)]
