"""What strangers may send: nothing runs, memory is bounded, and one line says why it is refused (docs/security.md)."""

from __future__ import annotations

import json
import pickle
import sqlite3
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rs_plugin as rs
from rs_plugin.cli.main import main
from rs_plugin.errors import InputError, ParameterError, RSPluginError, StoreError
from rs_plugin.evaluation import VoteStore
from rs_plugin.evaluation.logs import read_log
from rs_plugin.files import LARGEST_TEXT, LARGEST_WEIGHTS, parse_json
from rs_plugin.robustbench.model_info import read_info
from rs_plugin.zoo import load_card
from rs_plugin.zoo.models import card_path
from rs_plugin.zoo.published import published_files
from tests.evaluation.toys import toy_data, toy_model

MANY = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


FOLDER = Path(tempfile.mkdtemp(prefix="rs_plugin_fuzz_"))


class Runs:
    """Whoever unpickles it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_runs_nothing(form: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    if form == "torch":
        torch.save({"state_dict": Runs(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(InputError):
        rs.load_checkpoint(path, "mean_std")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Runs(mark)))
    assert mark.exists(), "the mark works"


def sparse(path: Path, size: int) -> Path:
    """Make a file that claims so many bytes and has none."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_files_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    text, weights = sparse(tmp_path / "a.json", LARGEST_TEXT + 1), sparse(tmp_path / "a.pth", LARGEST_WEIGHTS + 1)
    log = sparse(tmp_path / "log.tsv", (1 << 28) + 1)
    for read, path in (
        (load_card, text), (read_info, text), (published_files, text),
        (lambda p: rs.load_checkpoint(p, "mean"), weights), (lambda p: read_log(p, 0.25, 100, 0.001), log),
    ):  # fmt: skip
        with pytest.raises(RSPluginError, match="no such file has more than"):
            read(path)
    assert main(["evaluate", "--config", str(text)]) == 2


def test_weights_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    card = tmp_path / "digits_gaussian_0.25.json"
    card.write_text(card_path("digits_gaussian_0.25").read_text(encoding="utf-8"), encoding="utf-8")
    sparse(card.with_suffix(".safetensors"), LARGEST_WEIGHTS + 1)
    with pytest.raises(ParameterError, match="no such file has more than"):
        rs.load_base(card)


DEEP = "[" * 200_000


def test_deep_nesting_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text(DEEP, encoding="utf-8")
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting value"):
        parse_json(DEEP)
    for read in (load_card, read_info, published_files):
        with pytest.raises(RSPluginError):
            read(path)
    path.write_text("radii = " + DEEP, encoding="utf-8")
    assert main(["evaluate", "--config", str(path)]) == 2


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "votes.sqlite"
    rs.evaluate(toy_model(), toy_data(), "L2", [0.1], n=200, alpha=0.01, store=path)
    return path


@pytest.mark.parametrize("column", ["selection", "counts"])
@pytest.mark.parametrize("value", [DEEP, "[" + "9" * 5000 + "]", "[1e999]", "{}", "NaN"])
def test_a_store_with_strange_values_is_refused(store: Path, column: str, value: str) -> None:
    import rs_plugin.evaluation.store as module

    with sqlite3.connect(store) as file:
        names = module._ROWS["votes"]
        row = dict(zip(names, file.execute(f"SELECT {', '.join(names)} FROM votes").fetchone(), strict=True))
        row[column] = value
        file.execute(
            f"UPDATE votes SET {column} = ?, checksum = ? WHERE image = ?",
            (value, module._checksum(row.values()), row["image"]),
        )
    file.close()
    with VoteStore(store) as opened, pytest.raises(StoreError, match=r"damaged row|do not add up"):
        opened.votes(next(iter(opened.runs())))


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="from Python 3.11 on")
def test_a_row_of_a_store_has_a_largest_length(store: Path) -> None:
    with sqlite3.connect(store) as file:
        file.execute("UPDATE votes SET counts = '[' || hex(zeroblob(9000000)) || ']'")
    file.close()
    with pytest.raises(StoreError, match="too big; a row has more than 16 MiB"):
        rs.recertify(store, "", "L2")


ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"
AS_A_TABLE = "UPDATE sqlite_master SET type = 'table', rootpage = 2 WHERE type = 'view'"
VIEW = (
    f"ALTER TABLE runs RENAME TO old; CREATE VIEW runs AS {ENDLESS} SELECT 'a' key, '' config, 0.0 created, '' "
    f"checksum FROM t WHERE n < 0"
)


STRANGE = (
    VIEW,
    f"{VIEW}; DROP TABLE old",
    f"{VIEW}; PRAGMA user_version = 2",
    f"{VIEW}; PRAGMA writable_schema = ON; {AS_A_TABLE}",
    f"CREATE VIEW pragma_user_version AS {ENDLESS} SELECT n AS user_version FROM t WHERE n < 0",
    f"CREATE TRIGGER a BEFORE INSERT ON votes BEGIN INSERT INTO runs {ENDLESS} SELECT n, '', 0.0, '' FROM t; END",
    "CREATE TRIGGER a AFTER INSERT ON runs BEGIN UPDATE runs SET config = '{}'; END",
    "CREATE INDEX a ON votes (label) WHERE label LIKE '%a%a%a%a%a%a%a%a%'",
    "CREATE TABLE other (x)",
    "ALTER TABLE votes ADD COLUMN more TEXT",
    "ALTER TABLE votes ADD COLUMN more TEXT AS (upper(counts)) VIRTUAL",
    "ALTER TABLE votes RENAME COLUMN label TO base_",
    "DROP TABLE runs",
    "DROP TABLE runs; CREATE TABLE runs (key PRIMARY KEY, config, created, checksum AS ('') STORED)",
    "DROP TABLE runs; CREATE VIRTUAL TABLE runs USING rtree_i32(key, config, created)",
    "PRAGMA user_version = 2",
)


def test_a_store_with_code_in_it_is_refused_unread(store: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.sqlite" for number in range(len(STRANGE))]
    for path, code in zip(paths, STRANGE, strict=True):
        path.write_bytes(store.read_bytes())
        file = sqlite3.connect(path)
        file.executescript(code)
        file.close()
    before = [path.read_bytes() for path in paths]
    opening = (  # in a process of its own, which can be ended if the code runs after all
        "import sys\n"
        "from rs_plugin.errors import StoreError\n"
        "from rs_plugin.evaluation.store import VoteStore\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        with VoteStore(path): print('opened', path, flush=True)\n"
        "    except StoreError as error: print(error, flush=True)\n"
    )
    command = [sys.executable, "-c", opening, *map(str, paths)]
    root = Path(rs.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    for line, code in zip(done.stdout.splitlines(), STRANGE, strict=True):
        assert "move it away or use another path" in line, (code, line)
    assert [path.read_bytes() for path in paths] == before


def test_what_a_store_says_of_itself_is_not_trusted(store: Path) -> None:
    with VoteStore(store) as opened:
        settings = [
            opened._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("trusted_schema", "ignore_check_constraints")
        ]
    assert settings == [0, 1]


@pytest.mark.parametrize("key", ["'; DROP TABLE votes; --", "%", "_", '" OR 1=1'])
def test_keys_are_values_and_no_code(store: Path, key: str) -> None:
    before = store.read_bytes()
    with pytest.raises(RSPluginError, match="no run"):
        rs.recertify(store, key, "L2")
    assert store.read_bytes() == before


def png_header(side: int) -> bytes:
    """Return the beginning of a picture that claims to be so large."""
    chunk = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 2, 0, 0, 0)
    head = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I4s", 10, b"IDAT") + bytes(14)


def test_a_zip_that_swells_is_refused(tmp_path: Path) -> None:
    """A hundred megabytes of zeros in a hundred kilobytes, and a picture that claims to be large."""
    path = tmp_path / "bomb.zip"
    header = png_header(100_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/0.png", bytes(100 << 20))
        file.writestr("b/1.png", header)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError):
        rs.load_dataset(path)
    for side, reason in ((100_000, "decompression bomb"), (9000, "9000 by 9000 pixels")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a/0.png", png_header(side))
            file.writestr("b/1.png", png_header(side))
        with pytest.raises(InputError, match=reason):
            rs.load_dataset(path)


def test_names_in_a_zip_are_no_paths_to_write_to(tmp_path: Path) -> None:
    path = tmp_path / "slip.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../a/0.png", b"x")
        file.writestr("../../b/1.png", b"x")
    before = {*tmp_path.parent.rglob("*")}
    with pytest.raises(InputError):
        rs.load_dataset(path)
    assert {*tmp_path.parent.rglob("*")} == before


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
good = json.loads(card_path("digits_gaussian_0.25").read_text(encoding="utf-8"))


@MANY
@given(st.dictionaries(st.sampled_from(sorted(good)), anything, max_size=3), st.binary(max_size=40), st.integers(0, 3))
def test_any_card_is_read_or_refused(changes: dict[str, Any], content: bytes, kind: int) -> None:
    path = FOLDER / "card.json"
    path.write_bytes(json.dumps({**good, **changes}).encode() if kind else content)
    try:
        for read in (load_card, read_info, published_files):
            try:
                read(path)
            except RSPluginError as error:
                assert "\n" not in str(error)
    finally:
        path.unlink()


@MANY
@given(st.binary(max_size=200), st.booleans())
def test_any_checkpoint_is_read_or_refused(content: bytes, zipped: bool) -> None:
    path = FOLDER / "checkpoint.pth"
    path.write_bytes((b"PK\x03\x04" if zipped else b"") + content)
    try:
        with pytest.raises(RSPluginError):
            rs.load_checkpoint(path, "mean_std")
    finally:
        path.unlink()
