"""Robustness certificates by randomized smoothing, for L1, L2 and Linf.

Everything in ``__all__`` is public. Names load when they are first used, so that importing the package stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rs_plugin.version import __version__

if TYPE_CHECKING:
    from rs_plugin.certificates import Certificate, certificate
    from rs_plugin.datasets import Dataset, load_dataset, register_dataset
    from rs_plugin.distributions import (
        Gaussian,
        L1Exponential,
        L2Exponential,
        Laplace,
        LinfExponential,
        MaxTiltedExponential,
        MixedNorm,
        NormExponential,
        SmoothingDistribution,
        parse_noise,
        register_noise,
    )
    from rs_plugin.errors import (
        ChecksumError,
        DependencyError,
        InputError,
        ModelError,
        ParameterError,
        RSPluginError,
        StoreError,
        UncertifiableRadiusWarning,
        UndecidedRadiusWarning,
        UnknownNameError,
        UnsupportedThreatError,
        WorkerError,
    )
    from rs_plugin.evaluation import Plan, Run, evaluate, plan, recertify
    from rs_plugin.outcomes import Outcome, Status
    from rs_plugin.robustbench import (
        attack_certificates,
        attacked_accuracy,
        benchmark,
        import_robustbench,
        register,
    )
    from rs_plugin.smoothing import SmoothedClassifier
    from rs_plugin.zoo import list_models, load_base
    from rs_plugin.zoo.checkpoints import load_checkpoint
    from rs_plugin.zoo.smoothed import load_model

_HOMES = {
    "rs_plugin.certificates": ("Certificate", "certificate"),
    "rs_plugin.datasets": ("Dataset", "load_dataset", "register_dataset"),
    "rs_plugin.distributions": (
        "Gaussian", "L1Exponential", "L2Exponential", "Laplace", "LinfExponential", "MaxTiltedExponential",
        "MixedNorm", "NormExponential", "SmoothingDistribution", "parse_noise", "register_noise",
    ),
    "rs_plugin.errors": (
        "ChecksumError", "DependencyError", "InputError", "ModelError", "ParameterError", "RSPluginError", "StoreError",
        "UncertifiableRadiusWarning", "UndecidedRadiusWarning", "UnknownNameError", "UnsupportedThreatError",
        "WorkerError", "WorkerWarning",
    ),
    "rs_plugin.evaluation": ("Plan", "Run", "evaluate", "plan", "recertify"),
    "rs_plugin.outcomes": ("Outcome", "Status"),
    "rs_plugin.robustbench": (
        "attack_certificates", "attacked_accuracy", "benchmark", "import_robustbench", "register",
    ),
    "rs_plugin.smoothing": ("SmoothedClassifier",),
    "rs_plugin.zoo": ("list_models", "load_base"),
    "rs_plugin.zoo.checkpoints": ("load_checkpoint",),
    "rs_plugin.zoo.smoothed": ("load_model",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Certificate",
    "ChecksumError",
    "Dataset",
    "DependencyError",
    "Gaussian",
    "InputError",
    "L1Exponential",
    "L2Exponential",
    "Laplace",
    "LinfExponential",
    "MaxTiltedExponential",
    "MixedNorm",
    "ModelError",
    "NormExponential",
    "Outcome",
    "ParameterError",
    "Plan",
    "RSPluginError",
    "Run",
    "SmoothedClassifier",
    "SmoothingDistribution",
    "Status",
    "StoreError",
    "UncertifiableRadiusWarning",
    "UndecidedRadiusWarning",
    "UnknownNameError",
    "UnsupportedThreatError",
    "WorkerError",
    "WorkerWarning",
    "__version__",
    "attack_certificates",
    "attacked_accuracy",
    "benchmark",
    "certificate",
    "evaluate",
    "import_robustbench",
    "list_models",
    "load_base",
    "load_checkpoint",
    "load_dataset",
    "load_model",
    "parse_noise",
    "plan",
    "recertify",
    "register",
    "register_dataset",
    "register_noise",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
