"""Zoo models as smoothed classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ParameterError, UnsupportedThreatError
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import parse_threat
from rs_plugin.zoo.card import ModelCard
from rs_plugin.zoo.files import load_card, load_saved
from rs_plugin.zoo.models import card_path

#: Data sets whose models serve another one of the same classes.
_STANDS_IN: Final = {"cifar10_jpeg": "cifar10"}


def serves(card: ModelCard, dataset: str) -> bool:
    """Return whether a model is for images of ``dataset``: its own data set, or the one that its own stands in for."""
    return dataset in (card.dataset, _STANDS_IN.get(card.dataset))


def load_model(
    name: str | Path, dataset: str = "digits", threat_model: str = "L2", *, bank: int = 64
) -> SmoothedClassifier:
    """Return a zoo model smoothed with the noise that it was trained under.

    Args:
        name: a name that ``list_models`` gives, or the path of a card (``….json``).
        dataset: the data set that the model is for; another one is refused.
        threat_model: what it is to be certified against; refused where nothing proves a certificate for its noise.
        bank: as for ``SmoothedClassifier``.

    Raises:
        UnknownNameError: no model, or threat model, has that name.
        ParameterError: the model is for another data set, or its files cannot be read.
        UnsupportedThreatError: nothing proves a certificate for the noise.
    """
    threat = parse_threat(threat_model)
    path = card_path(name)
    card = load_card(path)
    if not serves(card, dataset):
        raise ParameterError(
            f"model {card.name!r} is for {card.dataset!r}, not {dataset!r}; pass dataset={card.dataset!r}"
        )
    noise = parse_noise(card.noise)
    if not noise.worst_shift_rules:  # a rule for one threat model serves the others, each ball lying inside another
        raise UnsupportedThreatError(f"no proven rule certifies {noise} against {threat}")
    return smoothed(path, bank=bank)


def smoothed(name: str | Path, noise: str | None = None, *, bank: int = 64) -> SmoothedClassifier:
    """Return a zoo network smoothed with a noise, given as text; with that of its training if None.

    Raises:
        UnknownNameError: no model, or noise, has that name.
        ParameterError: a parameter of the noise out of range, or files that cannot be read.
    """
    base, card = load_saved(card_path(name))
    return SmoothedClassifier(base, parse_noise(noise or card.noise), card.num_classes, bank=bank)
