"""Options and output that several subcommands share."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import ROUND_FLOOR, Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rs_plugin.command import real
from rs_plugin.errors import ParameterError, UncertifiableRadiusWarning
from rs_plugin.threats import THREATS

if TYPE_CHECKING:
    from rs_plugin.distributions import SmoothingDistribution
    from rs_plugin.evaluation import Run


#: What --alpha is if it is not given.
ALPHA: Final = 1e-3

#: Required probability of the largest radius that is taken by default, or a little more than that: unanimous votes of
#: a thousand draws show it, at that alpha.
LAST_REQUIRED: Final = 0.992


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


def add_certificate_options(parser: argparse.ArgumentParser, threat_default: str, radii_default: str) -> None:
    """Add what a certificate needs; options that were not given are None.

    Args:
        parser: the parser of a subcommand.
        threat_default: what --threat-model is if it is not given, for the help.
        radii_default: the same of --radii.
    """
    parser.add_argument("--threat-model", metavar="NORM", help=f"{', '.join(THREATS)} (default: {threat_default})")
    parser.add_argument(
        "--radii",
        metavar="R",
        type=real,
        nargs="+",
        help=f"radii in input units, pixels in [0, 1] (default: {radii_default})",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="auto, closed_form, exact, dual or monte_carlo (default: auto, the tightest deterministic one)",
    )
    parser.add_argument("--alpha", metavar="P", type=real, help="failure probability per image (default: 0.001)")


def default_radii(noise: SmoothingDistribution, threat: str, dim: int, method: str) -> list[float]:
    """Return four evenly spaced radii, two digits each or few more, that a thousand draws can certify."""
    from rs_plugin.certificates import certificate

    largest = float(certificate(noise, threat, dim, method).radius(LAST_REQUIRED))
    step = Context(prec=2, rounding=ROUND_FLOOR).create_decimal(repr(largest / 4.0))
    return [float(number * step) for number in range(1, 5)]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add where results go."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="results",
        help="folder of the files, which replace those of an earlier run (default: results)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output, no table")


def output_folder(output: str) -> Path:
    """Return the folder of ``--output``, made if need be; called before any long work.

    Raises:
        ParameterError: nothing can be written there.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ParameterError(
            f"--output {output!r} is not a folder that can be written ({error.strerror}); choose another folder"
        ) from error


@contextmanager
def one_warning(threat: str, noise: str, n: int, alpha: float) -> Iterator[Callable[[], None]]:
    """Gather the warnings of a run's radii; what it yields prints them as one line, and so does the end."""
    found: list[UncertifiableRadiusWarning] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def gather(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if isinstance(message, UncertifiableRadiusWarning):
                found.append(message)
            else:
                show(message, category, *where, **more)

        def tell() -> None:
            if found:
                text = f"{threat}, {_together(found, noise, n, alpha)}"
                show(UncertifiableRadiusWarning(text), UncertifiableRadiusWarning, "", 0)
                found.clear()

        warnings.showwarning = gather
        try:
            yield tell
        finally:
            tell()


def _together(found: Sequence[UncertifiableRadiusWarning], noise: str, n: int, alpha: float) -> str:
    from rs_plugin.report.tables import short_noise, short_radius

    head = f"{short_noise(noise)}: "
    known = [
        (short_radius(w.radius), w.required, w.need)
        for w in found
        if w.radius is not None and w.required is not None
    ]
    if len(known) < len(found):
        return head + "; ".join(str(w) for w in found)
    listed = [
        radius + (f" (1 - p* = {1.0 - p:.2g})" if need is None and p < 1.0 else "") for radius, p, need in known
    ]
    needs = [str(need) for _, _, need in known if need is not None]
    beyond = [radius for radius, _, need in known if need is None]
    could = [f"n >= {', '.join(needs)} could"] if needs else []
    could += ["no practical n could" + (f" for {', '.join(beyond)}" if needs else "")] if beyond else []
    return (
        f"{head}n = {n} draws at alpha = {alpha:g} cannot certify the {'radii' if len(known) > 1 else 'radius'} "
        f"{', '.join(listed)} whatever the votes; {', '.join(could)}"
    )


def report(runs: Sequence[Run], name: str, args: argparse.Namespace) -> None:
    """Write the JSON file and the plot; print the table, or the JSON."""
    from rs_plugin.files import write_whole
    from rs_plugin.report.plots import plot_runs
    from rs_plugin.report.tables import caption, text_table

    content: dict[str, Any] = {"format": "rs_plugin.runs", "version": 1, "runs": [run.to_dict() for run in runs]}
    folder = Path(args.output)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(folder / f"{name}.json", text + "\n")
    plot_runs(runs).savefig(folder / f"{name}.png", dpi=150)
    if args.json:
        print(text)
        return
    print(caption(runs))
    print()
    print(text_table(runs))
    print()
    print(f"Written: {folder / name}.json, {folder / name}.png; votes: {args.store}")


#: tqdm's own guess of the time left takes all images for equal.
_BAR_FORMAT: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


#: A unit of time, its seconds, and up to how many seconds it is used.
_UNITS: Final = (("s", 1.0, 120.0), ("min", 60.0, 10_000.0), ("h", 3600.0, 170_000.0))


def time_range(least: float, most: float) -> str:
    """Return a range of seconds in words.

    >>> time_range(20, 50), time_range(3000, 3100), time_range(1800, 9000), time_range(0, 4e5)
    ('20-50 s', '50-52 min', '30-150 min', '0-4.6 days')
    """
    if most < 0.05:
        return "0 s"
    unit, size = next(((unit, size) for unit, size, limit in _UNITS if most < limit), ("days", 86400.0))
    low, high = (f"{value / size:.1f}" if most < 10.0 * size else f"{value / size:.0f}" for value in (least, most))
    low = "0" if low == "0.0" else low
    return f"{high} {unit}" if low == high else f"{low}-{high} {unit}"


class ProgressBar:
    """A progress bar on a terminal, nothing in a pipe.

    Args:
        label: what stands before the bar.
        before: called once before the bar appears.
    """

    def __init__(self, label: str, before: Callable[[], None]) -> None:
        self._label, self._before = label, before
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if self._bar is None:
            from tqdm import tqdm

            self._before()
            hidden = not sys.stderr.isatty()
            self._bar = tqdm(
                desc=self._label, total=total, unit="image", leave=False, disable=hidden, bar_format=_BAR_FORMAT
            )
        self._bar.update(done - self._bar.n)

    def remaining(self, least: float, most: float) -> None:
        """Show how many seconds are left, at least and at most."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{time_range(least, most)} left")

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
