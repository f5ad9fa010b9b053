"""``python -m rs_plugin.robustbench``: the command line of ``python -m robustbench.eval``, certifying."""

from __future__ import annotations

import argparse
import difflib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from rs_plugin.command import SOUND, Parser, flags_of, natural, no_word_of_cuda, one_line, real, warn, whole
from rs_plugin.errors import ParameterError, RSPluginError
from rs_plugin.robustbench.evaluator import benchmark

_NAME = "rs_plugin.robustbench"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, or 2 with one line on bad input."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(_NAME, message)
        return _run(words)


def _run(words: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        args = parser.parse_args(words)
        if args.compiled:
            no_word_of_cuda()
        model = _model(args)
        benchmark(
            model, args.n_examples, args.dataset, args.threat_model, args.to_disk, args.model_name, args.data_dir,
            None, args.device, args.batch_size, args.eps, args.log_path, args.preprocessing,
            noise=args.noise, stopping=args.stopping, n0=args.n0, n=args.n, alpha=args.alpha, seed=args.seed,
            subset=args.subset, store=args.store, info_dir=args.info_dir, radii=args.radii, attack=args.attack,
            attack_n=args.attack_n, bank=args.bank, precision=args.precision, compiled=args.compiled,
            sound=args.sound, executor=args.executor, workers=args.workers,
        )  # fmt: skip
    except (RSPluginError, OSError) as error:
        print(f"{_NAME}: error: {one_line(error, flags_of(parser))}", file=sys.stderr)
        return 2
    return 0


def _model(args: argparse.Namespace) -> Any:
    from rs_plugin.datasets import load_dataset
    from rs_plugin.zoo import load_card, models
    from rs_plugin.zoo.models import card_path, is_model
    from rs_plugin.zoo.smoothed import STANDS_IN, check_serves, doubt_of, smoothed

    if args.checkpoint:
        return smoothed(
            args.checkpoint,
            args.noise,
            bank=args.bank,
            precision=args.precision,
            compiled=args.compiled,
            sound=args.sound,
            normalisation=args.normalisation,
            manifest=args.manifest,
        )
    if is_model(args.model_name):
        card = load_card(card_path(args.model_name))
        if not args.noise:
            check_serves(card, args.dataset)
        if args.preprocessing:
            images = load_dataset(args.dataset, None, 1, data_dir=args.data_dir, preprocessing=args.preprocessing)
            doubt = doubt_of(card, args.dataset, images.image_shape)
            if doubt:
                warn(_NAME, doubt)
        return smoothed(
            args.model_name, args.noise, bank=args.bank, precision=args.precision, compiled=args.compiled,
            sound=args.sound,
        )  # fmt: skip
    if not args.noise:
        close = difflib.get_close_matches(args.model_name, models.names(), n=1)
        raise ParameterError(
            f"{args.model_name!r} is no model of this package; for one of RobustBench's give --noise, as in "
            f"'gaussian(sigma=0.25)'" + (f". Did you mean {close[0]!r}?" if close else "")
        )
    from rs_plugin.robustbench.shim import import_robustbench

    utils = import_robustbench("robustbench.utils")
    threat = args.zoo_threat_model or (args.threat_model if args.threat_model != "L1" else "L2")
    data = STANDS_IN.get(args.dataset, args.dataset)
    try:
        return utils.load_model(args.model_name, args.model_dir, data, threat)
    except (KeyError, ValueError) as error:
        raise ParameterError(f"RobustBench has no model {args.model_name!r} for {data}, {threat}") from error


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rs_plugin.robustbench",
        description="Certify a model as 'python -m robustbench.eval' attacks one. A switch is off unless it is given.",
    )
    add = parser.add_argument
    add("--model_name", required=True, help="a zoo model, the path of a card, or with --noise one of RobustBench's")
    add("--checkpoint", metavar="FILE", help="a published network's file; --model_name then only names the results")
    add("--normalisation", metavar="NAME", help="of a checkpoint: mean_std, mean or none")
    add("--manifest", metavar="FILE", help="of published files, to look a checkpoint up in")
    add("--threat_model", default="Linf", help="L1, L2 or Linf (default: Linf)")
    add("--dataset", default="cifar10", help="data set, or a folder or zip of images (default: cifar10)")
    add("--eps", type=real, required=True, help="radius, for images in [0, 1]")
    add("--radii", type=real, nargs="+", default=[], metavar="R", help="further radii, for the curve in the file")
    add("--attack", nargs="+", default=[], metavar="NAME", help="pgd, autoattack: for an upper bound")
    add("--attack_n", type=whole, default=1000, help="fresh draws that judge what an attack proposes (default: 1000)")
    add("--precision", default="float32", help="of the votes: float32, bfloat16 or float16 (default: float32)")
    add("--compiled", action="store_true", help="votes by torch.compile: needs a C++ compiler, pays on many images")
    add("--sound", type=whole, nargs="?", const=True, default=False, metavar="N", help=SOUND)
    add("--executor", metavar="NAME", default="local", help="local, or ray (default: local)")
    add("--bank", type=whole, default=64, help="draws of the surrogate that is attacked (default: 64)")
    add("--n_ex", dest="n_examples", type=whole, help="number of images (default: all)")
    add("--subset", help="every_20th and the like")
    add("--batch_size", type=whole, help="noisy images in one pass of the network")
    add("--workers", type=whole, help="threads on a CPU, or workers of Ray (default: what there is room for)")
    add("--data_dir", help="folder that holds the data set (default: $RS_DATA, else ./data)")
    add("--model_dir", default="./models", help="where RobustBench keeps checkpoints (default: ./models)")
    add("--zoo_threat_model", metavar="NORM", help="RobustBench's list with its model (default: the same; L2 for L1)")
    add("--preprocessing", help="of image files: Res256Crop224 and the like")
    add("--seed", type=natural, default=0, help="seed of all draws (default: 0)")
    add("--device", help="cpu, cuda, ... (default: the network's own)")
    add("--noise", help="smoothing noise, as in 'gaussian(sigma=0.25)' (default: the zoo model's)")
    add("--stopping", default="anytime", help="anytime or fixed (default: anytime)")
    add("--n0", type=whole, default=100, help="draws that choose the class (default: 100)")
    add("--n", type=whole, default=10_000, help="draws that bound it, or their cap (default: 10000)")
    add("--alpha", type=real, default=1e-3, help="failure probability per image (default: 0.001)")
    add("--store", default="runs.sqlite", help="vote store (default: runs.sqlite)")
    add("--log_path", help="file to append the printed lines to")
    add("--info_dir", default="model_info", help="folder of --to_disk (default: model_info)")
    add(
        "--to_disk", nargs="?", const=True, default=False, type=_switch, metavar="true|false",
        help="write model_info/<dataset>/<threat model>/<model name>.json",
    )  # fmt: skip
    return parser


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


if __name__ == "__main__":
    sys.exit(main())
