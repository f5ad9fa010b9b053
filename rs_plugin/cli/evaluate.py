"""``rs-plugin evaluate``: certified accuracies of smoothed classifiers."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rs_plugin.cli.options import (
    ALPHA,
    LAST_REQUIRED,
    ProgressBar,
    add_certificate_options,
    add_output_options,
    default_radii,
    new_parser,
    one_warning,
    output_folder,
    report,
)
from rs_plugin.command import natural, no_word_of_cuda, warn, whole

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


#: What --n is if it is not given, by stopping rule.
_DRAWS: Final = {"fixed": 1000, "anytime": 10_000}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``evaluate`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "evaluate", "certify smoothed classifiers", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument(
        "--model", metavar="NAME", help="a zoo model ('rs-plugin list'), a card (.json) or a checkpoint (.pt)"
    )
    parser.add_argument("--normalisation", metavar="NAME", help="of a checkpoint: mean_std, mean or none")
    parser.add_argument("--manifest", metavar="FILE", help="of published files, to look a checkpoint up in")
    parser.add_argument(
        "--noise", metavar="TEXT", help="smoothing noise, as in 'gaussian(sigma=0.5)' (default: the model's)"
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="data set, or a folder or zip of images; needed for a checkpoint (default: the model's, else digits)",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder that holds the data set (default: $RS_DATA)")
    parser.add_argument("--preprocessing", metavar="NAME", help="of image files: Res256Crop224 and the like")
    parser.add_argument("--subset", metavar="NAME", help="every_20th and the like (default: all images)")
    parser.add_argument("--n-examples", metavar="N", type=whole, help="only the first so many images")
    add_certificate_options(
        parser,
        "L2 with --model, without it all three",
        f"with --model four that span what 1000 draws can show, up to a required probability of {LAST_REQUIRED}; "
        "without it 0.15 0.3 0.45 0.6, for Linf a tenth of them",
    )
    parser.add_argument(
        "--stopping",
        metavar="RULE",
        default="fixed",
        help="fixed, or anytime: an image is left once every radius is decided; radius 0, the prediction itself, gets "
        "a thirtieth of --n at most unless it is listed (default: fixed)",
    )
    parser.add_argument("--n0", metavar="N", type=whole, default=100, help="draws that choose the class (default: 100)")
    parser.add_argument(
        "--n",
        metavar="N",
        type=whole,
        help="draws that bound it, anytime at most so many "
        f"(default: {_DRAWS['fixed']}, anytime {_DRAWS['anytime']})",
    )
    parser.add_argument("--seed", metavar="N", type=natural, default=0, help="seed of all draws (default: 0)")
    parser.add_argument("--store", metavar="FILE", default="runs.sqlite", help="vote store (default: runs.sqlite)")
    parser.add_argument(
        "--precision", metavar="NAME", default="float32", help="float32, bfloat16 or float16 (default: float32)"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="votes by torch.compile: needs a C++ compiler, pays on many images"
    )
    parser.add_argument("--batch-size", metavar="N", type=whole, help="noisy images in one pass (default: what suits)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: the network's own)")
    parser.add_argument(
        "--executor",
        metavar="NAME",
        default="local",
        help="local, or ray: workers of the Ray cluster at RAY_ADDRESS, or of one on this machine (default: local)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole,
        help="threads on a CPU, or workers of Ray (default: torch's number, or what the cluster has room for)",
    )
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
        from rs_plugin.robustbench.proposals import check_attacks
        from rs_plugin.smoothing import check_draws, check_whole

        check_attacks(args.attack)
        check_whole("attack_n", args.attack_n)
        check_draws(1, args.attack_n)
        check_whole("bank", args.bank)
    if args.n is None:
        args.n = _DRAWS.get(args.stopping, _DRAWS["fixed"])
    if args.compiled:
        no_word_of_cuda()
    found = _single(args) if args.model else _comparison(args)
    report([run for run, _ in found], "evaluate", args)
    if not args.attack:
        return 0
    data = _data(args, args.subset, args.n_examples)
    return max(_attacked(run, model, data, args) for run, model in found)


def _data(args: argparse.Namespace, subset: str | None, n_examples: int | None) -> Dataset:
    from rs_plugin.datasets import load_dataset

    return load_dataset(
        args.dataset, subset, n_examples, data_dir=args.data_dir, preprocessing=args.preprocessing
    )


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


def _single(args: argparse.Namespace) -> list[tuple[Run, SmoothedClassifier]]:
    from rs_plugin.errors import InputError, ParameterError, UnknownNameError
    from rs_plugin.threats import parse_threat
    from rs_plugin.zoo import load_card
    from rs_plugin.zoo.models import card_path
    from rs_plugin.zoo.smoothed import CHECKPOINTS, doubt_of, smoothed

    threat = parse_threat(args.threat_model or "L2")
    card = None if Path(args.model).suffix in CHECKPOINTS else load_card(card_path(args.model))
    model = smoothed(
        args.model,
        args.noise,
        precision=args.precision,
        compiled=args.compiled,
        normalisation=args.normalisation,
        manifest=args.manifest,
    )
    chosen = args.dataset is not None
    if card is not None:
        args.dataset = args.dataset or card.dataset
    elif not chosen:
        raise ParameterError(f"the checkpoint {args.model!r} does not say what it is for; give --dataset")
    try:
        first = _data(args, None, 1)
    except (InputError, UnknownNameError) as error:
        raise error if chosen else InputError(f"{error}; or name another by --dataset") from error
    doubt = doubt_of(card, args.dataset, first.image_shape) if card else None
    if doubt:
        warn("rs-plugin", doubt)
    radii = args.radii or default_radii(model.noise, threat, first.dim, args.method or "auto")
    return [_evaluate(model, threat, radii, args)]


def _comparison(args: argparse.Namespace) -> list[tuple[Run, SmoothedClassifier]]:
    from rs_plugin.errors import ParameterError
    from rs_plugin.evaluation.suite import RADII, SUITE, smoothed
    from rs_plugin.threats import parse_threat

    for option in ("noise", "normalisation", "manifest", "precision", "compiled"):
        value = getattr(args, option)
        if value not in (None, "float32", False):
            given = f"--{option}" if value is True else f"--{option} {value!r}"
            raise ParameterError(f"{given} needs --model; 'rs-plugin list' shows the models")
    threat = parse_threat(args.threat_model) if args.threat_model else None
    if args.radii and threat is None:
        raise ParameterError("--radii needs --threat-model here, since the three norms have radii of their own")
    args.dataset = args.dataset or "digits"
    dim = _data(args, None, 1).dim
    entries = [entry for entry in SUITE if threat in (None, entry.threat)]
    return [_evaluate(smoothed(entry, dim), entry.threat, args.radii or RADII[entry.threat], args) for entry in entries]


def _evaluate(
    model: SmoothedClassifier, threat: str, radii: Sequence[float], args: argparse.Namespace
) -> tuple[Run, SmoothedClassifier]:
    from rs_plugin.evaluation import evaluate

    alpha = ALPHA if args.alpha is None else args.alpha
    gathered = one_warning(threat, str(model.noise), args.n, alpha)
    with gathered as tell, ProgressBar(f"{threat} {model.noise.name}", tell) as progress:
        found = evaluate(
            model,
            args.dataset,
            threat,
            radii,
            args.stopping,
            args.n0,
            args.n,
            alpha,
            args.seed,
            args.n_examples,
            args.subset,
            args.store,
            args.device,
            method=args.method or "auto",
            executor=args.executor,
            workers=args.workers,
            progress=progress,
            data_dir=args.data_dir,
            preprocessing=args.preprocessing,
            batch_size=args.batch_size,
        )
    return found, model
