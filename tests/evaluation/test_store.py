"""The vote store: whatever happens to its file, one line says so and nothing is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rs_plugin
import rs_plugin.evaluation.store as store_module
from rs_plugin.errors import StoreError, UnknownNameError
from rs_plugin.evaluation.store import ImageVotes, VoteStore

CONFIG = {"num_classes": 3, "n0": 4, "n": 10, "stopping": "fixed", "images": 40}


def row(index: int, selection: tuple[int, ...] = (1, 3, 0), counts: tuple[int, ...] = (2, 8, 0)) -> ImageVotes:
    return ImageVotes(index, 1, 2, np.array(selection), np.array(counts), 0.25, "ab")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that holds one run of two images."""
    file = tmp_path / "votes.sqlite"
    with VoteStore(file) as store:
        store.add_run("abc", CONFIG)
        store.add_votes("abc", [row(0), row(7)])
    return file


def refused(action: Callable[[], object], *words: str) -> str:
    """Return the message of the StoreError that an action raises: one line with the words."""
    with pytest.raises(StoreError) as raised:
        action()
    text = str(raised.value)
    assert "\n" not in text and isinstance(raised.value, OSError)
    for word in words:
        assert word in text, (word, text)
    return text


def read(path: Path) -> dict[int, ImageVotes]:
    with VoteStore(path) as store:
        return store.votes("abc")


def change(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def forge(path: Path, statement: str, *values: Any) -> None:
    """Change a store as a stranger may who knows how checksums are made."""
    change(path, statement, *values)
    connection = sqlite3.connect(path)
    for table, columns in store_module._ROWS.items():
        for found in connection.execute(f"SELECT rowid, {', '.join(columns)} FROM runs" if table == "runs" else
                                        f"SELECT 0, {', '.join(columns)} FROM votes").fetchall():  # fmt: skip
            where = " AND ".join(f"{name} IS ?" for name in columns)
            connection.execute(
                f"UPDATE {table} SET checksum = ? WHERE {where}", (store_module._checksum(found[1:]), *found[1:])
            )
    connection.commit()
    connection.close()


MEANS: list[Callable[..., None]] = [change, forge]


def test_rows_come_back_as_they_were(path: Path) -> None:
    rows = read(path)
    assert sorted(rows) == [0, 7]
    assert (rows[7].index, rows[7].label, rows[7].base, rows[7].seconds) == (7, 1, 2, 0.25)
    assert rows[7].selection.tolist() == [1, 3, 0] and rows[7].counts.tolist() == [2, 8, 0]
    assert rows[7].counts.dtype == np.int64


def test_a_stored_image_is_never_overwritten(path: Path) -> None:
    with VoteStore(path) as store:
        store.add_votes("abc", [row(7, counts=(10, 0, 0)), row(8)])
        store.add_run("abc", {**CONFIG, "n": 99})
        assert store.votes("abc")[7].counts.tolist() == [2, 8, 0]
        assert sorted(store.votes("abc")) == [0, 7, 8]
        assert store.config("abc") == CONFIG


def test_rows_are_added_all_or_none(path: Path) -> None:
    with VoteStore(path) as store:
        bad = ImageVotes(9, None, 0, np.array([1]), np.array([1]), 0.0, "")  # type: ignore[arg-type]
        refused(lambda: store.add_votes("abc", [row(8), bad]), "votes.sqlite")
        assert sorted(store.votes("abc")) == [0, 7]
        store.add_votes("abc", [row(8)])
    assert sorted(read(path)) == [0, 7, 8]


def test_a_store_in_memory() -> None:
    with VoteStore(None) as store:
        store.add_run("abc", CONFIG)
        store.add_votes("abc", [row(1)])
        assert list(store.votes("abc")) == [1]
        with pytest.raises(UnknownNameError, match="in memory"):
            store.find("x")


def test_other_schema_version(path: Path) -> None:
    change(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    refused(lambda: VoteStore(path), str(path), "schema version 99", "another path")
    assert path.read_bytes() == before


def test_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    change(path, "CREATE TABLE mine (x)")
    before = path.read_bytes()
    refused(lambda: VoteStore(path), str(path), "another program", "choose another path")
    assert path.read_bytes() == before


def test_file_with_an_application_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    change(path, "PRAGMA application_id = 77")
    refused(lambda: VoteStore(path), "another program")


@pytest.mark.parametrize("content", [b"no database\n" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.sqlite"
    path.write_bytes(content)
    refused(lambda: VoteStore(path), str(path), "use another path")
    assert path.read_bytes() == content


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_truncated_file(path: Path, keep: float) -> None:
    with VoteStore(path) as store:
        store.add_votes("abc", [row(100 + i) for i in range(300)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(lambda: read(path), str(path), "use another path")
    path.write_bytes(whole)
    assert len(read(path)) == 302


def test_damaged_pages(path: Path) -> None:
    with VoteStore(path) as store:
        store.add_votes("abc", [row(100 + i) for i in range(300)])
    whole = bytearray(path.read_bytes())
    for page in range(1, len(whole) // 4096):
        broken = whole.copy()
        broken[page * 4096 : page * 4096 + 64] = np.random.default_rng(page).bytes(64)
        path.write_bytes(bytes(broken))
        try:
            rows = read(path)  # a page that no row lies on may go unnoticed
        except (StoreError, UnknownNameError) as error:
            assert "\n" not in str(error)
        else:
            assert all(int(r.counts.sum()) == 10 for r in rows.values())


def test_folder_as_path(tmp_path: Path) -> None:
    refused(lambda: VoteStore(tmp_path), str(tmp_path), "is a folder", "path of a file")


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "votes.sqlite"
    refused(lambda: VoteStore(path), str(path), "create it or use another path")
    assert not path.parent.exists()


def test_read_only_connection(path: Path) -> None:
    with VoteStore(path) as store:
        store._connection.execute("PRAGMA query_only = ON")
        refused(lambda: store.add_votes("abc", [row(8)]), str(path), "read-only", "permissions")
        assert sorted(store.votes("abc")) == [0, 7]


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser writes to read-only files")
def test_read_only_file(path: Path) -> None:
    path.chmod(stat.S_IRUSR)
    assert sorted(read(path)) == [0, 7]
    with VoteStore(path) as store:
        refused(lambda: store.add_votes("abc", [row(8)]), str(path), "read-only")


def test_locked_by_another_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    with VoteStore(path) as store:
        other.execute("BEGIN IMMEDIATE")
        refused(lambda: store.add_votes("abc", [row(8)]), str(path), "another process has held it", "wait")
        assert sorted(store.votes("abc")) == [0, 7]  # reading goes on
        other.execute("COMMIT")
        store.add_votes("abc", [row(8)])
        other.execute("BEGIN EXCLUSIVE")
        refused(lambda: store.votes("abc"), "another process has held it")
        refused(lambda: VoteStore(path), "another process has held it")
    other.close()
    assert sorted(read(path)) == [0, 7, 8]


def test_disk_full(path: Path) -> None:
    with VoteStore(path) as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = [row(100 + i) for i in range(2000)]
        refused(lambda: store.add_votes("abc", many), str(path), "disk is full", "free some space", "are kept")
        assert sorted(store.votes("abc")) == [0, 7]
        store._connection.execute("PRAGMA max_page_count = 100000")
        store.add_votes("abc", many)
    assert len(read(path)) == 2002


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("counts", "[2, 8"),
        ("counts", "nothing"),
        ("counts", '{"a": 1}'),
        ("counts", "[2, 8, null]"),
        ("counts", '["2", "8", "x"]'),
        ("counts", "[99999999999999999999, 1, 0]"),
        ("counts", b"\xff\xfe"),
        ("counts", "[2.5, 7.5, 0.4]"),
        ("counts", "[[2, 8], [0, 0]]"),
        ("selection", "[]"),
        ("seconds", "soon"),
        ("label", "cat"),
        ("base", "dog"),
        ("label", 3),
        ("base", -1),
    ],
)
@pytest.mark.parametrize("means", MEANS)
def test_damaged_row(path: Path, column: str, value: object, means: Callable[..., None]) -> None:
    means(path, f"UPDATE votes SET {column} = ? WHERE image = 7", value)
    refused(lambda: read(path), str(path), "image 7")
    change(path, "DELETE FROM votes WHERE image = 7")
    assert sorted(read(path)) == [0]


@pytest.mark.parametrize("config", ["{", "[]", "7", '"text"', '{"num_classes": 3}', '{"num_classes": "x", "n0": 4}'])
@pytest.mark.parametrize("means", MEANS)
def test_damaged_run(path: Path, config: str, means: Callable[..., None]) -> None:
    means(path, "UPDATE runs SET config = ?", config)
    refused(lambda: read(path), str(path))


@pytest.mark.parametrize(
    ("selection", "counts"),
    [
        ("[1, 3, 0]", "[2, 7, 0]"),
        ("[1, 3, 0]", "[2, 9, 0]"),
        ("[1, 3, 0]", "[12, -2, 0]"),
        ("[1, 2, 0]", "[2, 8, 0]"),
        ("[1, 3]", "[2, 8]"),
        ("[1, 3, 0, 0]", "[2, 8, 0, 0]"),
    ],
)
def test_counts_that_do_not_add_up(path: Path, selection: str, counts: str) -> None:
    forge(path, "UPDATE votes SET selection = ?, counts = ? WHERE image = 7", selection, counts)
    refused(lambda: read(path), str(path), "image 7", "do not add up", "move the file away")


def test_anytime_counts_may_stop_early_but_not_exceed_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"
    with VoteStore(path) as store:
        store.add_run("abc", {**CONFIG, "stopping": "anytime"})
        store.add_votes("abc", [row(0, counts=(1, 2, 0))])
        assert store.votes("abc")[0].counts.sum() == 3
        store.add_votes("abc", [row(1, counts=(1, 10, 0))])
        refused(lambda: store.votes("abc"), "image 1", "do not add up")
    forge(path, "UPDATE votes SET counts = '[0, 0, 0]'")
    refused(lambda: read(path), "do not add up")


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", 0), ("base", 0), ("counts", "[8, 2, 0]"), ("selection", "[3, 1, 0]"), ("seconds", 1), ("digest", "ac")],
)
def test_a_value_that_changed_is_seen_however_likely_it_is(path: Path, column: str, value: object) -> None:
    change(path, f"UPDATE votes SET {column} = ? WHERE image = 7", value)
    refused(lambda: read(path), "image 7", "its checksum is another one")
    change(path, "DELETE FROM votes WHERE image = 7")
    change(path, "UPDATE votes SET image = 3 WHERE image = 0")
    refused(lambda: read(path), "image 3", "its checksum is another one")


def test_a_run_that_changed_is_seen(path: Path) -> None:
    change(path, "UPDATE runs SET config = replace(config, '10', '99')")
    refused(lambda: read(path), "damaged run abc", "its checksum is another one")


OLDER = """
CREATE TABLE runs (key TEXT PRIMARY KEY, config TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE votes (
    run TEXT NOT NULL REFERENCES runs(key), image INTEGER NOT NULL, label INTEGER NOT NULL, base INTEGER NOT NULL,
    selection TEXT NOT NULL, counts TEXT NOT NULL, seconds REAL NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (run, image)
) WITHOUT ROWID;
INSERT INTO votes VALUES ('abc', 0, 1, 2, '[1, 3, 0]', '[2, 8, 0]', 0.25, 'ab');
INSERT INTO votes VALUES ('abc', 7, 1, 2, '[1, 3, 0]', '[2, 8, 0]', 0.25, 'ab');
PRAGMA application_id = 1381191751;
PRAGMA user_version = 2;
"""


def older(path: Path) -> None:
    """Write a store of schema version 2, which had no checksums."""
    connection = sqlite3.connect(path)
    connection.executescript(OLDER)
    connection.execute("INSERT INTO runs VALUES ('abc', ?, 5.0)", (json.dumps(CONFIG),))
    connection.commit()
    connection.close()


def columns(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    found = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    connection.close()
    return found


def test_a_store_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "older.sqlite"
    older(path)
    path.chmod(stat.S_IRUSR)
    before = path.read_bytes()
    with VoteStore(path) as store:
        store._connection.execute("PRAGMA query_only = ON")
        assert sorted(store.votes("abc")) == [0, 7]
        assert store.votes("abc")[7].counts.tolist() == [2, 8, 0]
        assert store.runs() == {"abc": CONFIG} == {store.find("a"): store.config("ab")}
        assert store.begun() == {"abc": 5.0}
    assert path.read_bytes() == before


@pytest.mark.parametrize("first", ["run", "votes"])
def test_a_store_without_checksums_gets_them_with_the_first_write(tmp_path: Path, first: str) -> None:
    path = tmp_path / "older.sqlite"
    older(path)
    with VoteStore(path) as reader, VoteStore(path) as store:
        assert sorted(reader.votes("abc")) == [0, 7]
        if first == "run":
            store.add_run("abc", {**CONFIG, "images": 50})
        store.add_votes("abc", [row(8)])
        store.add_run("abc", {**CONFIG, "images": 60})
        assert sorted(reader.votes("abc")) == [0, 7, 8]  # though it was opened before
        assert reader.runs() == {"abc": {**CONFIG, "images": 60}}
        reader.add_votes("abc", [row(9)])
        assert reader.begun() == {"abc": 5.0}
    assert sorted(read(path)) == [0, 7, 8, 9]
    assert (columns(path, "runs"), columns(path, "votes")) == (4, 9)
    change(path, "UPDATE votes SET label = 0 WHERE image = 7")
    refused(lambda: read(path), "image 7", "its checksum is another one")


def test_a_store_without_checksums_that_cannot_be_written_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "older.sqlite"
    older(path)
    before = path.read_bytes()
    bad = ImageVotes(9, None, 0, np.array([1]), np.array([1]), 0.0, "")  # type: ignore[arg-type]
    with VoteStore(path) as store:
        refused(lambda: store.add_votes("abc", [bad]), "cannot write to")
        assert sorted(store.votes("abc")) == [0, 7]
    assert (columns(path, "runs"), columns(path, "votes")) == (3, 8)
    assert path.read_bytes() == before


def test_reading_leaves_an_older_process_that_counts_alone(tmp_path: Path) -> None:
    path = tmp_path / "older.sqlite"
    older(path)
    counting = sqlite3.connect(path)
    assert sorted(read(path)) == [0, 7]
    counting.execute("INSERT INTO votes VALUES ('abc', 8, 1, 2, '[1, 3, 0]', '[2, 8, 0]', 0.25, 'ab')")
    counting.commit()
    counting.close()
    assert sorted(read(path)) == [0, 7, 8]


def test_a_damaged_store_without_checksums_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "older.sqlite"
    older(path)
    change(path, "DROP TABLE runs")
    before = path.read_bytes()
    refused(lambda: VoteStore(path), str(path), "other tables", "use another path")
    assert path.read_bytes() == before


def test_a_damaged_run_leaves_the_others_as_they_are(path: Path) -> None:
    with VoteStore(path) as store:
        store.add_run("abd", {**CONFIG, "seed": 1})
        store.add_votes("abd", [row(1)])
    change(path, "UPDATE runs SET config = '{' WHERE key = 'abc'")
    with VoteStore(path) as store:
        assert store.find("abd") == "abd" and store.config("abd")["seed"] == 1
        assert sorted(store.votes("abd")) == [1]
        store.add_run("abd", {**CONFIG, "seed": 1, "images": 50})
        assert store.config("abd")["images"] == 50
        for read_it in (store.runs, lambda: store.config("abc"), lambda: store.votes("abc")):
            refused(read_it, "damaged run abc")


def test_a_run_that_is_lost_is_told(path: Path) -> None:
    change(path, "DELETE FROM runs")
    refused(lambda: read(path), "has lost run abc")


def test_the_counts_of_the_most_classes_fit_and_more_are_refused_at_once(tmp_path: Path) -> None:
    """A count of all classes with as many digits as 10^8 draws allow; 2^20 is what the store promises."""
    classes, n = 1 << 20, 10**8
    config = {"num_classes": classes, "n0": n, "n": n, "stopping": "fixed", "images": 1}
    counts = np.full(classes, n // classes)
    counts[0] += n - counts.sum()
    with VoteStore(tmp_path / "votes.sqlite") as store:
        store.add_run("abc", config)
        store.add_votes("abc", [row(0, tuple(counts), tuple(counts))])
        assert (store.votes("abc")[0].counts == counts).all()
        refused(
            lambda: store.add_run("b", {**config, "num_classes": classes + 1}), "1048577 classes", "at most 1048576"
        )
        assert list(store.runs()) == ["abc"]


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="from Python 3.11 on")
def test_a_row_that_does_not_fit(path: Path) -> None:
    long = row(8, counts=tuple([10**17] * 10**6))
    with VoteStore(path) as store:
        refused(lambda: store.add_votes("abc", [long]), "too big", "16 MiB", "use a network with fewer")
        assert sorted(store.votes("abc")) == [0, 7]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_has(name: str) -> None:
    refused(lambda: VoteStore(name), "cannot be the name of a file")


def test_runs_are_found_by_the_beginning_of_their_key(tmp_path: Path) -> None:
    with VoteStore(tmp_path / "votes.sqlite") as store:
        for key in ("aa1", "aa2", "b"):
            store.add_run(key, {**CONFIG, "key": key})
        assert list(store.runs()) == ["aa1", "aa2", "b"]
        assert (store.find("aa2"), store.find("b")) == ("aa2", "b")
        with pytest.raises(UnknownNameError, match="2 runs"):
            store.find("aa")
        with pytest.raises(UnknownNameError, match="no run"):
            store.find("c")
        store.add_run("aa", CONFIG)
        assert store.find("aa") == "aa", "a whole key is no beginning"


def test_two_writers_fill_one_run(path: Path) -> None:
    with VoteStore(path) as one, VoteStore(path) as other:
        one.add_votes("abc", [row(1), row(2)])
        other.add_votes("abc", [row(2), row(3)])
        assert sorted(one.votes("abc")) == sorted(other.votes("abc")) == [0, 1, 2, 3, 7]


def test_many_processes_may_create_one_store(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rs_plugin.evaluation.store import VoteStore\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "for i in range(25):\n"
        "    with VoteStore(f'{sys.argv[1]}.{i}') as store: store.add_run('abc', {})\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "votes")]
    root, pipe = Path(rs_plugin.__file__).parents[1], subprocess.PIPE
    processes = [subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120)[1] for process in processes] == ["", ""]


def test_configurations_are_stored_as_plain_json(path: Path) -> None:
    connection = sqlite3.connect(path)
    (config,) = connection.execute("SELECT config FROM runs").fetchone()
    connection.close()
    assert json.loads(config) == CONFIG
