"""Notebooks are thin, their stored outputs are those of one whole run, and only pictures go uncompared.

Their numbers are compared by ``tox -e notebooks``, which runs them.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import rs_plugin

ROOT = Path(rs_plugin.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IGNORED = "# NBVAL_IGNORE_OUTPUT"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def faults(notebook: dict[str, Any]) -> list[str]:
    """Return what is wrong with a notebook, in words."""
    cells, found = code_cells(notebook), []
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    if tagged != [0]:
        found.append(f"cells tagged parameters: {tagged}, not the first alone")
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        nodes = list(ast.walk(ast.parse(source)))
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda) for node in nodes):
            found.append(f"cell {number} defines a function")
        modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        strange = [name for name in modules if name.split(".")[0] not in ("sys", "rs_plugin", "paper_figures")]
        strange += [name for name in modules if name.startswith("rs_plugin.")]  # public names alone
        found += [f"cell {number} imports {name}" for name in strange]
        if cell["execution_count"] != number:
            found.append(f"cell {number} was not run in order: {cell['execution_count']}")
        kinds = [output["output_type"] for output in cell["outputs"]]
        if set(kinds) - {"execute_result", "stream"} or any(o.get("name") == "stderr" for o in cell["outputs"]):
            found.append(f"cell {number} ended with {kinds}")
        pictures = ["image/png" in output.get("data", {}) for output in cell["outputs"]]
        if (IGNORED in source or "NBVAL" in source) != (pictures == [True]):
            found.append(f"cell {number}: its output is compared, and a picture, or not compared, and none")
    return found


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook(path: Path) -> None:
    assert faults(json.loads(path.read_text(encoding="utf-8"))) == []
    assert path.stat().st_size < 2_000_000


def cell(source: str, count: int, outputs: list[dict[str, Any]] | None = None, tags: tuple[str, ...] = ()) -> Any:
    described = {"cell_type": "code", "source": [source], "execution_count": count, "metadata": {"tags": list(tags)}}
    return described | {"outputs": outputs or []}


PICTURE = {"output_type": "execute_result", "data": {"image/png": "", "text/plain": ""}}
NUMBER = {"output_type": "execute_result", "data": {"text/plain": "1"}}


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (cell("def f(): pass", 2), "defines a function"),
        (cell("f = lambda: 0", 2), "defines a function"),
        (cell("import numpy as np", 2), "imports numpy"),
        (cell("from rs_plugin.certificates import certificate", 2), "imports rs_plugin.certificates"),
        (cell("x = 1", 3), "not run in order"),
        (cell("x", 2, [{"output_type": "error"}]), "ended with"),
        (cell("x", 2, [{"output_type": "stream", "name": "stderr"}]), "ended with"),
        (cell(f"{IGNORED}\nx", 2, [NUMBER]), "not compared"),
        (cell(f"{IGNORED}\nx", 2, [PICTURE, NUMBER]), "not compared"),
        (cell("x", 2, [PICTURE]), "compared, and a picture"),
        (cell("x = 1", 2, tags=("parameters",)), "tagged parameters"),
    ],
)
def test_a_fault_is_found(second: Any, fault: str) -> None:
    first = cell("x = 0", 1, tags=("parameters",))
    assert faults({"cells": [first, cell(f"{IGNORED}\nx", 2, [PICTURE])]}) == []
    found = faults({"cells": [first, second]})
    assert len(found) == 1
    assert fault in found[0]
