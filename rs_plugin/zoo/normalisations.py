"""How networks of the literature normalise images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from rs_plugin.networks import CIFAR10_MEAN, CIFAR10_STD

Convention: TypeAlias = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation, channel by channel

_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_ONES: Final = (1.0, 1.0, 1.0)
_NONE: Final = ((0.0, 0.0, 0.0), _ONES)

#: By name, for CIFAR and for ImageNet.
NORMALISATIONS: Final[dict[str, tuple[Convention, Convention]]] = {
    "mean_std": ((CIFAR10_MEAN, CIFAR10_STD), (_IMAGENET_MEAN, _IMAGENET_STD)),
    "mean": ((CIFAR10_MEAN, _ONES), (_IMAGENET_MEAN, _ONES)),
    "none": (_NONE, _NONE),
}
