"""The vote store: one SQLite file, one row per run and image, with integer counts.

Votes are kept, not radii: a new certificate, radius or alpha re-scores an old run without the network. Every row is
written in a transaction, so a process may be killed at any moment; what was committed is complete. Every row has a
checksum, so that a byte that changed on the disk is no other vote.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import Tensor

from rs_plugin.errors import StoreError, UnknownNameError
from rs_plugin.files import parse_json
from rs_plugin.voting import Counts

SCHEMA_VERSION: Final = 3
_APPLICATION_ID: Final = 0x52535047  # "RSPG"
_LOCK_SECONDS: Final = 10.0
_LONGEST_ROW: Final = 1 << 24  # bytes; SQLite's limit is for a value and for the whole row
_MOST_CLASSES: Final = 1 << 20  # leaves 16 bytes a class for its two counts and what is between them

_SCHEMA: Final = f"""
CREATE TABLE runs (
    key TEXT PRIMARY KEY, config TEXT NOT NULL, created REAL NOT NULL, checksum TEXT NOT NULL DEFAULT ''
);
CREATE TABLE votes (
    run TEXT NOT NULL REFERENCES runs(key), image INTEGER NOT NULL, label INTEGER NOT NULL, base INTEGER NOT NULL,
    selection TEXT NOT NULL, counts TEXT NOT NULL, seconds REAL NOT NULL, digest TEXT NOT NULL,
    checksum TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, image)
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


_ROWS: Final = {
    "runs": ("key", "config", "created"),
    "votes": ("run", "image", "label", "base", "selection", "counts", "seconds", "digest"),
}


@dataclass(frozen=True, eq=False)
class ImageVotes:
    """The votes on one image.

    Attributes:
        index: the image's place in the original collection.
        label: its true class.
        base: the base network's class for the image without noise.
        selection: counts of the draws that choose the class, shape (classes,).
        counts: counts of the draws that bound it, shape (classes,).
        seconds: time spent on it.
        digest: of the image and its label, as ``image_digest`` has it.
    """

    index: int
    label: int
    base: int
    selection: Counts
    counts: Counts
    seconds: float
    digest: str


def _columns(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return name, type, default and the like of every column of the tables, hidden and generated ones too."""
    return {table: [row[1:] for row in connection.execute(f"PRAGMA table_xinfo({table})")] for table in _ROWS}


def image_digest(image: Tensor, label: int) -> str:
    """Return a hash of an image's values and its label, by which its votes are known to be its own."""
    values = image.detach().cpu().contiguous().numpy().astype("<f4", copy=False)
    return hashlib.sha256(f"{values.shape} {label} ".encode() + values.tobytes()).hexdigest()[:32]


def _checksum(values: Iterable[object]) -> str:
    """Return a checksum of a row's values, in the order of ``_ROWS``."""
    return hashlib.blake2b(repr(tuple(values)).encode(errors="replace"), digest_size=8).hexdigest()


class VoteStore:
    """A store of votes in one file, or in memory for ``None``.

    A file of schema version 2, which had no checksums, is read as it is, and gets them when a run is written to it.

    Raises:
        StoreError: the file is no store, holds more than a store does, is corrupt, is of another schema version, is
            locked or cannot be written.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.is_dir():
            raise StoreError(f"the vote store {self._name} is a folder; give the path of a file")
        with self._explained("open"):
            try:
                self._connection = sqlite3.connect(
                    ":memory:" if self.path is None else self.path, timeout=_LOCK_SECONDS, isolation_level=None
                )
            except ValueError as error:  # NUL and the like
                raise StoreError(f"{self._name} cannot be the name of a file: {error}; use another path") from error
        if hasattr(self._connection, "setlimit"):  # from Python 3.11 on
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_ROW)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> VoteStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add_run(self, key: str, config: dict[str, Any]) -> None:
        """Note a run, with the largest number of images that was ever asked for.

        Raises:
            StoreError: nothing can be written, or the counts of so many classes would not fit.
        """
        if config.get("num_classes", 0) > _MOST_CLASSES:
            raise StoreError(
                f"this run has {config['num_classes']} classes, and a vote store holds counts of at most "
                f"{_MOST_CLASSES}; use a network with fewer"
            )
        with self._transaction("write to"):
            self._add_checksums()
            known = self._connection.execute("SELECT created FROM runs WHERE key = ?", (key,)).fetchone()
            text = json.dumps(config, sort_keys=True)
            if known is None:
                self._put("INSERT", "runs", [(key, text, time.time())])
            elif config.get("images", 0) > self._config(key).get("images", 0):
                self._put("REPLACE", "runs", [(key, text, float(known[0]))])

    def add_votes(self, key: str, rows: Iterable[ImageVotes]) -> None:
        """Store the votes of images of a run, all or none; an image that is there already is left as it is."""
        values = [
            (
                key, r.index, r.label, r.base,
                json.dumps(r.selection.tolist()), json.dumps(r.counts.tolist()), float(r.seconds), r.digest,
            )
            for r in rows
        ]  # fmt: skip
        with self._transaction("write to"):
            self._add_checksums()
            self._put("INSERT", "votes", values, "ON CONFLICT DO NOTHING")

    def votes(self, key: str) -> dict[int, ImageVotes]:
        """Return the votes of a run by image.

        Raises:
            StoreError: a row does not hold counts that add up to the run's draws.
        """
        with self._explained("read"):
            rows = self._connection.execute("SELECT * FROM votes WHERE run = ? ORDER BY image", (key,)).fetchall()
        config = self._config(key) if rows else {}
        found = [self._parsed(row, config) for row in rows]
        return {row.index: row for row in found}

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the configuration of every run by key, oldest first."""
        with self._explained("read"):
            rows = self._connection.execute("SELECT * FROM runs ORDER BY created").fetchall()
        return {str(row[0]): self._parsed_run(row) for row in rows}

    def begun(self) -> dict[str, float]:
        """Return when every run was begun, in seconds since 1970, by key, oldest first."""
        with self._explained("read"):
            return dict(self._connection.execute("SELECT key, created FROM runs ORDER BY created").fetchall())

    def config(self, key: str) -> dict[str, Any]:
        """Return the configuration of the one run whose key starts with ``key``.

        Raises:
            UnknownNameError: no run, or more than one, has such a key.
        """
        return self._config(self.find(key))

    def find(self, key: str) -> str:
        """Return the whole key of the one run whose key is ``key``, or else starts with it.

        Raises:
            UnknownNameError: no run, or more than one, has such a key.
        """
        keys = [str(known) for known in self.begun()]
        found = [known for known in keys if known == key] or [known for known in keys if known.startswith(key)]
        if len(found) != 1:
            names = [name[:12] for name in found or keys]
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
            if found:
                raise UnknownNameError(f"{len(found)} runs of {self._name} begin with {key!r}: {listed}; give more")
            raise UnknownNameError(f"no run of {self._name} begins with {key!r}; runs there: {listed}")
        return found[0]

    @property
    def _name(self) -> str:
        return "in memory" if self.path is None else repr(str(self.path))

    def _prepare(self) -> None:
        # Nobody knows yet whose file this is: no name that it may define is read before _check_schema.
        with self._transaction("open", "BEGIN"):  # sees one state, also while another process creates the store
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA ignore_check_constraints = ON")  # table_xinfo does not show them
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            empty = self._is_empty() and version == 0 and application == 0
            if not empty:
                self._check_schema(application, version)
        if empty:
            with self._transaction("create"):
                if self._is_empty():
                    for statement in _SCHEMA.strip().split(";\n"):
                        self._connection.execute(statement)

    def _is_empty(self) -> bool:
        return bool(self._connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])

    def _check_schema(self, application: int, version: int) -> None:
        """Refuse what is no store: a view or a trigger in it would be a stranger's code."""
        if application != _APPLICATION_ID:
            raise StoreError(f"{self._name} is an SQLite file of another program; choose another path for the store")
        if version not in (2, SCHEMA_VERSION):
            raise StoreError(
                f"the vote store {self._name} has schema version {version}, this package reads {SCHEMA_VERSION}; use "
                f"the version of rs_plugin that wrote it, or another path"
            )
        strange = self._connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE tbl_name NOT IN ('runs', 'votes') OR NOT coalesce("
            "type = 'table' AND name = tbl_name AND sql LIKE 'CREATE TABLE %' OR type = 'index' AND sql IS NULL, 0)"
        ).fetchone()[0]
        with closing(sqlite3.connect(":memory:")) as model:
            model.executescript(_SCHEMA)
            wanted = _columns(model)
        if version == 2:
            wanted = {table: columns[:-1] for table, columns in wanted.items()}
        if strange or _columns(self._connection) != wanted:
            raise StoreError(
                f"{self._name} holds other tables, columns, views or triggers than a vote store does; it was damaged "
                f"or tampered with: move it away or use another path"
            )

    def _add_checksums(self) -> None:
        """Bring a store of schema version 2, which had none, up to date."""
        if self._connection.execute("PRAGMA user_version").fetchone()[0] != 2:
            return
        for table, columns in _ROWS.items():
            self._connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
            rows = self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
            self._put("REPLACE", table, rows)
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _put(self, verb: str, table: str, rows: Iterable[tuple[Any, ...]], otherwise: str = "") -> None:
        """Write rows with their checksums."""
        names = (*_ROWS[table], "checksum")
        self._connection.executemany(
            f"{verb} INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {otherwise}",
            [(*row, _checksum(row)) for row in rows],
        )

    @contextmanager
    def _transaction(self, action: str, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with self._explained(action):
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Turn SQLite's errors into one line with a remedy."""
        try:
            yield
        except UnicodeDecodeError as error:  # in what SQLite says of a damaged schema
            raise StoreError(
                f"cannot {action} the vote store {self._name}: it is damaged; move it away or use another path"
            ) from error
        except sqlite3.Error as error:
            text = str(error).lower()
            if "locked" in text or "busy" in text:
                remedy = f"another process has held it for {_LOCK_SECONDS:g} s; wait for it or use another path"
            elif "readonly" in text or "read-only" in text:
                remedy = "it is read-only; change its permissions or use another path"
            elif "full" in text:
                remedy = "the disk is full; free some space and run the same command again, finished images are kept"
            elif "too big" in text:
                remedy = (
                    f"a row has more than {_LONGEST_ROW >> 20} MiB, which up to {_MOST_CLASSES} classes do not take; "
                    f"use a network with fewer, or move the store away if it was damaged or tampered with"
                )
            elif "not a database" in text or "malformed" in text or "corrupt" in text:
                remedy = "it is not an SQLite file or is damaged; move it away or use another path"
            elif "unable to open" in text:
                remedy = "its folder does not exist or cannot be written; create it or use another path"
            else:
                remedy = "see the message"
            raise StoreError(f"cannot {action} the vote store {self._name}: {error}; {remedy}") from error

    def _config(self, key: str) -> dict[str, Any]:
        """Return the configuration of the run of that whole key; no other run is looked at."""
        with self._explained("read"):
            row = self._connection.execute("SELECT * FROM runs WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise StoreError(f"the vote store {self._name} has lost run {key[:12]}; move the file away and run again")
        return self._parsed_run(row)

    def _parsed_run(self, row: tuple[Any, ...]) -> dict[str, Any]:
        try:
            _, config, _ = self._unchanged("runs", row)
            return dict(parse_json(config))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"the vote store {self._name} holds a damaged run {str(row[0])[:12]}: {error}; move the file away and "
                f"run again"
            ) from error

    @staticmethod
    def _unchanged(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a row without its checksum, which it has from schema version 3 on, if it is that of the values."""
        values, checksum = row[: len(_ROWS[table])], row[len(_ROWS[table]) :]
        if checksum and checksum != (_checksum(values),):
            raise ValueError("its checksum is another one")
        return values

    def _parsed(self, row: tuple[Any, ...], config: dict[str, Any]) -> ImageVotes:
        try:
            row = self._unchanged("votes", row)
            selection = np.array(parse_json(row[4]), dtype=np.int64)
            counts = np.array(parse_json(row[5]), dtype=np.int64)
            index, label, base, seconds = int(row[1]), int(row[2]), int(row[3]), float(row[6])
            classes = int(config["num_classes"])
            sound = selection.shape == counts.shape == (classes,) and selection.min() >= 0 and counts.min() >= 0
            sound = sound and 0 <= label < classes and 0 <= base < classes
            sound = sound and int(selection.sum()) == int(config["n0"])
            fixed = config["stopping"] == "fixed"
            sound = sound and (int(counts.sum()) == int(config["n"]) if fixed else 0 < counts.sum() <= int(config["n"]))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise StoreError(
                f"the vote store {self._name} holds a damaged row for image {row[1]}: {error}; move the file away and "
                f"run again"
            ) from error
        if not sound:
            raise StoreError(
                f"the vote store {self._name} holds votes for image {row[1]} that do not add up to its run's draws; "
                f"move the file away and run again"
            )
        return ImageVotes(index, label, base, selection, counts, seconds, str(row[7]))
