"""Zoo models as smoothed classifiers."""

from __future__ import annotations

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ParameterError, UnsupportedThreatError
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import THREATS, parse_threat, radius_factor
from rs_plugin.zoo.files import load_card
from rs_plugin.zoo.models import load_base, models


def load_model(name: str, dataset: str = "digits", threat_model: str = "L2") -> SmoothedClassifier:
    """Return a zoo model smoothed with the noise that it was trained under.

    Args:
        name: a name that ``list_models`` gives.
        dataset: the data set that the model is for; another one is refused.
        threat_model: what it is to be certified against; refused where nothing proves a certificate for its noise.

    Raises:
        UnknownNameError: no model, or threat model, has that name.
        ParameterError: the model is for another data set.
        UnsupportedThreatError: nothing proves a certificate for the pair.
    """
    threat = parse_threat(threat_model)
    card = load_card(models.get(name))
    if card.dataset != dataset:
        raise ParameterError(f"model {name!r} is for {card.dataset!r}, not {dataset!r}; pass dataset={card.dataset!r}")
    noise = parse_noise(card.noise)
    if not any(radius_factor(threat, rule, 2) > 0 for rule in THREATS if rule in noise.worst_shift_rules):
        raise UnsupportedThreatError(f"no proven rule certifies {noise} against {threat}")
    return SmoothedClassifier(load_base(name), noise, card.num_classes)
