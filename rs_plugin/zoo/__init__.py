"""The zoo: trained base networks, each with a card that says how it was made and what it reaches."""

from rs_plugin.zoo.card import ModelCard
from rs_plugin.zoo.files import load_card, load_saved, save_model, weights_bytes
from rs_plugin.zoo.models import list_models, load_base, models

__all__ = [
    "ModelCard",
    "list_models",
    "load_base",
    "load_card",
    "load_saved",
    "models",
    "save_model",
    "weights_bytes",
]
