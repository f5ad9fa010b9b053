"""Zoo models as smoothed classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rs_plugin.datasets.base import IMAGE_SHAPES, datasets
from rs_plugin.distributions import parse_noise
from rs_plugin.errors import InputError, ParameterError, UnsupportedThreatError
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import parse_threat
from rs_plugin.zoo.card import ModelCard
from rs_plugin.zoo.checkpoints import load_checkpoint
from rs_plugin.zoo.files import load_card, load_saved
from rs_plugin.zoo.models import card_path
from rs_plugin.zoo.published import find_published

#: What the files of published checkpoints end with.
CHECKPOINTS: Final = frozenset({".pt", ".pth", ".tar"})

#: Data sets whose models serve another one of the same classes.
STANDS_IN: Final = {"cifar10_jpeg": "cifar10", "imagenet_robustbench": "imagenet"}


def serves(card: ModelCard, dataset: str) -> bool:
    """Return whether a model is for images of ``dataset``: its own data set, or one that stands in for the same."""
    return STANDS_IN.get(dataset, dataset) == STANDS_IN.get(card.dataset, card.dataset)


def check_serves(card: ModelCard, dataset: str) -> None:
    """Raise ParameterError unless the model is for images of ``dataset``."""
    if not serves(card, dataset):
        raise ParameterError(
            f"model {card.name!r} is for {card.dataset!r}, not {dataset!r}; pass dataset={card.dataset!r}"
        )


def doubt_of(card: ModelCard, dataset: str, image_shape: tuple[int, ...]) -> str | None:
    """Return why a model may do badly on images, in a line; None where nothing is known to speak against them.

    Args:
        card: the model's.
        dataset: name or path of the data set of the images.
        image_shape: (channels, height, width) of the images.
    """
    if dataset in datasets.names() and not serves(card, dataset):
        return f"{card.name!r} was trained for {card.dataset!r}, not for {dataset!r}"
    meant = IMAGE_SHAPES.get(card.dataset)
    if meant is not None and image_shape != meant:
        return f"the images have shape {image_shape}, and {card.name!r} was trained on images of shape {meant}"
    return None


def load_model(
    name: str | Path,
    dataset: str = "digits",
    threat_model: str = "L2",
    *,
    bank: int = 64,
    precision: str = "float32",
    compiled: bool = False,
    sound: bool | int = False,
) -> SmoothedClassifier:
    """Return a zoo model smoothed with the noise that it was trained under.

    Args:
        name: a name that ``list_models`` gives, or the path of a card (``….json``).
        dataset: the data set that the model is for; another one is refused.
        threat_model: what it is to be certified against; refused where nothing proves a certificate for its noise.
        bank: as for ``SmoothedClassifier``.
        precision: the same.
        compiled: the same.
        sound: the same.

    Raises:
        UnknownNameError: no model, or threat model, has that name.
        ParameterError: the model is for another data set, or its files cannot be read.
        UnsupportedThreatError: nothing proves a certificate for the noise.
    """
    threat = parse_threat(threat_model)
    path = card_path(name)
    card = load_card(path)
    check_serves(card, dataset)
    noise = parse_noise(card.noise)
    if not noise.worst_shift_rules:  # a rule for one threat model serves the others, each ball lying inside another
        raise UnsupportedThreatError(f"no proven rule certifies {noise} against {threat}")
    return smoothed(path, bank=bank, precision=precision, compiled=compiled, sound=sound)


def smoothed(
    name: str | Path,
    noise: str | None = None,
    *,
    bank: int = 64,
    precision: str = "float32",
    compiled: bool = False,
    sound: bool | int = False,
    normalisation: str | None = None,
    manifest: str | Path | None = None,
) -> SmoothedClassifier:
    """Return a zoo network, or one of a published checkpoint, smoothed with a noise.

    Args:
        name: a name that ``list_models`` gives, the path of a card (``….json``), or that of a checkpoint (``….pt``,
            ``….pth``, ``….tar``), as ``load_checkpoint`` reads it.
        noise: the noise as text; that of the training if None.
        bank: as for ``SmoothedClassifier``.
        precision: the same.
        compiled: the same.
        sound: the same.
        normalisation: of a checkpoint, as for ``load_checkpoint``.
        manifest: the same.

    Raises:
        UnknownNameError: no model, or noise, has that name.
        ParameterError: a parameter of the noise out of range, an option that does not belong to the model, files that
            cannot be read, or no noise for a checkpoint of which it is not known.
        InputError, ModelError: as ``load_checkpoint`` does.
    """
    how: dict[str, Any] = {"bank": bank, "precision": precision, "compiled": compiled, "sound": sound}
    if Path(name).suffix not in CHECKPOINTS:
        for option, value in (("normalisation", normalisation), ("manifest", manifest)):
            if value is not None:
                raise ParameterError(f"{option} = {str(value)!r} is for checkpoints; model {str(name)!r} needs none")
        base, card = load_saved(card_path(name))
        return SmoothedClassifier(base, parse_noise(noise or card.noise), card.num_classes, **how)
    if not Path(name).is_file():
        raise InputError(f"there is no file {str(name)!r}; give the path of a checkpoint")
    entry = find_published(name, manifest)
    known = noise or (entry.noise if entry is not None else None)
    if known is None:
        raise ParameterError(f"the checkpoint {str(name)!r} needs a noise, as in 'gaussian(sigma=0.25)'")
    network = load_checkpoint(name, normalisation, manifest=manifest)
    classes = network.network.fc.out_features
    return SmoothedClassifier(network, parse_noise(known), classes, **how)
