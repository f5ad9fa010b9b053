"""Which runs are asked for on the command line: options that ``evaluate`` and ``plan`` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rs_plugin.cli.options import ALPHA, LAST_REQUIRED, add_certificate_options, default_radii
from rs_plugin.command import SOUND, natural, no_word_of_cuda, warn, whole

if TYPE_CHECKING:
    from rs_plugin.datasets import Dataset
    from rs_plugin.smoothing import SmoothedClassifier

#: What --n is if it is not given, by stopping rule.
_DRAWS: Final = {"fixed": 1000, "anytime": 10_000}


class Chosen(NamedTuple):
    """A run: the model, the threat model and the radii."""

    model: SmoothedClassifier
    threat: str
    radii: Sequence[float]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which models are evaluated, on what and how."""
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
    parser.add_argument("--sound", metavar="N", type=whole, nargs="?", const=True, default=False, help=SOUND)
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


def chosen_runs(args: argparse.Namespace) -> list[Chosen]:
    """Return the runs that are asked for, after the defaults that depend on other options are set in ``args``."""
    if args.n is None:
        args.n = _DRAWS.get(args.stopping, _DRAWS["fixed"])
    if args.compiled:
        no_word_of_cuda()
    return _single(args) if args.model else _comparison(args)


def alpha_of(args: argparse.Namespace) -> float:
    """Return the failure probability per image."""
    return ALPHA if args.alpha is None else float(args.alpha)


def arguments_of(chosen: Chosen, args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``rs_plugin.evaluate`` for a run, but for the model and the progress."""
    return {
        "dataset": args.dataset, "threat_model": chosen.threat, "radii": chosen.radii, "stopping": args.stopping,
        "n0": args.n0, "n": args.n, "alpha": alpha_of(args), "seed": args.seed, "n_examples": args.n_examples,
        "subset": args.subset, "store": args.store, "device": args.device, "method": args.method or "auto",
        "executor": args.executor, "workers": args.workers, "data_dir": args.data_dir,
        "preprocessing": args.preprocessing, "batch_size": args.batch_size,
    }  # fmt: skip


def named_data(args: argparse.Namespace, subset: str | None, n_examples: int | None) -> Dataset:
    """Return images of the data set that is asked for."""
    from rs_plugin.datasets import load_dataset

    return load_dataset(
        args.dataset, subset, n_examples, data_dir=args.data_dir, preprocessing=args.preprocessing
    )


def _single(args: argparse.Namespace) -> list[Chosen]:
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
        sound=args.sound,
        normalisation=args.normalisation,
        manifest=args.manifest,
    )
    chosen = args.dataset is not None
    if card is not None:
        args.dataset = args.dataset or card.dataset
    elif not chosen:
        raise ParameterError(f"the checkpoint {args.model!r} does not say what it is for; give --dataset")
    try:
        first = named_data(args, None, 1)
    except (InputError, UnknownNameError) as error:
        raise error if chosen else InputError(f"{error}; or name another by --dataset") from error
    doubt = doubt_of(card, args.dataset, first.image_shape) if card else None
    if doubt:
        warn("rs-plugin", doubt)
    radii = args.radii or default_radii(model.noise, threat, first.dim, args.method or "auto")
    return [Chosen(model, threat, radii)]


def _comparison(args: argparse.Namespace) -> list[Chosen]:
    from rs_plugin.errors import ParameterError
    from rs_plugin.evaluation.suite import RADII, SUITE, smoothed
    from rs_plugin.threats import parse_threat

    for option in ("noise", "normalisation", "manifest", "precision", "compiled", "sound"):
        value = getattr(args, option)
        if value not in (None, "float32", False):
            given = f"--{option}" if value is True else f"--{option} {value!r}"
            raise ParameterError(f"{given} needs --model; 'rs-plugin list' shows the models")
    threat = parse_threat(args.threat_model) if args.threat_model else None
    if args.radii and threat is None:
        raise ParameterError("--radii needs --threat-model here, since the three norms have radii of their own")
    args.dataset = args.dataset or "digits"
    dim = named_data(args, None, 1).dim
    entries = [entry for entry in SUITE if threat in (None, entry.threat)]
    return [Chosen(smoothed(entry, dim), entry.threat, args.radii or RADII[entry.threat]) for entry in entries]
