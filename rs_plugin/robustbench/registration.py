"""Our smoothed models under RobustBench's own ``load_model``.

RobustBench asks timm first, for ``<name>_<dataset>_<threat model>`` in lower case with ``-`` as ``_``, before it looks
into its own lists. So an entry in timm's registry is all it takes; nothing of RobustBench is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from rs_plugin.distributions import parse_noise
from rs_plugin.errors import DependencyError, ParameterError
from rs_plugin.networks import build_network
from rs_plugin.robustbench.shim import import_robustbench
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.zoo import ModelCard, list_models
from rs_plugin.zoo.models import undotted
from rs_plugin.zoo.smoothed import load_model, serves

_THREATS: Final = ("L2", "Linf")
_IMAGENET: Final = {"interpolation": "bilinear", "crop_pct": 224 / 256, "input_size": (3, 224, 224)}
_registered: dict[str, Callable[..., SmoothedClassifier]] = {}


def register() -> list[str]:
    """Let ``robustbench.utils.load_model`` return every zoo model that is for one of its data sets.

    A model of the zoo called ``name`` is then ``load_model(name, dataset="cifar10", threat_model="L2")``, likewise for
    Linf, where a dot in the name is written as ``_``: timm would cut the name there. RobustBench knows no L1, for which
    there is ``rs_plugin.load_model``. May be called any number of times.

    Returns:
        The names in timm's registry, sorted.

    Raises:
        ParameterError: a name is taken by a model that is not of this package, or two models of the zoo would have the
            same; nothing is registered then.
        DependencyError: RobustBench is not installed.
    """
    enums = import_robustbench("robustbench.model_zoo.enums")
    try:
        from timm.models import is_model, register_model
    except ImportError as error:
        raise DependencyError(f"timm cannot be imported: {error}; pip install 'rs-plugin[robustbench]'") from error
    wanted: dict[str, Callable[..., SmoothedClassifier]] = {}
    for card in list_models():
        for dataset in enums.BenchmarkDataset:
            if not serves(card, dataset.value) or not parse_noise(card.noise).worst_shift_rules:
                continue
            for threat in _THREATS:
                name = timm_name(card.name, dataset.value, threat)
                if name in wanted:
                    raise ParameterError(f"two models of the zoo lead to {name!r}; rename {card.name!r} or the other")
                wanted[name] = _maker(card, dataset.value, threat)
    for name in wanted:
        if is_model(name) and name not in _registered:
            raise ParameterError(f"timm has a model {name!r} already; rename the zoo model whose name leads to it")
    module = _home()
    for name, make in wanted.items():
        if name not in _registered:
            make.__name__, make.__module__ = name, module.__name__
            _registered[name] = register_model(make)
    return sorted(wanted)


def timm_name(name: str, dataset: str, threat: str) -> str:
    """Return the name that RobustBench looks for in timm's registry.

    >>> timm_name("Ours-2026", "cifar10", "L2"), timm_name("ours_0.25", "cifar10", "Linf")
    ('ours_2026_cifar10_l2', 'ours_0_25_cifar10_linf')
    """
    plain = undotted(name.lower().replace("-", "_"))
    return f"{plain}_{dataset.lower()}_{threat.lower()}"


def _maker(card: ModelCard, dataset: str, threat: str) -> Callable[..., SmoothedClassifier]:
    def make(pretrained: bool = False, num_classes: int | None = None, **options: Any) -> SmoothedClassifier:
        if num_classes not in (None, card.num_classes):
            raise ParameterError(f"{card.name!r} has {card.num_classes} classes, not {num_classes}")
        bank = options.get("bank", 64)
        if pretrained:
            model = load_model(card.name, dataset, threat, bank=bank)
        else:
            network = build_network(card.architecture, card.num_classes)
            model = SmoothedClassifier(network, parse_noise(card.noise), card.num_classes, bank=bank)
        if dataset == "imagenet":  # where RobustBench asks a model how its images are to be cut
            setattr(model, "default_cfg", dict(_IMAGENET))  # noqa: B010  # Module types its attributes
        return model

    return make


def _home() -> ModuleType:
    """Return the module that timm is told the models live in; it notes their names there."""
    name = f"{__package__}.timm_models"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name, "Smoothed models in timm's registry.")
    return sys.modules[name]
