"""What command lines share: their parser, the types of options, and how errors and warnings are printed."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from rs_plugin.errors import ParameterError

#: Help of --sound, which several commands have.
SOUND: Final = "exact Gaussian or Laplace noise on a grid of 1/N, N = 255 by default, for images that lie on it"

WIDTH: Final = 80  # of a terminal


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; options are spelt out, so that none is overlooked."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Raise ParameterError."""
        raise ParameterError(f"{message}; see '{self.prog} --help'")


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    hint = f"; write {int(value)}" if value.is_integer() and abs(value) < 1e15 else ""
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number{hint}")


def natural(text: str) -> int:
    """Read a whole number of 0 or more."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0; give a whole number of 0 or more")
    return value


def real(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        hint = "; numbers have a point and are separated by spaces, as in 0.1 0.2" if "," in text else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{hint}") from None


def one_line(error: BaseException, flags: Mapping[str, str] | None = None) -> str:
    """Return an error as one line, in which what was typed has the name that it was typed under.

    Args:
        error: what went wrong.
        flags: from names of arguments to options; names without ``_`` are words of the language too, and stay.

    >>> one_line(ValueError("n_ex must be 1 or more"), {"n_ex": "--n-ex"})
    '--n-ex must be 1 or more'
    """
    text = " ".join(str(error).split())
    for name, flag in (flags or {}).items():
        if "_" in name:
            text = re.sub(rf"(?<![\w-]){name}\b", flag, text)
    return text


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the options of a parser by the names of their arguments."""
    return {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}


def warn(program: str, text: object) -> None:
    """Print a warning: one line, which a terminal gets wrapped."""
    line = f"{program}: warning: {' '.join(str(text).split())}"
    if sys.stderr.isatty():
        line = textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)


def no_word_of_cuda() -> None:
    """Silence what torch.compile logs where the CUDA toolkit is installed and no GPU is: nothing is amiss then."""
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("No CUDA runtime is found")
