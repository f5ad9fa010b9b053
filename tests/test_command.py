"""What both command lines share."""

from __future__ import annotations

import argparse
import logging
import sys

import pytest

from rs_plugin.command import Parser, flags_of, natural, no_word_of_cuda, one_line, warn, whole
from rs_plugin.errors import ParameterError


def parser() -> Parser:
    made = Parser(prog="prog")
    made.add_argument("--n-examples", type=whole)
    made.add_argument("--run", dest="key")
    return made


def test_errors_are_one_line_and_options_are_spelt_out() -> None:
    with pytest.raises(ParameterError, match=r"^unrecognized arguments: --n 3; see 'prog --help'$"):
        parser().parse_args(["--n", "3"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("n_examples = 0,\n  but", "--n-examples = 0, but"),
        ("'my_n_examples' or n_examples_2", "'my_n_examples' or n_examples_2"),
        ("the key", "the key"),
    ],
)
def test_errors_have_the_words_of_the_command_line(text: str, shown: str) -> None:
    assert one_line(ValueError(text), flags_of(parser())) == shown
    assert one_line(ValueError(text)) == " ".join(text.split())


def test_natural_numbers() -> None:
    assert (natural("0"), natural("7")) == (0, 7)
    for text, message in (("-1", "'-1' is below 0; give a whole number of 0 or more"), ("1.5", "not a whole number")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            natural(text)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_gets_warnings_wrapped(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    warn("prog", "word " * 60)
    lines = capsys.readouterr().err.splitlines()
    assert " ".join(" ".join(lines).split()) == "prog: warning: " + " ".join(["word"] * 60)
    assert max(map(len, lines)) <= 80 if terminal else len(lines) == 1


def test_only_the_missing_gpu_is_silenced(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torch.utils.cpp_extension")
    no_word_of_cuda()
    try:
        log.warning("No CUDA runtime is found, using CUDA_HOME='%s'", "/usr/local")
        log.warning("something else")
    finally:
        log.filters.clear()
    assert [record.message for record in caplog.records] == ["something else"]
