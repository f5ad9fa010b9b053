"""``rs-plugin leaderboard``: tables and pages of certified models."""

from __future__ import annotations

import argparse
import json
import sys

from rs_plugin.cli.options import new_parser, output_folder

_DESCRIPTION = """\
Build leaderboards from model_info files: Markdown, LaTeX and one HTML page per
threat model, and the YAML of the SoK certified robustness board.

A page needs nothing but itself. It is sorted and filtered in the browser, draws
certified accuracy curves on a click, and can be read without JavaScript."""

_EXAMPLES = """\
examples:
  rs-plugin leaderboard
      from model_info/ into leaderboard/
  rs-plugin leaderboard --info results/model_info --output site
      other folders"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``leaderboard`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "leaderboard", "tables and pages of results", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("--info", metavar="DIR", default="model_info", help="folder of the files (default: model_info)")
    parser.add_argument("--output", metavar="DIR", default="leaderboard", help="where to write (default: leaderboard)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on standard output")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the files and say which; return the exit code.

    Raises:
        RSPluginError: no certified result, or an impossible one.
    """
    from rs_plugin.robustbench.leaderboard import write_leaderboard

    output_folder(args.output)
    written, entries, others = write_leaderboard(args.info, args.output)
    for entry in entries:
        if entry.contradicted:
            print(
                f"rs-plugin: warning: {entry.path}: attacked {entry.attacked} % below certified {entry.certified} %; "
                f"one of the two is wrong",
                file=sys.stderr,
            )
    if args.json:
        content = {
            "written": [str(path) for path in written],
            "models": [entry.path for entry in entries],
            "passed_over": [str(path) for path in others],
        }
        print(json.dumps(content, indent=1))
        return 0
    print(f"{len(entries)} certified model{'s' if len(entries) != 1 else ''}")
    if others:
        print(f"{len(others)} without a certified accuracy, passed over")
    for path in written:
        print(path)
    return 0
