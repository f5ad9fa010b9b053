"""``rs-plugin evaluate``: certified accuracies of smoothed classifiers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rs_plugin.cli.options import ProgressBar, add_certificate_options, add_output_options, new_parser, report

if TYPE_CHECKING:
    from rs_plugin.evaluation import Run

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
  rs-plugin evaluate --model digits_gaussian_0.5 --noise "laplace(b=0.35)"
      the same network under another noise
  rs-plugin evaluate --model digits_gaussian_0.25 --stopping anytime --n 100000
      stop as soon as every radius is decided"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``evaluate`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "evaluate", "certify smoothed classifiers", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("--model", metavar="NAME", help="a zoo model ('rs-plugin list'), or the path of a card (.json)")
    parser.add_argument(
        "--noise", metavar="TEXT", help="smoothing noise, as in 'gaussian(sigma=0.5)' (default: the model's)"
    )
    parser.add_argument("--dataset", metavar="NAME", default="digits", help="data set (default: digits)")
    parser.add_argument("--subset", metavar="NAME", help="every_20th and the like (default: all images)")
    parser.add_argument("--n-examples", metavar="N", type=int, help="only the first so many images")
    add_certificate_options(parser, None)
    parser.add_argument("--stopping", metavar="RULE", default="fixed", help="fixed or anytime (default: fixed)")
    parser.add_argument("--n0", metavar="N", type=int, default=100, help="draws that choose the class (default: 100)")
    parser.add_argument("--n", metavar="N", type=int, default=1000, help="draws that bound it (default: 1000)")
    parser.add_argument(
        "--alpha", metavar="P", type=float, default=1e-3, help="failure probability per image (default: 0.001)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all draws (default: 0)")
    parser.add_argument("--store", metavar="FILE", default="runs.sqlite", help="vote store (default: runs.sqlite)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: the network's own)")
    parser.add_argument("--workers", metavar="N", type=int, help="threads on a CPU (default: torch's number)")
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate, report and return the exit code."""
    Path(args.output).mkdir(parents=True, exist_ok=True)  # what cannot be written is found before any long work
    runs = _single(args) if args.model else _comparison(args)
    report(runs, "evaluate", args.output, args.json)
    return 0


def _single(args: argparse.Namespace) -> list[Run]:
    from rs_plugin.distributions import parse_noise
    from rs_plugin.smoothing import SmoothedClassifier
    from rs_plugin.threats import parse_threat
    from rs_plugin.zoo import load_base, load_card, models

    threat = parse_threat(args.threat_model or "L2")
    path = Path(args.model)
    card = load_card(path if path.suffix == ".json" else models.get(args.model))
    noise = parse_noise(args.noise or card.noise)
    model = SmoothedClassifier(load_base(args.model), noise, card.num_classes)
    return [_evaluate(model, threat, args.radii or _radii_for(threat), args)]


def _comparison(args: argparse.Namespace) -> list[Run]:
    from rs_plugin.datasets import load_dataset
    from rs_plugin.errors import ParameterError
    from rs_plugin.evaluation.suite import RADII, SUITE, smoothed
    from rs_plugin.threats import parse_threat

    if args.noise:
        raise ParameterError(f"--noise {args.noise!r} needs --model; 'rs-plugin list' shows the models")
    threat = parse_threat(args.threat_model) if args.threat_model else None
    if args.radii and threat is None:
        raise ParameterError("--radii needs --threat-model here, since the three norms have radii of their own")
    dim = load_dataset(args.dataset, None, 1).dim
    entries = [entry for entry in SUITE if threat in (None, entry.threat)]
    return [_evaluate(smoothed(entry, dim), entry.threat, args.radii or RADII[entry.threat], args) for entry in entries]


def _evaluate(model, threat: str, radii, args: argparse.Namespace) -> Run:  # type: ignore[no-untyped-def]
    from rs_plugin.evaluation import evaluate

    with ProgressBar(f"{threat} {model.noise.name}") as progress:
        return evaluate(
            model,
            args.dataset,
            threat,
            radii,
            args.stopping,
            args.n0,
            args.n,
            args.alpha,
            args.seed,
            args.n_examples,
            args.subset,
            args.store,
            args.device,
            method=args.method,
            workers=args.workers,
            progress=progress,
        )


def _radii_for(threat: str) -> tuple[float, ...]:
    from rs_plugin.evaluation.suite import RADII
    from rs_plugin.threats import parse_threat

    return RADII[parse_threat(threat)]
