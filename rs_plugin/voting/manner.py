"""How a network is best shown its images, found by showing it some.

Two things must hold for votes to mean what they should, or to be repeatable: the answer to an image must not depend on
the images beside it in a pass, since draws would not be independent then; and it should not depend on its place in the
pass, not even in the last bit, since images of a run are mixed as threads happen to work.
"""

from __future__ import annotations

import copy
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from rs_plugin.errors import ModelError, first_line
from rs_plugin.voting.passes import check_classes, classes_of, scores_of

#: Change of scores, over the largest of them, that may come of rounding.
_ROUNDING: Final = {"float32": 0.01, "bfloat16": 0.1, "float16": 0.1}


class Manner(NamedTuple):
    """How images are laid out, and whether a pass may hold draws of several.

    Attributes:
        layout: ``"channels_last"``, in which convolutions are about 1.5 times as fast, or ``"contiguous"`` for grey
            images and for networks that cannot read the other.
        mixed: whether a pass may hold draws of several images.
    """

    layout: str = "contiguous"
    mixed: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch has it."""
        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format


def find_manner(network: Any, images: Tensor, num_classes: int, precision: str = "float32") -> Manner:
    """Show the network a block of noisy images a few times and return how it is best shown them.

    Args:
        network: from images to scores.
        images: one block, of the shape of all later ones, contiguous.
        num_classes: number of classes.
        precision: what the network computes in.

    Raises:
        ModelError: it fails, answers with something else, or its answer to an image depends on the others.
    """
    layout, scores = _layout(network, images, num_classes, precision)
    images = images.contiguous(memory_format=Manner(layout).memory_format)
    return Manner(layout, may_be_mixed(network, images, scores, precision))


def compile_network(network: nn.Module, images: Tensor, num_classes: int, precision: str) -> tuple[Any, Tensor]:
    """Return ``torch.compile`` of a copy of the network, its weights as they are now, and its scores of ``images``.

    Raises:
        ModelError: it cannot be compiled, or answers otherwise than the network itself by more than rounding.
    """
    import torch._inductor.config  # the setting that lets weights be constants is documented there and nowhere public

    # Compiled code is kept with the code that it came from, for all networks of a class: what was compiled for other
    # weights must not be met. A caller's own compiled networks are compiled once more when they are next called.
    torch.compiler.reset()
    fast = torch.compile(copy.deepcopy(network), dynamic=False)
    try:
        with torch._inductor.config.patch(freezing=True):
            scores = fast(images.clone())
    except Exception as error:
        reason = first_line(error)
        raise ModelError(f"the base network cannot be compiled here ({reason}); do without compiled=True") from error
    change = _change(scores_of(network, images.clone(), num_classes), scores)
    if change > _ROUNDING[precision]:
        raise ModelError(
            f"the compiled network answers otherwise than the network itself, by {change:.2g} of the largest score; do "
            f"without compiled=True"
        )
    return fast, scores


def _layout(network: Any, images: Tensor, num_classes: int, precision: str) -> tuple[str, Tensor]:
    """Return the layout, and the scores in it."""
    scores = scores_of(network, images.clone(), num_classes)  # copies, since some networks write into their input
    check_classes(int(classes_of(scores).min()))
    if images.ndim != 4 or images.shape[1] == 1:
        return "contiguous", scores
    try:
        other = scores_of(network, images.contiguous(memory_format=torch.channels_last), num_classes)
    except ModelError:  # it views the pixels as one row, for instance
        return "contiguous", scores
    return ("channels_last", other) if _change(scores, other) <= _ROUNDING[precision] else ("contiguous", scores)


def may_be_mixed(network: Any, images: Tensor, scores: Tensor, precision: str) -> bool:
    """Return whether ``scores`` are the same to the last bit at other places of a block, beside other images.

    Raises:
        ModelError: they are not, by more than rounding.
    """
    num_classes = scores.shape[1]
    half = len(images) // 2
    moved = torch.empty_like(images)
    moved[: len(images) - half] = 10.0 * images[half:]
    moved[len(images) - half :] = images[:half]
    there = scores_of(network, moved, num_classes)[len(images) - half :]
    if torch.equal(there, scores[:half]):
        return True
    again = scores_of(network, images.clone(), num_classes)  # a network with randomness of its own changes anyway
    if _change(scores[:half], there) > _ROUNDING[precision] + _change(scores, again):
        raise ModelError(
            "the base network's answer to an image depends on the other images of a pass: draws would not be "
            "independent, and certificates would not hold; make it answer for each image by itself"
        )
    return False


def _change(scores: Tensor, other: Tensor) -> float:
    """Return the largest change of a score, over the largest score; NaN and equal infinities count as no change."""
    change = torch.where(scores == other, 0.0, (scores - other).abs()).nan_to_num(nan=0.0, posinf=torch.inf)
    size = scores[torch.isfinite(scores)].abs()
    return float(change.max() / size.max().clamp_min(1e-30)) if change.numel() and size.numel() else 0.0
