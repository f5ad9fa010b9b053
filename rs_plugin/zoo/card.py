"""The card of a trained network: what it is, how it was made, what it reaches."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from rs_plugin.errors import ParameterError
from rs_plugin.files import parse_json

Recipe: TypeAlias = dict[str, "str | int | float"]
Losses: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class ModelCard:
    """What is known of a base network; stored as JSON beside its weights.

    Args:
        name: name in the zoo, and of its files.
        architecture: registered name of the architecture.
        num_classes: number of classes.
        dataset: the held-out data set that the accuracies are for; training used ``<dataset>_train``.
        noise: the noise of training and of ``accuracy_noise``, as ``parse_noise`` reads it.
        recipe: every setting of the training.
        seed: the seed of the training, also in the recipe.
        command: the command line that trains it again.
        losses: mean loss of some epochs, evenly spread over the training, by their numbers.
        accuracy_clean: share of the held-out images that the network itself classifies rightly.
        accuracy_noise: the same for images under fresh noise, averaged over ``noise_draws`` draws an image.
        noise_draws: number of draws an image behind ``accuracy_noise``.
        parameters: number of parameters.
        sha256: of the weights file.
        package_version: version of this package that trained it.
        torch_version: version of torch that trained it.
        licence: licence of the weights.
        data_source: the training images and their licence.

    Raises:
        ParameterError: the name cannot be that of a file.
    """

    name: str
    architecture: str
    num_classes: int
    dataset: str
    noise: str
    recipe: Recipe
    seed: int
    command: str
    losses: Losses
    accuracy_clean: float
    accuracy_noise: float
    noise_draws: int
    parameters: int
    sha256: str
    package_version: str
    torch_version: str
    licence: str
    data_source: str

    def __post_init__(self) -> None:
        check_name(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the card as JSON text, the same text for the same card."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str) -> ModelCard:
        """Read what ``to_json`` wrote.

        Args:
            text: the JSON text.
            origin: where it comes from, for messages.

        Raises:
            ParameterError: the text is not JSON, or its fields are not those of a card.
        """
        try:
            content = parse_json(text)
        except ValueError as error:
            raise ParameterError(f"the model card {origin} is not valid JSON: {error}") from None
        if not isinstance(content, dict):
            raise ParameterError(f"the model card {origin} must hold a JSON object, not {type(content).__name__}")
        expected = {field.name: _TYPES[str(field.type)] for field in dataclasses.fields(cls)}
        missing, unknown = sorted(expected.keys() - content.keys()), sorted(content.keys() - expected.keys())
        if missing or unknown:
            raise ParameterError(f"the model card {origin} lacks {missing} and has unknown fields {unknown}")
        for name, kind in expected.items():
            if not isinstance(content[name], kind) or isinstance(content[name], bool):
                raise ParameterError(f"the model card {origin} has {name} = {content[name]!r}, of another type")
        return cls(**content)


def check_name(name: str) -> str:
    """Return ``name`` if it can name a model and its files: letters, digits, ``_``, and inside also ``.`` and ``-``.

    Raises:
        ParameterError: it cannot.
    """
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is None:
        raise ParameterError(
            f"the model name {name!r} must consist of letters, digits, '_', '.' and '-', as in net-1.5"
        )
    return name


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "float": (int, float), "Recipe": dict, "Losses": dict,
}  # fmt: skip
