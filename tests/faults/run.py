"""Breaks runs in every way that was thought of, and looks whether a table comes out otherwise or a vote is lost.

``python tests/faults/run.py`` takes about half an hour on two cores and writes ``tests/faults/RESULTS.md``;
``--only NAME`` tries one fault, ``--share 0.1`` a tenth of the trials. Each trial ends in one of four ways:

* *equal*: the table is that of an undisturbed run, after the command was run again if need be;
* *one line*: the command stopped with one line that says what is wrong, and what was stored is still there;
* *missed*: the fault did not happen, or came after the table was out: the trial says nothing;
* *wrong*: anything else. There must be none.

Full and read-only disks are mounted where that is allowed; else a limit on the size of files and permissions stand in.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import rs_plugin as rs
from rs_plugin.cli.main import main
from rs_plugin.errors import RSPluginError, StoreError
from rs_plugin.evaluation import VoteStore

HERE = Path(__file__).parent
BASE = ["evaluate", "--model", "digits_gaussian_0.25", "--radii", "0.2", "0.4", "0.6", "--n-examples", "60", "--json"]
RUNS = {
    "fixed": [*BASE, "--n", "20000"],
    "anytime": [*BASE, "--stopping", "anytime", "--n", "200000"],
}


class WrongError(Exception):
    """A trial ended as none may."""


@dataclass
class Fault:
    """What is done to runs, and what came of it."""

    name: str
    trials: int
    what: str
    trial: Callable[[Place, random.Random, int], str]
    ends: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class Place:
    """A folder for one trial, and the undisturbed tables."""

    def __init__(self, folder: Path, expected: dict[str, Any]) -> None:
        self.folder, self.expected = folder, expected
        self.store = folder / "runs.sqlite"

    def words(self, mode: str, store: Path | None = None) -> list[str]:
        """Return the command of a run."""
        return [*RUNS[mode], "--store", str(store or self.store), "--output", str(self.folder / "results")]

    def start(self, mode: str, **how: Any) -> subprocess.Popen[str]:
        """Start the command as a process."""
        words = [sys.executable, "-m", "rs_plugin", *self.words(mode, how.pop("store", None)), *how.pop("more", [])]
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **how
        )

    def end(self, mode: str, **how: Any) -> str:
        """Run the command to its end, and return how that was."""
        out, err = (process := self.start(mode, **how)).communicate(timeout=300)
        return self.judged(mode, process.returncode, out, err)

    def judged(self, mode: str, code: int, out: str, err: str) -> str:
        """Return how a command ended."""
        if code == 0:
            if votes_of(json.loads(out)) != self.expected[mode]:
                raise WrongError("another table")
            return "equal"
        lines = [line for line in err.splitlines() if line.strip() and not line.startswith("rs-plugin: warning")]
        # Interrupted within a string that C code has run, Python ends by the signal after all: 130 to a shell as well.
        if code in (2, 130, 143, -signal.SIGINT) and len(lines) == 1 and lines[0].startswith("rs-plugin: "):
            return "one line"
        raise WrongError(f"exit code {code}, {len(lines)} lines: {err[-300:]!r}")

    def kept(self) -> dict[str, dict[int, str]]:
        """Return all that is stored."""
        if not self.store.exists() or not self.store.stat().st_size:
            return {}
        with VoteStore(self.store) as store:
            return {
                key: {i: str((v.label, v.base, v.selection, v.counts)) for i, v in store.votes(key).items()}
                for key in store.runs()
            }

    def nothing_lost(self, before: dict[str, dict[int, str]]) -> None:
        """Check that everything that was stored is there as it was."""
        after = self.kept()
        for key, votes in before.items():
            if any(after.get(key, {}).get(index) != value for index, value in votes.items()):
                raise WrongError("stored votes are lost or changed")


def in_main(pid: int) -> bool:
    """Return whether a process has a handler of SIGTERM, which ``rs_plugin.cli.main.main`` installs and removes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return False
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def votes_of(content: dict[str, Any]) -> Any:
    """Return what must be equal of a command's JSON: all records but for their seconds."""
    return [
        [{name: value for name, value in record.items() if name != "seconds"} for record in run["records"]]
        for run in content["runs"]
    ]


def mode_of(number: int) -> str:
    return ("fixed", "anytime")[number % 2]


def killed(place: Place, chance: random.Random, number: int) -> str:
    """SIGKILL at a random moment, from the start of the process on; then the command again."""
    return _signalled(place, chance, number, signal.SIGKILL)


def interrupted(place: Place, chance: random.Random, number: int) -> str:
    """SIGINT or SIGTERM at a random moment; then the command again."""
    return _signalled(place, chance, number, (signal.SIGINT, signal.SIGTERM)[number // 2 % 2])


def _signalled(place: Place, chance: random.Random, number: int, what: signal.Signals) -> str:
    mode = mode_of(number)
    process = place.start(mode)
    # Half of the moments are after the store is there, since half of the time goes into imports.
    if chance.random() < 0.5:
        while not place.store.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 2.0))
    else:
        time.sleep(chance.uniform(0.0, 4.0))
    handled = what != signal.SIGKILL and in_main(process.pid)
    process.send_signal(what)
    out, err = process.communicate(timeout=60)
    late = not handled and out.endswith("\n}\n")  # all of the table
    if late:
        place.judged(mode, 0, out, err)
    elif (handled or process.returncode != -what) and place.judged(mode, process.returncode, out, err) != "one line":
        raise WrongError("the signal did not stop it")
    before = place.kept()
    ended = place.end(mode)
    place.nothing_lost(before)
    return "missed" if late else ended


def frozen(place: Place, chance: random.Random, number: int) -> str:
    """SIGSTOP for some seconds in mid-run, as a suspended laptop has it."""
    mode = mode_of(number)
    process = place.start(mode)
    time.sleep(chance.uniform(2.0, 6.0))
    process.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    missed = not in_main(process.pid)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=120)
    ended = place.judged(mode, process.returncode, out, err)
    return "missed" if missed else ended


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[dict[str, Any]]:
    """Give a folder so many kilobytes; where that is not allowed, yield a limit on the size of files."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield {}
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    yield {"preexec_fn": limit}


def full(place: Place, chance: random.Random, number: int) -> str:
    """A disk that fills up: 4 to 60 KB are free. Then there is room, and the command is run again."""
    mode, small = mode_of(number), place.folder / "small"
    with small_disk(small, chance.randrange(4, 60, 4)) as how:
        first = place.end(mode, store=small / "runs.sqlite", **how)
        if (small / "runs.sqlite").exists():
            shutil.copy(small / "runs.sqlite", place.store)
            journal = small / "runs.sqlite-journal"
            if journal.exists():
                shutil.copy(journal, place.folder / "runs.sqlite-journal")
    before = place.kept()
    if place.end(mode) != "equal":
        raise WrongError("the second run did not end")
    place.nothing_lost(before)
    return "missed" if first == "equal" else first  # there was room enough


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder and what is in it read-only."""
    bind = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode == 0
    if bind:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    else:
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555)
    try:
        yield
    finally:
        if bind:
            subprocess.run(["umount", "-l", folder], check=True)
        else:
            for path in (folder, *folder.iterdir()):
                path.chmod(0o755)


def listed(store: Path) -> tuple[int, str]:
    """Return how recertify ends on a store, and its list of the runs there."""
    words = [sys.executable, "-m", "rs_plugin", "recertify", "--store", str(store)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def forbidden(place: Place, chance: random.Random, number: int) -> str:
    """A store that can be read and not written: recertify reads it, and evaluate stops where a vote is missing."""
    mode, folder = mode_of(number), place.folder / "forbidden"
    folder.mkdir()
    process = place.start(mode, store=folder / "runs.sqlite")
    while not (folder / "runs.sqlite").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 2.0))
    process.kill()
    process.communicate()
    copied, writable = (shutil.copytree(folder, place.folder / name) for name in ("copied", "writable"))
    with read_only(folder):
        if os.access(folder, os.W_OK):
            return "missed"
        first = place.end(mode, store=folder / "runs.sqlite")
        found = listed(folder / "runs.sqlite")
    expected = listed(writable / "runs.sqlite")
    # What was killed within a transaction must be rolled back, which takes writing.
    torn = (copied / "runs.sqlite-journal").exists()
    if found != expected and not (torn and found[0] == 2):
        raise WrongError(f"recertify ended with {found}, where it can write with {expected}")
    for path in copied.iterdir():
        if path.read_bytes() != (folder / path.name).read_bytes():
            raise WrongError(f"{path.name} changed")
    return first


def in_process(words: list[str]) -> tuple[int, str, str]:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def damaged(place: Place, chance: random.Random, number: int) -> str:
    """A page of the store becomes noise, zeros or another page, or one bit of it flips; all votes are there."""
    mode = mode_of(number)
    whole = place.folder.parent / f"{mode}.sqlite"
    if not whole.exists():
        place.judged(mode, *in_process(place.words(mode, whole)))
    undamaged = whole.read_bytes()
    content = bytearray(undamaged)
    start = 4096 * chance.randrange(len(content) // 4096)
    kind = number // 2 % 4
    if kind == 0:
        content[start : start + 4096] = chance.randbytes(4096)
    elif kind == 1:
        content[start : start + 4096] = bytes(4096)
    elif kind == 2:
        other = 4096 * chance.randrange(len(content) // 4096)
        content[start : start + 4096] = content[other : other + 4096]
    else:
        content[start + chance.randrange(4096)] ^= 1 << chance.randrange(8)
    place.store.write_bytes(content)
    ended = place.judged(mode, *in_process(place.words(mode)))
    return "missed" if content == undamaged else ended


def together(place: Place, chance: random.Random, number: int) -> str:
    """Two processes count the same run into one store, or two runs."""
    modes = mode_of(number), mode_of(number + number // 2 % 2)
    first = place.start(modes[0])
    time.sleep(chance.uniform(0.0, 1.0))
    second = place.start(modes[1])
    ends = []
    for mode, process in zip(modes, (first, second), strict=True):
        out, err = process.communicate(timeout=120)
        ends.append(place.judged(mode, process.returncode, out, err))
    if ends != ["equal", "equal"]:
        raise WrongError(f"they ended {ends}")
    return "equal"


class Moody(nn.Module):
    """A network that fails now and then while a file is there, which is nothing that its fingerprint knows of."""

    def __init__(self, network: nn.Module, sign: Path, how: str) -> None:
        super().__init__()
        self.network, self.sign, self.how = network, str(sign), how

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x)
        if os.path.exists(self.sign) and os.urandom(1)[0] < 20:  # noqa: PTH110
            if self.how == "raises":
                raise RuntimeError("out of luck")
            if self.how == "kills":
                raise MemoryError
            return scores * float("nan")
        return scores


def moody(place: Place, chance: random.Random, number: int) -> str:
    """A network that raises, or answers NaN, in one pass of 13; the run is begun again until it ends."""
    mode, sign = mode_of(number), place.folder.parent / "sign"
    network = Moody(rs.load_base("digits_gaussian_0.25"), sign, ("raises", "nan", "kills")[number // 2 % 3])
    model = rs.SmoothedClassifier(network, rs.Gaussian(0.25), 10)
    how: dict[str, Any] = {"n": 2000} if mode == "fixed" else {"stopping": "anytime", "n": 4000}
    how |= {"radii": [0.2, 0.4], "n_examples": 30, "workers": 2}
    expected = rs.evaluate(model, store=None, **how).records().drop(columns="seconds")
    sign.touch()
    failures = 0
    try:
        for _ in range(400):
            before = place.kept()
            try:
                found = rs.evaluate(model, store=place.store, **how).records().drop(columns="seconds")
            except RSPluginError as error:
                failures += 1
                if isinstance(error, StoreError) or "\n" in str(error):
                    raise WrongError(f"{error!r}") from error
                place.nothing_lost(before)
                if failures > 60:
                    sign.unlink(missing_ok=True)  # its luck turns
                continue
            if not found.equals(expected):
                raise WrongError("another table")
            return "equal" if failures else "missed"
    finally:
        sign.unlink(missing_ok=True)
    raise WrongError("it never ended")


def busy_workers(process: subprocess.Popen[str]) -> list[int]:
    """Return Ray's actors below a process that count; actors are named after what they do when they do it."""
    import psutil

    try:
        children = psutil.Process(process.pid).children(recursive=True)
        names = {child.pid: " ".join(child.cmdline()) for child in children}
    except psutil.Error:  # one of them has just ended
        return []
    return [pid for pid, name in names.items() if "ray::" in name and "count" in name]


def of_ray(place: Place, chance: random.Random, number: int, what: signal.Signals) -> str:
    mode = mode_of(number)
    process = place.start(mode, more=["--executor", "ray", "--workers", "2", "--n-examples", "60"])
    deadline = time.monotonic() + 120.0
    missed = True
    while missed and process.poll() is None and time.monotonic() < deadline:
        busy = busy_workers(process)
        if busy:
            time.sleep(chance.uniform(0.0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(busy[0], what)
                missed = not in_main(process.pid)
        time.sleep(0.02)
    out, err = process.communicate(timeout=280)
    ended = place.judged(mode, process.returncode, out, err)
    return "missed" if missed else ended


def worker_stopped(place: Place, chance: random.Random, number: int) -> str:
    """One of two workers of Ray is stopped for good (SIGSTOP)."""
    return of_ray(place, chance, number, signal.SIGSTOP)


def worker_killed(place: Place, chance: random.Random, number: int) -> str:
    """One of two workers of Ray is killed."""
    return of_ray(place, chance, number, signal.SIGKILL)


FAULTS = [
    Fault("killed", 100, "SIGKILL at a random moment, then run again", killed),
    Fault("interrupted", 20, "SIGINT or SIGTERM at a random moment, then run again", interrupted),
    Fault("frozen", 6, "SIGSTOP for three seconds", frozen),
    Fault("full", 20, "4 to 60 KB are left on the disk, then run again with room", full),
    Fault("read-only", 6, "the store cannot be written", forbidden),
    Fault("damaged", 200, "a page of the store is noise, zeros, another page, or has one bit flipped", damaged),
    Fault("together", 12, "two processes count into one store", together),
    Fault("moody", 18, "a network that raises or answers NaN in one pass of 13, run again until it ends", moody),
    Fault("worker stopped", 4, "one of two workers of Ray is stopped for good", worker_stopped),
    Fault("worker killed", 4, "one of two workers of Ray is killed", worker_killed),
]


def tried(fault: Fault, trials: int, seed: int, expected: dict[str, Any]) -> None:
    """Try a fault so many times."""
    chance = random.Random(f"{seed} {fault.name}")
    with tempfile.TemporaryDirectory() as root:
        for number in range(trials):
            folder = Path(root) / f"trial{number}"
            folder.mkdir()
            try:
                end = fault.trial(Place(folder, expected), chance, number)
            except WrongError as wrong:
                end = "wrong"
                fault.notes.append(f"trial {number}: {wrong}")
            except Exception:
                end = "wrong"
                fault.notes.append(f"trial {number}: {traceback.format_exc()}")
            fault.ends[end] += 1
            shutil.rmtree(folder, ignore_errors=True)
            print(f"\r{fault.name}: {dict(fault.ends)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for note in fault.notes:
        print(note, file=sys.stderr)


def page(faults: list[Fault], seed: int) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Runs that were broken on purpose",
        "",
        "Written by `python tests/faults/run.py`, which says what the columns mean. "
        f"Seed {seed}; Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores.",
        "",
        "| fault | what is done | trials | equal | one line | missed | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for fault in faults:
        ends = [fault.ends[end] for end in ("equal", "one line", "missed", "wrong")]
        lines.append(f"| {fault.name} | {fault.what} | {sum(ends)} | {' | '.join(map(str, ends))} |")
    return "\n".join(lines) + "\n"


def _main() -> int:
    parser = argparse.ArgumentParser(description="Break runs on purpose.")
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS], help="and leave the other results alone")
    parser.add_argument("--share", type=float, default=1.0, help="of the trials (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, by what is begun too
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in RUNS:
            code, out, err = in_process(Place(Path(folder), {}).words(mode))
            assert code == 0, err
            expected[mode] = votes_of(json.loads(out))
    faults = [fault for fault in FAULTS if args.only in (None, fault.name)]
    for fault in faults:
        tried(fault, max(1, round(args.share * fault.trials)), args.seed, expected)
    text = page(faults, args.seed)
    if args.share == 1.0:
        path = HERE / "RESULTS.md"
        rows = {line.split("|")[1]: line for line in text.splitlines() if line.startswith("|")}
        known = path.read_text(encoding="utf-8") if args.only else text
        kept = [rows.get(line.split("|")[1], line) if line.startswith("|") else line for line in known.splitlines()]
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(text)
    return int(any(fault.ends["wrong"] for fault in faults))


if __name__ == "__main__":
    sys.exit(_main())
