"""``rs-plugin plan``: what an evaluation will take."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from rs_plugin.cli.options import new_parser, one_warning, time_range
from rs_plugin.cli.runs import Chosen, add_run_options, alpha_of, arguments_of, chosen_runs
from rs_plugin.command import real, whole

if TYPE_CHECKING:
    from rs_plugin.evaluation.planning import Plan

_DESCRIPTION = """\
Say what 'rs-plugin evaluate' with the same options will take: passes of the
network, time, memory and money. A pilot of some seconds counts draws of some
images; nothing is stored. Without --model: the bundled comparison.

'Expected' is a range that holds four times in five; under anytime stopping
images take very unequal numbers of draws. 'At worst' takes all draws for all
images. Draws come in chunks of 64. Times are those of this machine as it was
during the pilot, without what a run takes to start."""

_EXAMPLES = """\
examples:
  rs-plugin plan --model digits_gaussian_0.25 --n 100000
      a fixed number of draws
  rs-plugin plan --model cifar10_jpeg_gaussian_0.25 --subset every_20th \\
      --stopping anytime --n 100000 --machines 8 --price 1.2
      on eight machines like this one, at 1.20 an hour each"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``plan`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "plan", "what an evaluation will take", _DESCRIPTION, _EXAMPLES, run)
    add_run_options(parser)
    parser.add_argument(
        "--seconds", metavar="S", type=real, default=20.0, help="that the pilot of a run may take (default: 20)"
    )
    parser.add_argument(
        "--machines", metavar="N", type=whole, default=1,
        help="that share the run: like this one or, with --executor ray, clusters like the pilot's (default: 1)",
    )
    parser.add_argument("--price", metavar="P", type=real, help="of a machine, for an hour")
    parser.add_argument("--json", action="store_true", help="print the plans as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Plan, print and return the exit code."""
    plans = [(chosen, _planned(chosen, args)) for chosen in chosen_runs(args)]
    if args.json:
        found = [{**_asked(chosen, args), **plan.to_dict()} for chosen, plan in plans]
        print(json.dumps({"format": "rs_plugin.plans", "version": 1, "plans": found}, indent=1, allow_nan=False))
        return 0
    print("\n\n".join(_text(chosen, plan, args) for chosen, plan in plans))
    return 0


def _planned(chosen: Chosen, args: argparse.Namespace) -> Plan:
    from rs_plugin.evaluation.planning import plan

    gathered = one_warning(chosen.threat, str(chosen.model.noise), args.n, alpha_of(args))
    with gathered, redirect_stdout(sys.stderr):  # as in evaluate
        return plan(
            chosen.model, **arguments_of(chosen, args), seconds=args.seconds, machines=args.machines, price=args.price
        )


def _asked(chosen: Chosen, args: argparse.Namespace) -> dict[str, object]:
    return {
        "noise": str(chosen.model.noise), "dataset": args.dataset, "threat_model": chosen.threat,
        "radii": list(chosen.radii), "stopping": args.stopping, "n0": args.n0, "n": args.n, "alpha": alpha_of(args),
    }  # fmt: skip


def _text(chosen: Chosen, plan: Plan, args: argparse.Namespace) -> str:
    radii = " ".join(f"{radius:g}" for radius in chosen.radii)
    head = (
        f"{chosen.model.noise}, {chosen.threat} at {radii}; {args.stopping} n = {args.n:,}, alpha = {alpha_of(args):g}"
    )
    stored = f", {plan.stored:,} more are stored" if plan.stored else ""
    rows = [
        ("images", f"{plan.images:,}{stored}", ""),
        ("passes of the network", _range(plan.passes.least, plan.passes.most), f"{plan.passes.worst:,.0f}"),
        ("time", time_range(plan.seconds.least, plan.seconds.most), time_range(plan.seconds.worst, plan.seconds.worst)),
    ]
    if plan.cost is not None:
        rows.append(("cost", _money(plan.cost.least, plan.cost.most), _money(plan.cost.worst, plan.cost.worst)))
    if plan.memory is not None:
        rows.append(("memory", f"{plan.memory / 1e9:.2g} GB", ""))
    rows.append(("vote store", f"{plan.store / 1e6:.2g} MB", ""))
    machines = f" on each of {plan.machines} machines" if plan.machines > 1 else ""
    foot = (
        f"Pilot: {plan.pilot_draws:,} draws of each of {plan.pilot_images} images, {plan.pilot_seconds:.1f} s on "
        f"{plan.device}; {plan.passes_per_second:,.0f} passes a second{machines}."
    )
    lines = [f"{'':22}  {'expected':>26}  {'at worst':>26}", *(f"{a:22}  {b:>26}  {c:>26}" for a, b, c in rows)]
    return "\n".join([*textwrap.wrap(head, 80), "", *(line.rstrip() for line in lines), "", *textwrap.wrap(foot, 80)])


def _range(least: float, most: float) -> str:
    return f"{least:,.0f}" if round(least) == round(most) else f"{least:,.0f} - {most:,.0f}"


def _money(least: float, most: float) -> str:
    low, high = f"{least:,.2f}", f"{most:,.2f}"
    return low if low == high else f"{low} - {high}"
