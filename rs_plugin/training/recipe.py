"""Recipes of training: every setting, its checks, and the names and commands that follow from it."""

from __future__ import annotations

import dataclasses
import math
import shlex
from dataclasses import dataclass
from typing import Final

from rs_plugin.datasets import load_dataset
from rs_plugin.distributions import parse_noise
from rs_plugin.errors import ParameterError
from rs_plugin.zoo.card import check_name

#: Settings that are whole numbers, with the least; and other numbers, with whether they may be 0.
_INTEGERS: Final = {"epochs": 1, "batch_size": 1, "adversary_steps": 1, "adversary_draws": 1, "seed": 0}
_NUMBERS: Final = {"lr": False, "weight_decay": True, "adversary": True}
#: Settings that a command names only where they are not the default.
_SELDOM: Final = ("start", "adversary", "adversary_steps", "adversary_draws", "device")
_LR: Final = 3e-3
_TUNING_LR: Final = 3e-4
_OPTIMIZERS: Final = ("adamw", "sgd")
_PRECISIONS: Final = ("float32", "bfloat16")
_DEVICES: Final = ("cpu", "cuda")


@dataclass(frozen=True)
class TrainConfig:
    """A recipe: with one version of torch, on one thread of one kind of processor, it decides every weight.

    On a GPU it does not: sums there are taken in any order.

    Args:
        dataset: the held-out data set; the images of ``<dataset>_train`` are trained on.
        architecture: registered name of the network.
        noise: the noise that every training image is put under, afresh at every pass, as ``parse_noise`` reads it.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: ``"adamw"``, with decoupled weight decay, or ``"sgd"``, with Nesterov momentum 0.9.
        lr: highest learning rate of the one-cycle schedule; 0.003 if None, or with ``start``, whose weights that would
            spoil, 0.0003.
        weight_decay: the optimizer's weight decay.
        augmentation: registered name of the change that images undergo before the noise.
        precision: ``"float32"``, or ``"bfloat16"``: autocast and channels last, twice as fast where the processor has
            bfloat16; the weights of the result are then rounded to half precision, which is what its file holds.
        start: model of the zoo whose weights training begins with, to fine-tune it; freshly drawn ones if empty.
        adversary: L2 radius in which every training image is first moved to where the smoothed classifier does worst
            (SmoothAdv, Salman et al. 2019); 0 for none.
        adversary_steps: steps of projected gradient ascent that move it.
        adversary_draws: draws of the noise that stand for the smoothed classifier, and that the network is trained on.
        seed: seed of initialisation, order, augmentation and noise.
        device: ``"cpu"`` or ``"cuda"``; draws are other ones there.

    Raises:
        ParameterError: a setting has another type or lies outside its range.
    """

    dataset: str = "digits"
    architecture: str = "digits_net"
    noise: str = "gaussian(sigma=0.25)"
    epochs: int = 1000
    batch_size: int = 256
    optimizer: str = "adamw"
    lr: float = None  # type: ignore[assignment]  # a number once the recipe is made
    weight_decay: float = 1e-2
    augmentation: str = "shift"
    precision: str = "float32"
    start: str = ""
    adversary: float = 0.0
    adversary_steps: int = 2
    adversary_draws: int = 2
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.lr is None:
            object.__setattr__(self, "lr", _TUNING_LR if self.start else _LR)
        for name, lowest in _INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**63:
                raise ParameterError(f"{name} must be an integer of {lowest} or more, not {value!r}")
        for name, zero in _NUMBERS.items():
            value = getattr(self, name)
            fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not fits or not (value > 0 or (zero and value == 0)):
                raise ParameterError(f"{name} must be {'0 or more' if zero else 'positive'} and finite, not {value!r}")
        for name in ("dataset", "architecture", "noise", "augmentation", "start"):
            if not isinstance(getattr(self, name), str):
                raise ParameterError(f"{name} must be a text, not {getattr(self, name)!r}")
        for name, known in (("optimizer", _OPTIMIZERS), ("precision", _PRECISIONS), ("device", _DEVICES)):
            if getattr(self, name) not in known:
                raise ParameterError(f"{name} must be {' or '.join(known)}, not {getattr(self, name)!r}")
        for name in ("adversary_steps", "adversary_draws"):
            if not self.adversary and getattr(self, name) != getattr(TrainConfig, name):
                raise ParameterError(f"{name} = {getattr(self, name)} needs adversary, the radius, which is 0")
        if self.dataset.endswith("_train"):
            held_out = self.dataset.removesuffix("_train")
            raise ParameterError(
                f"dataset = {self.dataset!r} names training images; give {held_out!r}, the held-out set: "
                f"training then uses {self.dataset!r}"
            )


def default_name(config: TrainConfig) -> str:
    """Return ``<dataset>_<noise>_<s>``, where ``s`` is the root mean square of one coordinate of the noise.

    The name of adversarial training ends in ``_adv``, that of other training that began with a model in ``_tuned``.

    >>> default_name(TrainConfig(noise="laplace(b=0.1768)"))
    'digits_laplace_0.25'
    """
    noise = parse_noise(config.noise)
    stem = f"{config.dataset}_{noise.name.replace('_', '')}"
    dim = load_dataset(config.dataset, n_examples=1).dim
    noise.check_dim(dim)
    try:
        scale = f"_{math.sqrt(noise.second_moment(dim)):.2g}"
    except ParameterError:  # a family that states no second moment
        scale = ""
    suffix = "_adv" if config.adversary else "_tuned" if config.start else ""
    return check_name(stem + scale + suffix)


def command_line(config: TrainConfig, name: str) -> str:
    """Return the command that trains with ``config`` again."""
    words = ["rs-plugin", "train"]
    plain = dataclasses.asdict(TrainConfig())
    for setting, value in {**dataclasses.asdict(config), "name": name}.items():
        if setting not in _SELDOM or value != plain[setting]:
            words += [f"--{setting.replace('_', '-')}", str(value)]
    return shlex.join(words)
