"""A thousand strange inputs each for what reads text and files: an answer or one line that says what is wrong.

Attacks are tried with few draws, AutoAttack not at all, since it takes minutes; ``torch.compile`` changes nothing here.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import sqlite3
import string
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import rs_plugin as rs
from rs_plugin.cli.main import build_parser, main
from rs_plugin.errors import DependencyError, RSPluginError
from rs_plugin.evaluation import VoteStore
from tests.evaluation.toys import toy_data, toy_model

THOUSAND = settings(
    max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)
CODES = {0, 2, 3}

STRANGE = [
    "", " ", "0", "-1", "1", "2", "3.5", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 40, "1_000", "0x10", "٣", "abc",
    "ü", "\x00", "\ud800", "--", "-", "--help", "a" * 3000, "[1]", "1,2", "true", "None", "../..", "/", "/dev/null",
    "/proc/self/mem", "~", "*", "%s", "{0}", "\n", "'", '"', "$(x)", "0.1", "0.25", "1e-3", "1e9",
]  # fmt: skip
NAMES = [
    "digits", "cifar10", "imagenet", "L1", "L2", "Linf", "l2", "fixed", "anytime", "auto", "exact", "closed_form",
    "dual", "monte_carlo", "gaussian(sigma=0.5)", "laplace(b=0.2)", "mixed_norm(k=5, sigma=0.3)", "gaussian(sigma=-1)",
    "l2_exponential(k=1e9, sigma=1)", "digits_gaussian_0.25", "digits_laplace", "cpu", "cuda", "cuda:7", "mps", "meta",
    "float32", "bfloat16", "float16", "int8", "local", "ray", "every_20th", "every_1000000th", "mean_std", "pgd",
    "good.sqlite", "empty", "text", "bytes", "folder", "good.toml", "Res256Crop224",
]  # fmt: skip

#: Beginnings that fit, so that some runs go far.
MODEL = ["--model", "digits_gaussian_0.25"]
BEGINNINGS = {
    "train": [[], ["--adversary", "0.5"]], "plan": [[], MODEL, [*MODEL, "--compiled"]],
    "evaluate": [[], MODEL, [*MODEL, "--compiled"], [*MODEL, "--attack", "pgd"]],
}  # fmt: skip

#: Options whose right values would make a run long, or reach out.
KEPT_SMALL = {
    "train": ["--epochs", "1", "--dataset", "nowhere"],
    "evaluate": ["--n-examples", "1", "--n", "20", "--attack-n", "20", "--bank", "2"],
    "plan": ["--n-examples", "1", "--seconds", "0.01"],
}  # fmt: skip


def said(words: list[str]) -> tuple[int, str]:
    """Run a command; return its exit code and what it says on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    return code, err.getvalue()


def is_one_line(err: str) -> bool:
    """Return whether one line, and only warnings beside it, was said, and it is one of the command."""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("rs-plugin: warning: ")]
    return len(lines) == 1 and lines[0].startswith("rs-plugin: error: ")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with good and bad files; nothing is fetched and no cluster is started."""
    folder = tmp_path_factory.mktemp("fuzz")

    def never(*given: Any, **how: Any) -> Any:
        raise URLError("no network here")

    def no_ray() -> Any:
        raise DependencyError("no Ray here")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        patch.delenv("RS_DATA", raising=False)
        patch.setattr("urllib.request.urlopen", never)
        patch.setattr("urllib.request.urlretrieve", never)
        patch.setattr("rs_plugin.evaluation.executors.on_ray.import_ray", no_ray)
        patch.setattr(torch, "compile", lambda network, **how: network)
        rs.evaluate(toy_model(), toy_data(6), "L2", [0.1], n=200, alpha=0.01, store="good.sqlite")
        rs.evaluate(toy_model(), toy_data(6), "L2", [0.1], n=900, alpha=0.01, store="good.sqlite", stopping="anytime")
        Path("empty").touch()
        Path("text").write_text("hello = [", encoding="utf-8")
        Path("bytes").write_bytes(bytes(range(256)) * 8)
        Path("folder").mkdir()
        Path("good.toml").write_text("n_examples = 1\n", encoding="utf-8")
        yield folder


def options_of(subcommand: str) -> list[argparse.Action]:
    parsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return [action for action in parsers.choices[subcommand]._actions if action.option_strings]


SUBCOMMANDS = ["evaluate", "plan", "curve", "train", "list", "recertify", "fetch", "leaderboard"]
OPTIONS = {name: options_of(name) for name in SUBCOMMANDS}

values = st.one_of(st.sampled_from(STRANGE), st.sampled_from(NAMES), st.text(max_size=12))


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """Return the words of a command line: options of a subcommand with any values, now and then anything."""
    subcommand = draw(st.sampled_from([*SUBCOMMANDS, "", "evaluat", "--version"]))
    words = [subcommand, *draw(st.sampled_from(BEGINNINGS.get(subcommand, [[]])))]
    for _ in range(draw(st.integers(0, 4))):
        known = OPTIONS.get(subcommand, [])
        if known and draw(st.integers(0, 9)):
            action = draw(st.sampled_from(known))
            words.append(action.option_strings[-1])
            if action.nargs != 0:
                words += draw(st.lists(values, min_size=1, max_size=3 if action.nargs else 1))
        else:
            words.append(draw(values))
    return words + KEPT_SMALL.get(subcommand, [])


ONE = ["evaluate", *MODEL, "--store", "one.sqlite", *KEPT_SMALL["evaluate"]]


@THOUSAND
@given(lines())
@example([])
@example(["evaluate", "--store", "\x00"])
@example(["evaluate", "--output", "\x00"])
@example([*ONE, "--compiled"])
@example([*ONE, "--attack", "pgd"])
@example([*ONE, "--attack", "pgd", "--sound"])
def test_any_command_line_ends_in_an_answer_or_one_line(words: list[str]) -> None:
    code, err = said(words)
    assert code in CODES, (words, code)
    assert "Traceback" not in err
    if code == 2 and words:
        assert is_one_line(err), (words, err)


WITH_FILE = ["evaluate", "--config", "fuzzed.toml", *MODEL]

plain = st.one_of(
    st.booleans(), st.integers(-(2**65), 2**65), st.floats(), values, st.lists(values, max_size=3),
    st.lists(st.integers(-5, 5), max_size=3), st.dictionaries(st.text(string.ascii_letters, max_size=3), st.booleans()),
    st.dates(),
)  # fmt: skip


def toml_of(value: Any) -> str:
    """Write a value as TOML; what TOML has no form for comes out wrong, as it may in a file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key or 'a'} = {toml_of(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value).lower()


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return a configuration: known and unknown options with any values, or any bytes."""
    if not draw(st.integers(0, 4)):
        return draw(st.binary(max_size=60))
    names = [action.option_strings[-1].lstrip("-") for action in OPTIONS["evaluate"]]
    keys = st.one_of(st.sampled_from(names), st.sampled_from(["help", "config", "nonsense", "a.b"]))
    chosen = draw(st.lists(st.tuples(keys, plain), max_size=5))
    return "\n".join(f"{key} = {toml_of(value)}" for key, value in chosen).encode("utf-8", "surrogatepass")


@THOUSAND
@given(files())
@example(b"")
@example(b"[evaluate]\nn = 3\n")
@example(b"n_examples = 1\nconfig = 'x'\n")
@example(b"attack = ['pgd']\ncompiled = true\n")
def test_any_configuration_ends_in_an_answer_or_one_line(content: bytes) -> None:
    Path("fuzzed.toml").write_bytes(content)
    code, err = said([*WITH_FILE, *KEPT_SMALL["evaluate"]])
    assert code in CODES, content
    assert "Traceback" not in err
    if code == 2:
        assert is_one_line(err), (content, err)


FAMILIES = ["gaussian", "laplace", "l1_exponential", "mixed_norm", "norm_exponential", "max_tilted_exponential", "os"]
numbers = st.one_of(st.floats().map(str), st.integers().map(str), st.sampled_from(["inf", "nan", "-1", "1e999", "x()"]))


@st.composite
def calls(draw: st.DrawFn) -> str:
    """Return something like a noise."""
    parts = draw(st.lists(st.tuples(st.sampled_from(["k", "sigma", "b", "norm", "power", "scale", ""]), numbers)))
    inner = ", ".join(f"{name}={value}" if name else value for name, value in parts)
    text = f"{draw(st.sampled_from(FAMILIES))}({inner})"
    if draw(st.booleans()):
        return text
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.text(max_size=2)) + text[place + draw(st.integers(0, 2)) :]


@THOUSAND
@given(st.one_of(calls(), st.text(max_size=40)))
@example("gaussian(sigma=" + "(" * 5000 + "1" + ")" * 5000 + ")")
@example("gaussian(sigma=" + "-" * 100_000 + "1)")
@example("__import__('os').system('true')")
@example("gaussian(sigma=9**9**9)")
def test_any_text_is_a_noise_or_one_line(text: str) -> None:
    try:
        noise = rs.parse_noise(text)
    except RSPluginError as error:
        assert str(error)
        return
    assert rs.parse_noise(str(noise)) == noise


def found_in(path: Path) -> dict[str, set[str]]:
    """Return all that is read of a store: by run its votes, after its certificates were made."""
    with VoteStore(path) as store:
        keys = list(store.runs())
        votes = {
            key: {str((v.index, v.label, v.base, v.counts, v.selection, v.digest)) for v in store.votes(key).values()}
            for key in keys
        }
    for key in keys:
        rs.recertify(path, key, "L2", [0.1], alpha=0.01).table()
    return votes


@functools.cache
def found_in_good() -> dict[str, set[str]]:
    return found_in(Path("good.sqlite"))


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, Any]:
    """Return what happens to a store: bytes that change, an end that is cut off, a cell with another value."""
    kind = draw(st.sampled_from(["bytes", "bytes", "cut", "cell", "any"]))
    if kind == "bytes":
        return kind, draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1))
    if kind == "cut":
        return kind, draw(st.floats(0, 1))
    if kind == "any":
        return kind, draw(st.binary(max_size=300))
    columns = ["run", "image", "label", "base", "selection", "counts", "seconds", "digest", "config"]
    cell = st.one_of(
        st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=20), st.binary(),
        st.lists(st.integers(-5, 2**40), max_size=4).map(json.dumps),
    )  # fmt: skip
    return kind, (draw(st.sampled_from(columns)), draw(st.integers(0, 11)), draw(cell))


@THOUSAND
@given(damages())
def test_a_damaged_store_is_read_right_or_refused(damage: tuple[str, Any]) -> None:
    kind, what = damage
    good = Path("good.sqlite").read_bytes()
    path = Path("damaged.sqlite")
    content = bytearray(good)
    if kind == "bytes":
        for place, change in what:
            content[int(place * len(content))] ^= change
    path.write_bytes({"cut": good[: int(what * len(good))] if kind == "cut" else b"", "any": what}.get(kind, content))
    if kind == "cell":
        column, row, value = what
        table, order = ("runs", "key") if column == "config" else ("votes", "run, image")
        with contextlib.suppress(sqlite3.Error, UnicodeEncodeError), contextlib.closing(sqlite3.connect(path)) as file:
            keys = file.execute(f"SELECT {order} FROM {table} ORDER BY {order}").fetchall()
            where = " AND ".join(f"{name} = ?" for name in order.split(", "))
            file.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *keys[row % len(keys)]))
            file.commit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = found_in(path)
        except RSPluginError as error:
            assert str(error)
            return
        expected = found_in_good()
    # What is not there any more is counted again; what is there is as it was.
    assert found.keys() <= expected.keys(), damage
    assert all(votes <= expected[key] for key, votes in found.items()), damage
    path.unlink()
