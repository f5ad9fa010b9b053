"""Random changes of training images that keep their label, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rs_plugin.registry import Registry

#: From images of shape (n, channels, height, width) and a generator of their device to new images of the same shape.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]

#: Every augmentation that a training recipe can name; other packages add theirs under the entry-point group.
augmentations: Registry[Augmentation] = Registry("augmentation", callable, "rs_plugin.augmentations")


def keep(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images as they are."""
    return images


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a copy where every fourth image, chosen at random, is moved by -1, 0 or 1 pixels along each axis.

    Pixels that come in from outside are 0. On images of 8 by 8 pixels a move is large, hence not all are moved.
    """
    count, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(0, 3, (2, count), generator=generator, device=device)
    offsets[:, torch.rand(count, generator=generator, device=device) < 0.75] = 1
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    rows = (offsets[0, :, None] + torch.arange(height, device=device)).view(count, 1, height, 1)
    columns = (offsets[1, :, None] + torch.arange(width, device=device)).view(count, 1, 1, width)
    which = torch.arange(count, device=device).view(count, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
    return padded[which, channels, rows, columns]


def crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return every image moved by up to 4 pixels along each axis and, every other one at random, mirrored.

    Pixels that come in from outside are 0: the augmentation of He et al. (CVPR 2016), Section 4.2, for CIFAR.
    """
    count, _, height, width = images.shape
    device = images.device
    offsets = torch.randint(0, 9, (2, count), generator=generator, device=device)
    mirrored = torch.rand(count, generator=generator, device=device) < 0.5
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    ahead = torch.arange(width, device=device)
    across = torch.where(mirrored[:, None], ahead.flip(0), ahead)
    rows = (offsets[0, :, None] + torch.arange(height, device=device)).view(count, 1, height, 1)
    columns = (offsets[1, :, None] + across).view(count, 1, 1, width)
    which = torch.arange(count, device=device).view(count, 1, 1, 1)
    channels = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
    return padded[which, channels, rows, columns]


augmentations.register("none", keep)
augmentations.register("shift", shift)
augmentations.register("crop_flip", crop_flip)
