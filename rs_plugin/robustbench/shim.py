"""The released RobustBench (1.1.1), made importable.

Its wheel depends on the package ``pyautoattack``, which installs a module of that name, but it imports ``autoattack``.
So that module is made known under the other name too, only where there is none of that name. It also imports
``pkg_resources``, which setuptools has had no more since release 82; nothing here stands in for that.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType

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
        sys.modules["autoattack"] = importlib.import_module("pyautoattack")
        sys.modules["autoattack.state"] = importlib.import_module("pyautoattack.state")
    return importlib.import_module("autoattack")
