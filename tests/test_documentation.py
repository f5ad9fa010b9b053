"""The Python of the documentation runs as it stands, and what it names exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

import rs_plugin
from rs_plugin.cli.main import build_parser, main
from rs_plugin.robustbench.__main__ import _parser

ROOT = Path(rs_plugin.__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore::rs_plugin.errors.UncertifiableRadiusWarning")
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_the_package_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(r"\brs(?:_plugin)?\.([A-Za-z_]+(?:\.[A-Za-z_]+)*)", text)):
        value: object = rs_plugin
        for part in path.split("."):
            if part in ("py", "md", "sqlite", "json", "tsv"):
                break
            try:
                value = getattr(value, part)
            except AttributeError:
                value = importlib.import_module(f"rs_plugin.{path}")
                break


def commands(page: Path) -> list[list[str]]:
    """Return the commands of this package on a page, in words."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = "".join(block for language, block in fenced if language in ("", "sh")).replace("\\\n", "")
    lines = (part.strip() for line in text.splitlines() for part in line.split("&&"))
    ours = ("rs-plugin ", "python -m rs_plugin.robustbench ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(ours)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_commands_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "rs-plugin":
            build_parser().parse_args(words[1:])
        else:
            _parser().parse_args(words[3:])


def test_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that need no download; the bundled comparison has tests of its own."""
    monkeypatch.chdir(tmp_path)
    found = [words for words in commands(PAGES[0]) if "--data-dir" not in words and words[1:] != ["evaluate"]]
    assert len(found) == 5
    for words in found:
        assert main(words[1:]) == 0, capsys.readouterr().err


def test_files_that_are_linked_exist() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_public_names_are_what_they_say() -> None:
    for name in rs_plugin.__all__:
        value = getattr(rs_plugin, name)
        assert type(value).__name__ != "module", name
