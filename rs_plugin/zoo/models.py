"""The models that have a name: the bundled ones, and those of other packages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import nn

from rs_plugin.errors import ParameterError
from rs_plugin.registry import Registry
from rs_plugin.zoo.card import ModelCard
from rs_plugin.zoo.files import load_card, load_saved

#: Folder of the bundled weights and cards.
WEIGHTS: Final = Path(__file__).parent / "weights"


def _is_path(target: object) -> bool:
    return isinstance(target, Path)


#: From a name to the path of its card, with the weights beside it; other packages add theirs under the entry-point
#: group of the same name, as a module attribute that holds such a ``pathlib.Path``.
models: Registry[Path] = Registry("model", _is_path, "rs_plugin.models")
for _card in sorted(WEIGHTS.glob("*.json")):
    models.register(_card.stem, _card)


def list_models() -> list[ModelCard]:
    """Return the cards of all models with a name, sorted by it.

    Raises:
        ParameterError: a card cannot be read, or has another name than it is registered under.
    """
    cards = {name: load_card(models.get(name)) for name in models.names()}
    for name, card in cards.items():
        if card.name != name:
            raise ParameterError(f"model {name!r} has a card that says {card.name!r}; register it under that name")
    return list(cards.values())


def load_base(name: str | Path) -> nn.Module:
    """Return a trained base network in eval mode.

    Args:
        name: a name that ``list_models`` gives, or the path of a card (``….json``) that ``save_model`` wrote.

    Raises:
        UnknownNameError: no model has that name.
        ChecksumError: the weights file is not the one that the card describes.
        ModelError: the weights do not fit the architecture.
        ParameterError: a file is missing, or is not a model card.
    """
    return load_saved(card_path(name))[0]


def card_path(name: str | Path) -> Path:
    """Return the path of a model's card, from its name, in which ``_`` may stand for every dot, or from that path.

    Raises:
        UnknownNameError: no model has that name.
        ParameterError: the path of the weights was given.
    """
    path = Path(name)
    if path.suffix == ".safetensors":
        raise ParameterError(f"model {str(name)!r} is a file of weights; give the card (.json) beside it")
    if path.suffix == ".json":
        return path
    names = models.names()
    if str(name) not in names:
        alike = [known for known in names if undotted(known) == str(name)]
        name = alike[0] if len(alike) == 1 else name
    return models.get(str(name))


def undotted(name: str) -> str:
    """Return a model's name as RobustBench writes it, since timm, which it asks, cuts names at dots."""
    return name.replace(".", "_")


def is_model(name: str) -> bool:
    """Return whether ``name`` is that of a model, or of a card's file."""
    return name.endswith(".json") or name in {*models.names(), *map(undotted, models.names())}
