"""What may import what, and what importing the package may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import rs_plugin

PACKAGE = Path(rs_plugin.__file__).parent
HEAVY = (
    "robustbench",
    "timm",
    "ray",
    "matplotlib",
    "pandas",
    "torchvision",
    "sklearn",
    "statsmodels",
    "scipy",
    "torch",
)


class Import(NamedTuple):
    """One imported module: its whole name, and whether importing the importer imports it."""

    module: str
    eager: bool


class Rule(NamedTuple):
    """Modules under ``room`` import nothing under ``banned``; ``eager_only`` allows it inside functions."""

    room: str
    banned: tuple[str, ...]
    eager_only: bool = False


ABOVE = (
    "smoothing",
    "voting",
    "streams",
    "outcomes",
    "datasets",
    "zoo",
    "networks",
    "training",
    "evaluation",
    "report",
    "cli",
)
SMALL = ("errors", "registry", "numerics", "threats")

RULES = [
    *(Rule(room, ("distributions", "certificates", "estimation", *ABOVE)) for room in SMALL),
    Rule("distributions", ("certificates", "estimation", *ABOVE, "torch.nn")),
    Rule("certificates", (*ABOVE, "torch.nn")),
    Rule("estimation", ("distributions", "certificates", *ABOVE, "torch")),
    Rule("streams", ("distributions", "certificates", "estimation")),
    Rule("voting", ("certificates", "estimation", "outcomes", "smoothing", "datasets", "zoo", "evaluation")),
    Rule("outcomes", ("smoothing", "datasets", "zoo", "training", "evaluation")),
    Rule("smoothing", ("zoo", "training", "evaluation")),
    Rule("datasets", ("distributions", "certificates", "estimation", "smoothing", "zoo", "training", "evaluation")),
    Rule("networks", ("distributions", "certificates", "estimation", "smoothing", "datasets", "zoo", "evaluation")),
    Rule("zoo", ("training", "evaluation", "report")),
    Rule("training", ("evaluation", "report", "certificates", "estimation")),
    Rule("evaluation", ("report", "cli", "matplotlib", "pandas"), eager_only=True),
    Rule("report", ("cli", "zoo", "training", "datasets")),
    *(Rule(room, ("cli", "matplotlib", "notebooks", "paper_figures", "tests")) for room in ("", )),
]  # fmt: skip

#: Imports that a rule for the whole package must let through.
ALLOWED = {("report.plots", "matplotlib"), ("cli", "cli"), ("__main__", "cli")}


def module_name(path: Path) -> str:
    """Return a file's module without the package's name, ``""`` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, room: str) -> bool:
    return room == "" or module == room or module.startswith(room + ".")


def imports_of(source: str) -> list[Import]:
    """Return every import of a module; those for type checkers alone are left out."""
    found: list[Import] = []

    def visit(node: ast.AST, eager: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, eager)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            found.extend(Import(f"{node.module}.{alias.name}", eager) for alias in node.names)
        inner = eager and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(source), True)
    return found


def violations(module: str, source: str) -> list[str]:
    """Return what a module imports against the rules."""
    result = []
    for rule in RULES:
        if not within(module, rule.room):
            continue
        for name, eager in imports_of(source):
            if rule.eager_only and not eager:
                continue
            target = name.removeprefix("rs_plugin.")
            for banned in rule.banned:
                allowed = any(within(module, room) and banned == what for room, what in ALLOWED)
                if within(target, banned) and not allowed:
                    result.append(f"{module or 'the package'} imports {name}")
    return result


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) or "__init__" for path in FILES])
def test_rooms_import_only_what_lies_below_them(path: Path) -> None:
    assert violations(module_name(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("distributions.base", "from rs_plugin.certificates import certificate"),
        ("distributions.base", "from rs_plugin import certificates"),
        ("distributions.laws.radial", "def f():\n    import rs_plugin.estimation.intervals"),
        ("certificates.exact", "from rs_plugin.smoothing import SmoothedClassifier"),
        ("certificates.exact", "from torch import nn"),
        ("certificates.exact", "import torch.nn.functional as F"),
        ("estimation.votes", "import torch"),
        ("estimation.votes", "from rs_plugin.distributions import Gaussian"),
        ("evaluation.results", "import rs_plugin.report.tables"),
        ("evaluation.results", "import pandas as pd"),
        ("evaluation.results", "class A:\n    from rs_plugin.report import plots"),
        ("smoothing", "if True:\n    from rs_plugin.cli import main"),
        ("zoo.models", "def f():\n    from rs_plugin.cli.main import main"),
        ("errors", "from rs_plugin.threats import Threat\nfrom rs_plugin.voting import Counts"),
        ("voting", "import matplotlib.pyplot as plt"),
    ],
)
def test_a_made_up_violation_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("estimation.votes", "import torchmetrics"),
        ("distributions.base", "if TYPE_CHECKING:\n    from rs_plugin.certificates import Certificate"),
        ("evaluation.results", "def plot():\n    from rs_plugin.report import plots"),
        ("report.plots", "from matplotlib.figure import Figure"),
        ("cli.main", "from rs_plugin.cli import curve"),
        ("certificates.exact", "import torch"),
    ],
)
def test_what_is_allowed_is_let_through(module: str, source: str) -> None:
    assert violations(module, source) == []


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import rs_plugin") & set(HEAVY) == set()


def test_the_parser_of_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("from rs_plugin.cli.main import build_parser; build_parser()") & set(HEAVY) == set()


def test_the_check_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("import numpy, rs_plugin")


def test_every_public_name_loads() -> None:
    for name in rs_plugin.__all__:
        assert getattr(rs_plugin, name) is not None
    assert set(rs_plugin.__all__) <= set(dir(rs_plugin))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rs_plugin.nonsense
