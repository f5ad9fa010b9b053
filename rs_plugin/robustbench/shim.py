"""The released RobustBench (1.1.1), made importable.

Its wheel depends on the package ``pyautoattack``, which installs a module of that name, but it imports ``autoattack``.
And that module's class takes other arguments than RobustBench gives. So a module ``autoattack`` with an adapted class
is made known, only where there is none of that name. RobustBench also imports ``pkg_resources``, which setuptools has
had no more since release 82; nothing here stands in for that.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from rs_plugin.errors import DependencyError

_INSTALL = "pip install 'rs-plugin[robustbench]'"


def import_robustbench(module: str = "robustbench") -> ModuleType:
    """Return RobustBench, or one of its modules, imported.

    After the first call plain ``import robustbench`` works as well.

    Args:
        module: ``"robustbench"`` or the name of a module in it, as in ``"robustbench.utils"``.

    Raises:
        DependencyError: RobustBench, AutoAttack or ``pkg_resources`` is missing; the message says what to install.
    """
    if "robustbench" not in sys.modules:
        if find_spec("robustbench") is None:
            raise DependencyError(f"RobustBench is not installed; {_INSTALL}")
        if find_spec("pkg_resources") is None:
            raise DependencyError(
                "RobustBench needs pkg_resources, which setuptools has no more since 82; pip install 'setuptools<81'"
            )
        import_autoattack()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations in its imports, which its users cannot mend
            return importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(f"{module} cannot be imported: {error}; {_INSTALL}") from error


def import_autoattack() -> ModuleType:
    """Return AutoAttack, imported, known as ``autoattack`` whatever the name that it was installed under.

    Raises:
        DependencyError: it is not installed.
    """
    if "autoattack" not in sys.modules and find_spec("autoattack") is None:
        if find_spec("pyautoattack") is None:
            raise DependencyError(f"AutoAttack is not installed; {_INSTALL}")
        module = ModuleType("autoattack", "AutoAttack from pyautoattack, with the arguments of the original.")
        module.__spec__ = ModuleSpec("autoattack", None)  # which a later find_spec asks for
        module.AutoAttack = _adapted(importlib.import_module("pyautoattack").AutoAttack)  # type: ignore[attr-defined]
        module.state = importlib.import_module("pyautoattack.state")  # type: ignore[attr-defined]
        sys.modules["autoattack"], sys.modules["autoattack.state"] = module, module.state
    return importlib.import_module("autoattack")


def _adapted(base: Any) -> Any:
    """Return pyautoattack's class with the arguments of the original one, which RobustBench gives.

    pyautoattack takes ``batch_size`` for ``bs``, everything by keyword, and logs through ``logging`` alone.
    """

    class AutoAttack(base):  # type: ignore[misc]
        def __init__(
            self,
            model: Any,
            norm: str = "Linf",
            eps: float = 0.3,
            seed: int | None = None,
            verbose: bool = True,
            attacks_to_run: Sequence[str] = (),
            version: str = "standard",
            is_tf_model: bool = False,
            device: Any = "cpu",
            log_path: str | None = None,
        ) -> None:
            options = {"attacks": list(attacks_to_run)} if attacks_to_run else {}
            super().__init__(model, norm=norm, eps=eps, seed=seed, version=version, device=device, **options)
            self.verbose = verbose
            if log_path is not None:
                self.logger.addHandler(logging.FileHandler(log_path))
                self.logger.setLevel(logging.DEBUG)

        def run_standard_evaluation(
            self, x_orig: Any, y_orig: Any, bs: int = 250, return_labels: bool = False, state_path: Any = None
        ) -> Any:
            found, labels = super().run_standard_evaluation(x_orig, y_orig, batch_size=bs, state_path=state_path)
            return (found, labels) if return_labels else found

    return AutoAttack
