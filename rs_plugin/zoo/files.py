"""Weights and cards on disk: written so that they can be checked, checked before anything is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from rs_plugin.errors import ChecksumError, ModelError, ParameterError
from rs_plugin.files import LARGEST_WEIGHTS, check_size, read_text, write_whole
from rs_plugin.networks import build_network
from rs_plugin.zoo.card import ModelCard


def weights_bytes(model: nn.Module) -> bytes:
    """Return the content of the weights file of ``model``: its state in the safetensors format.

    The file has half precision if nothing is lost by it, that is if every value is a half-precision number already.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    floats = {name: value for name, value in state.items() if value.dtype == torch.float32}
    if all(torch.equal(value.half().float(), value) for value in floats.values()):
        state |= {name: value.half() for name, value in floats.items()}
    return safetensors.torch.save(state)


def save_model(model: nn.Module, card: ModelCard, folder: str | Path) -> Path:
    """Write ``<name>.safetensors`` and ``<name>.json`` into ``folder`` and return the card's path.

    Raises:
        ChecksumError: the card was made for other weights.
        ParameterError: the folder cannot be written.
    """
    content = weights_bytes(model)
    _check_sum(content, card, f"the network to be saved as {card.name!r}", "make a new card for these weights")
    path = Path(folder) / f"{card.name}.json"
    try:
        write_whole(path.with_suffix(".safetensors"), content)
        write_whole(path, card.to_json().encode())
    except OSError as error:
        raise ParameterError(f"cannot write {path}: {error}; choose another folder") from error
    return path


def load_card(path: str | Path) -> ModelCard:
    """Return the card at ``path``.

    Raises:
        ParameterError: there is no file, or it is not a model card.
    """
    try:
        text = read_text(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(f"cannot read the model card {path} ({reason}); give the path of a card") from None
    return ModelCard.from_json(text, str(path))


def load_saved(path: str | Path) -> tuple[nn.Module, ModelCard]:
    """Return the network, in eval mode, and the card at ``path``; the weights lie beside it as ``.safetensors``.

    Raises:
        ChecksumError: the weights file is not the one that the card describes; nothing of it was loaded.
        ModelError: the weights do not fit the architecture.
        ParameterError: a file is missing, or the card is not a model card.
    """
    card = load_card(path)
    weights = Path(path).with_suffix(".safetensors")
    try:
        check_size(weights, LARGEST_WEIGHTS)
        content = weights.read_bytes()
    except (OSError, ValueError) as error:
        raise ParameterError(f"cannot read the weights of {card.name!r}: {error}; they lie beside the card") from None
    _check_sum(content, card, f"the file {weights.name}", "reinstall, or train it again by the card's command")
    with torch.random.fork_rng(devices=[]):  # initialisation draws from the global generator, in vain here
        model = build_network(card.architecture, card.num_classes)
    try:
        model.load_state_dict(safetensors.torch.load(content))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ModelError(f"{weights} does not fit architecture {card.architecture!r}: {error}") from error
    return model.eval(), card


def _check_sum(content: bytes, card: ModelCard, what: str, remedy: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        sums = f"sha256 {found[:12]}…, on the card {card.sha256[:12]}…"
        raise ChecksumError(f"{what} is not what its card describes ({sums}); {remedy}")
