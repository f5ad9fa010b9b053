"""``rs-plugin train``: a base network, trained under noise, with its card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs_plugin.cli.options import new_parser, output_folder
from rs_plugin.command import real, whole

if TYPE_CHECKING:
    from rs_plugin.zoo import ModelCard

_DESCRIPTION = """\
Train a base network under the noise that it will be smoothed with, and measure
it on held-out images.

Writes NAME.safetensors (the weights) and NAME.json (the card: recipe, command,
accuracies, sha256) into the output folder. The recipe and the seed decide the
result: on one thread of the same processor and version of torch, two runs write
the same weights."""

_EXAMPLES = """\
examples:
  rs-plugin train
      the bundled digits under Gaussian noise of 0.25 per pixel, half a minute
  rs-plugin train --noise "mixed_norm(k=8, sigma=0.2673)" --output models
      the same under mixed-norm noise; files go to models/
  rs-plugin train --epochs 5000 --checkpoint train.pt
      a longer run; given again, it goes on where it stopped
  rs-plugin train --epochs 20 --json > card.json
      the card for machines
  rs-plugin train --dataset cifar10_jpeg --architecture cifar_resnet20 \\
      --epochs 12 --batch-size 128 --optimizer sgd --lr 0.2 \\
      --weight-decay 5e-4 --augmentation crop_flip --precision bfloat16 \\
      --checkpoint cifar.pt
      CIFAR-10, ten minutes on two cores; elsewhere than on a terminal it logs
      a line for every epoch
  rs-plugin train --start cifar10_jpeg_gaussian_0.25 --adversary 0.5 \\
      --dataset cifar10_jpeg --architecture cifar_resnet20 --epochs 8 \\
      --batch-size 128 --optimizer sgd --lr 0.05 --weight-decay 5e-4 \\
      --augmentation crop_flip --precision bfloat16 --checkpoint adv.pt
      a bundled model fine-tuned by SmoothAdv (Salman et al. 2019); this made
      cifar10_jpeg_gaussian_0.25_adv"""

#: Options that are settings of the recipe, with their type; the recipe holds the defaults and the checks.
_SETTINGS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "dataset": (str, "NAME", "held-out data set; training uses NAME_train (default: digits)"),
    "architecture": (str, "NAME", "network (default: digits_net)"),
    "noise": (str, "TEXT", "noise added to every training image (default: gaussian(sigma=0.25))"),
    "epochs": (whole, "N", "passes over the training images (default: 1000)"),
    "batch_size": (whole, "N", "images a step (default: 256)"),
    "optimizer": (str, "NAME", "adamw, or sgd with Nesterov momentum (default: adamw)"),
    "lr": (real, "X", "highest learning rate of the one-cycle schedule (default: 0.003, with --start 0.0003)"),
    "weight_decay": (real, "X", "weight decay of the optimizer (default: 0.01)"),
    "augmentation": (str, "NAME", "none, shift or crop_flip, before the noise (default: shift)"),
    "precision": (str, "NAME", "float32 or bfloat16 (default: float32)"),
    "start": (str, "NAME", "model of the zoo, or card, to begin with (default: none)"),
    "adversary": (real, "EPS", "L2 radius of SmoothAdv's adversary, 0 for none (default: 0.0)"),
    "adversary_steps": (whole, "N", "steps of the adversary (default: 2)"),
    "adversary_draws": (whole, "N", "draws that the adversary sees, and the network is trained on (default: 2)"),
    "seed": (whole, "N", "seed of everything random (default: 0)"),
    "device": (str, "NAME", "cpu or cuda (default: cpu)"),
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``train`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "train", "train a base network under noise", _DESCRIPTION, _EXAMPLES, run)
    recipe = parser.add_argument_group("recipe")
    for name, (kind, metavar, text) in _SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        recipe.add_argument(flag, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text)
    files = parser.add_argument_group("files and output")
    files.add_argument(
        "--name",
        metavar="NAME",
        help="name of the model (default: data set, noise and its scale; _adv with an adversary, _tuned with --start)",
    )
    files.add_argument(
        "--output", metavar="DIR", default=".", help="folder for weights and card (default: %(default)s)"
    )
    files.add_argument("--overwrite", action="store_true", help="replace weights and card that are there already")
    files.add_argument("--checkpoint", metavar="FILE", help="keep the state of the training here, and go on from it")
    files.add_argument("--json", action="store_true", help="print the card as JSON on standard output")
    return parser


def run(args: argparse.Namespace) -> int:
    """Train as the parsed options say, write the files, print the accuracies; return the exit code.

    Raises:
        RSPluginError: an option does not fit.
    """
    from tqdm import tqdm

    from rs_plugin.training import TrainConfig, default_name, train
    from rs_plugin.zoo import save_model
    from rs_plugin.zoo.card import check_name

    settings: dict[str, Any] = {name: value for name, value in vars(args).items() if name in _SETTINGS}
    config = TrainConfig(**settings)
    name = default_name(config) if args.name is None else check_name(args.name)
    _check_free(output_folder(args.output), name, args.overwrite)
    hidden = not sys.stderr.isatty()
    with tqdm(total=config.epochs, unit="epoch", file=sys.stderr, leave=False, disable=hidden) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        log = _log if hidden else None
        result = train(config, name=name, progress=progress, log=log, checkpoint=args.checkpoint)
    path = save_model(result.model, result.card, args.output)
    print(result.card.to_json() if args.json else _summary(result.card, str(path)), end="")
    return 0


def _log(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)


def _check_free(folder: Path, name: str, overwrite: bool) -> None:
    """Refuse to replace a model, before the training rather than after it."""
    from rs_plugin.errors import ParameterError

    for path in (folder / f"{name}.json", folder / f"{name}.safetensors"):
        if path.exists() and not overwrite:
            raise ParameterError(
                f"{path} exists already; add --overwrite to replace it, or choose another --name or --output"
            )


def _summary(card: ModelCard, path: str) -> str:
    from rs_plugin.report.tables import percent, wrapped

    how = f"trained under {card.noise}"
    how += f", from {card.recipe['start']}" if card.recipe.get("start") else ""
    how += f", against an adversary of L2 radius {card.recipe['adversary']:g}" if card.recipe.get("adversary") else ""
    lines = (
        f"{card.name}: {card.architecture}, {card.parameters} parameters, {how}",
        f"accuracy of the base network on {card.dataset}: {percent(card.accuracy_clean)} % clean, "
        f"{percent(card.accuracy_noise)} % under the noise ({card.noise_draws} draws an image), rounded down",
        f"wrote {path} and the weights beside it",
    )
    return "".join(f"{wrapped(line)}\n" for line in lines)
