"""Zoo models as smoothed classifiers."""

from __future__ import annotations

from pathlib import Path

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ParameterError, UnsupportedThreatError
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import parse_threat
from rs_plugin.zoo.files import load_card, load_saved
from rs_plugin.zoo.models import card_path


def load_model(name: str | Path, dataset: str = "digits", threat_model: str = "L2") -> SmoothedClassifier:
    """Return a zoo model smoothed with the noise that it was trained under.

    Args:
        name: a name that ``list_models`` gives, or the path of a card (``….json``).
        dataset: the data set that the model is for; another one is refused.
        threat_model: what it is to be certified against; refused where nothing proves a certificate for its noise.

    Raises:
        UnknownNameError: no model, or threat model, has that name.
        ParameterError: the model is for another data set, or its files cannot be read.
        UnsupportedThreatError: nothing proves a certificate for the noise.
    """
    threat = parse_threat(threat_model)
    path = card_path(name)
    card = load_card(path)
    if card.dataset != dataset:
        raise ParameterError(
            f"model {card.name!r} is for {card.dataset!r}, not {dataset!r}; pass dataset={card.dataset!r}"
        )
    noise = parse_noise(card.noise)
    if not noise.worst_shift_rules:  # a rule for one threat model serves the others, each ball lying inside another
        raise UnsupportedThreatError(f"no proven rule certifies {noise} against {threat}")
    return SmoothedClassifier(load_saved(path)[0], noise, card.num_classes)
