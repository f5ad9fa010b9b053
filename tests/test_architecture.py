"""What may import what, and what importing the package may load."""

from __future__ import annotations

import ast
import re
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


#: The rooms from the bottom up, as in docs/architecture.md: each imports only what stands before it. The package itself
#: stands outside: it imports nothing but its version when it is imported, and its names are no way around the order.
ROOMS = (
    "version", "errors", "command", "registry", "numerics", "threats", "files",
    "distributions",
    "estimation",
    "certificates",
    "streams",
    "voting", "outcomes", "smoothing",
    "datasets", "networks", "zoo", "training",
    "evaluation",
    "report",
    "robustbench",
    "cli",
    "__main__",
)  # fmt: skip

#: What a function may import against the order.
INSIDE_FUNCTIONS = {
    ("evaluation", "report"): "Run.plot draws itself",
    ("smoothing", "datasets"): "images given by hand are checked as those of a data set are; for now",
}

_NOISE_AND_BOUNDS = ("rs_plugin.distributions", "rs_plugin.estimation", "rs_plugin.certificates")
_SMOOTHING = ("rs_plugin.streams", "rs_plugin.voting", "rs_plugin.outcomes", "rs_plugin.smoothing")

#: What a room does without, although the order would allow it.
KEPT_OUT: dict[str, tuple[str, ...]] = {
    "distributions": ("torch.nn",),
    "estimation": ("rs_plugin.distributions", "torch"),
    "certificates": ("torch.nn",),
    "streams": _NOISE_AND_BOUNDS,
    "voting": ("rs_plugin.estimation", "rs_plugin.certificates"),
    "datasets": (*_NOISE_AND_BOUNDS, *_SMOOTHING),
    "networks": (*_NOISE_AND_BOUNDS, *_SMOOTHING, "rs_plugin.datasets"),
    "training": ("rs_plugin.estimation", "rs_plugin.certificates"),
    "report": ("rs_plugin.datasets", "rs_plugin.networks", "rs_plugin.zoo", "rs_plugin.training"),
}

#: Packages that only some modules import, or that none imports outside functions.
DRAWING, DRAWN_BY = "matplotlib", "report.plots"
ONLY_INSIDE_FUNCTIONS = {"evaluation": ("pandas",)}
OUTSIDE = ("notebooks", "paper_figures", "tests", "benchmarks")


def module_name(path: Path) -> str:
    """Return a file's module without the package's name, ``""`` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


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


def is_forbidden(module: str, name: str, eager: bool) -> bool:
    """Return whether a module may not import a name, which may be an attribute of a module."""
    room, (head, _, rest) = module.split(".")[0], name.partition(".")
    if head != "rs_plugin":
        late = eager and any(within(name, package) for package in ONLY_INSIDE_FUNCTIONS.get(room, ()))
        drawn = within(name, DRAWING) and module != DRAWN_BY
        return late or drawn or head in OUTSIDE or any(within(name, what) for what in KEPT_OUT.get(room, ()))
    target = rest.split(".")[0]
    if target not in ROOMS:  # a public name, which the package fetches from some room
        return target != "__version__"
    if room not in ROOMS:  # the package itself
        return target in ("cli", "__main__")
    if ROOMS.index(target) > ROOMS.index(room):
        return eager or (room, target) not in INSIDE_FUNCTIONS
    return any(within(name, what) for what in KEPT_OUT.get(room, ()))


def violations(module: str, source: str) -> list[str]:
    """Return what a module imports against the rules."""
    forbidden = [name for name, eager in imports_of(source) if is_forbidden(module, name, eager)]
    return [f"{module or 'the package'} imports {name}" for name in forbidden]


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) or "__init__" for path in FILES])
def test_rooms_import_only_what_lies_below_them(path: Path) -> None:
    assert violations(module_name(path), path.read_text(encoding="utf-8")) == []


def test_every_file_is_in_a_room() -> None:
    assert {module_name(path).split(".")[0] for path in FILES} == {*ROOMS, ""}


def test_the_order_is_the_one_in_the_documents() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"(\w+)(?:\.py|/)(?=\s|$)", text.split("```")[1])
    assert tuple(room for room in named if room in ROOMS) == ROOMS[:-1]


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
        ("errors", "from rs_plugin.voting import Counts"),
        ("errors", "from rs_plugin.threats import Threat"),
        ("certificates.exact", "from rs_plugin import Outcome"),
        ("smoothing", "from rs_plugin.datasets import check_images"),
        ("zoo.models", "from rs_plugin.training import train"),
        ("datasets.base", "from rs_plugin.smoothing import SmoothedClassifier"),
        ("report.tables", "from rs_plugin.zoo import list_models"),
        ("cli.main", "from benchmarks import results"),
        ("", "from rs_plugin.cli.main import main"),
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
        ("smoothing", "def check():\n    from rs_plugin.datasets import check_images"),
        ("certificates.sampled", "from rs_plugin.estimation import clopper_pearson_lower"),
        ("training", "from rs_plugin import __version__"),
        ("threats", "from rs_plugin.errors import UnknownNameError"),
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
