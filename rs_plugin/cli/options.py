"""Options and output that several subcommands share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_plugin.threats import THREATS

if TYPE_CHECKING:
    from rs_plugin.evaluation import Run


def new_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """Add a subcommand and return its parser."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_certificate_options(parser: argparse.ArgumentParser, threat_default: str | None) -> None:
    """Add what a certificate needs."""
    shown = threat_default or "all of the default comparison"
    parser.add_argument(
        "--threat-model", metavar="NORM", default=threat_default, help=f"{', '.join(THREATS)} (default: {shown})"
    )
    parser.add_argument("--radii", metavar="R", type=float, nargs="+", help="radii in input units, pixels in [0, 1]")
    parser.add_argument(
        "--method",
        metavar="NAME",
        default="auto",
        help="auto, closed_form, exact, dual or monte_carlo (default: auto, the tightest deterministic one)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where results go."""
    parser.add_argument("--output", metavar="DIR", default="results", help="folder of the files (default: results)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output, no table")


def report(runs: Sequence[Run], name: str, output: str, as_json: bool) -> None:
    """Write the JSON file and the plot; print the table, or the JSON."""
    from rs_plugin.evaluation.results import write_text
    from rs_plugin.report.plots import plot_runs
    from rs_plugin.report.tables import caption, text_table

    content: dict[str, Any] = {"format": "rs_plugin.runs", "version": 1, "runs": [run.to_dict() for run in runs]}
    folder = Path(output)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_text(folder / f"{name}.json", text + "\n")
    plot_runs(runs).savefig(folder / f"{name}.png", dpi=150)
    if as_json:
        print(text)
        return
    print(caption(runs))
    print()
    print(text_table(runs))
    print()
    print(f"Written: {folder / name}.json, {folder / name}.png")


class ProgressBar:
    """A progress bar on a terminal, nothing in a pipe."""

    def __init__(self, label: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=label, unit="image", leave=False, disable=not sys.stderr.isatty())

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
