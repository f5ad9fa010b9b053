"""``rs-plugin``: the entry point, options from a TOML file, and exit codes."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rs_plugin import __version__
from rs_plugin.cli import curve, evaluate, fetch, leaderboard, list_, plan, recertify, train
from rs_plugin.command import Parser, flags_of, one_line, warn
from rs_plugin.errors import (
    ParameterError,
    RSPluginError,
    UncertifiableRadiusWarning,
    UndecidedRadiusWarning,
    WorkerWarning,
    first_line,
)
from rs_plugin.files import read_text

_SUBCOMMANDS = (evaluate, plan, curve, train, list_, recertify, fetch, leaderboard)

_DESCRIPTION = """\
Robustness certificates by randomized smoothing, for L1, L2 and Linf.

Run 'rs-plugin SUBCOMMAND --help' for options and examples."""


class _Stopped(KeyboardInterrupt):
    """SIGTERM, as an interruption."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 2: bad input, with one line that says what and what to do. 3: an attack violated a certificate. 130 or
    143: interrupted, with the command that goes on from there. 141: nobody reads the output any more.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    options = argparse.Namespace()
    try:
        with warnings.catch_warnings():
            for category in (UncertifiableRadiusWarning, UndecidedRadiusWarning, WorkerWarning):
                warnings.simplefilter("always", category)
            warnings.showwarning = lambda message, *_, **__: warn("rs-plugin", message)
            options, unknown = parser.parse_known_args(_nameable(_with_config(parser, _nameable(words))))
            if unknown:
                raise ParameterError(_unknown(parser, options.subcommand, unknown[0]))
            previous = _install_sigterm()
            try:
                code = int(options.run(options))
                sys.stdout.flush()
                return code
            finally:
                if previous is not None:
                    signal.signal(signal.SIGTERM, previous)
    except RSPluginError as error:
        print(f"rs-plugin: error: {one_line(error, _flags(parser, options))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, head for instance, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"rs-plugin: error: {one_line(error)}; check the path, its permissions and free space", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\nrs-plugin: interrupted; {_remedy(options, shlex.join(['rs-plugin', *words]))}", file=sys.stderr)
        return 143 if isinstance(stop, _Stopped) else 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="rs-plugin", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"rs-plugin {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for subcommand in _SUBCOMMANDS:
        own = subcommand.add_parser(subparsers)
        own.add_argument(
            "--config", metavar="FILE", help="options of this subcommand from a TOML file; those on the line win"
        )
    return parser


def _with_config(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the words with the options of a ``--config`` file put before those of the line."""
    finder = Parser(prog="rs-plugin", add_help=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(words)[0].config
    if path is None or not words:
        return words
    subcommand = next((word for word in words if not word.startswith("-")), "")
    flags = {name: a for name, a in _options(parser, subcommand).items() if name != "config"}
    if not flags:
        return words
    extra: list[str] = []
    for key, value in _read_toml(path).items():
        name = key.replace("_", "-")
        if isinstance(value, dict):
            raise ParameterError(f"{path!r} has the table [{key}]; options stand at the top level, without a table")
        if name not in flags or name == "help":
            raise ParameterError(
                f"{path!r} has the option {key!r}, which {subcommand!r} does not take.{_did_you_mean(name, flags)}"
            )
        extra += _option_words(path, name, value, flags[name])
    at = words.index(subcommand) + 1
    return [*words[:at], *extra, *words[at:]]


def _nameable(words: list[str]) -> list[str]:
    """Return the words, all of which could be the name of a file."""
    for word in words:
        try:
            fit = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            fit = False
        if not fit:
            raise ParameterError(f"{word!a} holds a character that no name or number has; take it out")
    return words


def _subparser(parser: argparse.ArgumentParser, subcommand: str) -> argparse.ArgumentParser | None:
    (subparsers,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return subparsers.choices.get(subcommand)


def _options(parser: argparse.ArgumentParser, subcommand: str) -> dict[str, argparse.Action]:
    """Return the options of a subcommand by name, without dashes; none if there is no such subcommand."""
    chosen = _subparser(parser, subcommand)
    return {a.option_strings[-1].lstrip("-"): a for a in chosen._actions if a.option_strings} if chosen else {}


def _flags(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, str]:
    chosen = _subparser(parser, getattr(options, "subcommand", ""))
    return flags_of(chosen) if chosen else {}


def _did_you_mean(name: str, known: Iterable[str], dashes: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {dashes + close[0]!r}?" if close else ""


def _unknown(parser: argparse.ArgumentParser, subcommand: str, word: str) -> str:
    name = word.partition("=")[0]
    hint = _did_you_mean(name.lstrip("-"), _options(parser, subcommand), "--") if name.startswith("-") else ""
    return f"unknown argument {word!r}; 'rs-plugin {subcommand} --help' lists those there are.{hint}"


def _remedy(options: argparse.Namespace, command: str) -> str:
    """Return what to do after an interruption; a training keeps nothing without a checkpoint, or in its first epoch."""
    if not hasattr(options, "checkpoint"):
        return f"to go on: {command}"
    if options.checkpoint is None:
        return f"to start again: {command}; add --checkpoint FILE to keep what is done"
    return f"to {'go on' if Path(options.checkpoint).exists() else 'start again'}: {command}"


def _option_words(path: str, name: str, value: Any, action: argparse.Action) -> list[str]:
    if action.nargs == "?" and isinstance(value, bool):
        return [f"--{name}"] if value else []
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ParameterError(f"{path!r} has {name} = {value!r}; a switch is true or false")
        return [f"--{name}"] if value else []
    if isinstance(value, bool):
        raise ParameterError(f"{path!r} has {name} = {value!r}; it takes a number or text")
    values = value if isinstance(value, list) else [value]
    several = action.nargs not in (None, "?")
    return [f"--{name}", *(str(item) for item in values)] if several else [f"--{name}={value}"]


def _read_toml(path: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(read_text(Path(path)))
    except OSError as error:
        raise ParameterError(f"cannot read the configuration {path!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"the configuration {path!r} is not valid TOML: {first_line(error)}") from None
    return content


def _install_sigterm() -> Any:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise _Stopped

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, as in a test
        return None


if __name__ == "__main__":
    sys.exit(main())
