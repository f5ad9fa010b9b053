"""``rs-plugin evaluate``: certified accuracies of smoothed classifiers."""

from __future__ import annotations

import argparse
import sys
import textwrap
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from rs_plugin.cli.options import (
    ProgressBar,
    add_output_options,
    new_parser,
    one_warning,
    output_folder,
    report,
)
from rs_plugin.cli.runs import Chosen, add_run_options, alpha_of, arguments_of, chosen_runs, named_data
from rs_plugin.command import whole
from rs_plugin.errors import ParameterError

if TYPE_CHECKING:
    from rs_plugin.datasets import Dataset
    from rs_plugin.evaluation import Run
    from rs_plugin.smoothing import SmoothedClassifier

_DESCRIPTION = """\
Count the votes of a smoothed classifier under noise and certify it.

Without --model: the bundled digit classifiers against L1, L2 and Linf, the
paper's noise families beside their baselines at the same second moment per
coordinate. With --model: one run.

Votes are kept in the store, so that a second run, or one that goes on after an
interruption, counts only what is missing. Prints a table; writes a JSON file
with every record and a plot."""

_EXAMPLES = """\
examples:
  rs-plugin evaluate
      the bundled comparison, under two minutes on two cores
  rs-plugin evaluate --model digits_gaussian_0.5 --threat-model L2 --n 10000
      one model with the noise of its training
  rs-plugin evaluate --model digits_gaussian_0.5 --noise "laplace(b=0.35)" \\
      --threat-model L1
      the same network under another noise, against another norm
  rs-plugin evaluate --model digits_gaussian_0.25 --stopping anytime
      stop as soon as every radius is decided
  rs-plugin evaluate --model cifar10_jpeg_gaussian_0.25 --dataset cifar10 \\
      --data-dir data --subset every_100th --radii 0.25 0.5 --stopping anytime
      a CIFAR-10 model on 100 images; data/ is filled by a download if need be
  rs-plugin evaluate --model checkpoint.pth.tar --normalisation mean_std \\
      --noise "gaussian(sigma=0.25)" --dataset cifar10 --subset every_20th
      a published network
  rs-plugin evaluate --model digits_gaussian_0.25 --n-examples 20 --attack pgd
      let an attack propose images inside the certified balls; exit code 3 if
      fresh votes lose a certified class there"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``evaluate`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "evaluate", "certify smoothed classifiers", _DESCRIPTION, _EXAMPLES, run)
    add_run_options(parser)
    parser.add_argument(
        "--attack",
        metavar="NAME",
        nargs="+",
        help="pgd, autoattack or both: propose images inside certified balls, which fresh votes judge",
    )
    parser.add_argument("--attack-n", metavar="N", type=whole, default=10_000, help="fresh draws (default: 10000)")
    parser.add_argument("--bank", metavar="N", type=whole, default=64, help="draws of the surrogate (default: 64)")
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, report and return the exit code: 3 where an attack violated a certificate."""
    output_folder(args.output)
    if args.attack:
        if args.sound is not False:
            raise ParameterError("--attack moves images off the grid that --sound counts on; leave one of them out")
        from rs_plugin.robustbench.proposals import check_attacks
        from rs_plugin.smoothing import check_draws, check_whole

        check_attacks(args.attack)
        check_whole("attack_n", args.attack_n)
        check_draws(1, args.attack_n)
        check_whole("bank", args.bank)
    found = [_evaluate(chosen, args) for chosen in chosen_runs(args)]
    report([run for run, _ in found], "evaluate", args)
    if not args.attack:
        return 0
    data = named_data(args, args.subset, args.n_examples)
    return max(_attacked(run, model, data, args) for run, model in found)


def _attacked(run: Run, model: SmoothedClassifier, data: Dataset, args: argparse.Namespace) -> int:
    """Attack a run's certificates, say what came of it, and return the exit code."""
    from rs_plugin.robustbench.attacks import attack_certificates

    model = model.with_bank(args.bank)
    threat = run.certificate.threat_model
    with ProgressBar(f"{threat} {model.noise.name} attacked", lambda: None) as progress:
        found = attack_certificates(
            model, run, data, args.attack, n=args.attack_n, alpha=run.alpha, folder=args.output, progress=progress
        )
    where = sys.stderr if args.json or found.violations else sys.stdout
    print(textwrap.fill(f"{threat}, {run.certificate.noise}: {found}", 80), file=where)
    for path in found.files:
        print(f"rs-plugin: error: a certificate is violated; the image is saved in {path}", file=sys.stderr)
    return 3 if found.violations else 0


def _evaluate(chosen: Chosen, args: argparse.Namespace) -> tuple[Run, SmoothedClassifier]:
    from rs_plugin.evaluation import evaluate

    model, threat = chosen.model, chosen.threat
    if args.executor == "ray" and sys.stderr.isatty():
        print("Waiting for the workers of Ray ...", file=sys.stderr)
    gathered = one_warning(threat, str(model.noise), args.n, alpha_of(args))
    # Ray prints of workers that died: what is printed here is the result alone.
    with gathered as tell, redirect_stdout(sys.stderr), ProgressBar(f"{threat} {model.noise.name}", tell) as progress:
        found = evaluate(model, **arguments_of(chosen, args), progress=progress)
    return found, model
