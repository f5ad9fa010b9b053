"""How a network is best shown its images, and whether it answers for each by itself; found by showing it some.

A bound on the share of votes is one for independent draws. So the answer to an image must be a function of that image
alone: not of the images beside it in a pass, nor of chance or memory in the network. Showing the same images beside
others tests that, before votes are counted and now and then while they are; it cannot prove it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from rs_plugin.errors import ModelError, first_line
from rs_plugin.streams import CHUNK
from rs_plugin.voting.passes import check_classes, classes_of, computing_in, scores_of

#: Change of a row's margin, over the usual margin, that another layout, place or compiled code may make by rounding.
_ROUNDING: Final = 0.01


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


def find_manner(
    network: Any, images: Tensor, num_classes: int, precision: str = "float32", compiled: bool = False
) -> tuple[Any, Manner]:
    """Return what votes are counted with, and how it is shown images, after it has answered for each by itself.

    A pass may hold draws of several images if scores do not change by a bit where images move by whole chunks, since
    images of a run are mixed as threads happen to work.

    Args:
        network: from images to scores.
        images: one block of noisy images, of the shape of all later ones, contiguous.
        num_classes: number of classes.
        precision: what the network computes in.
        compiled: whether votes are counted with ``torch.compile`` of the network.

    Raises:
        ModelError: it fails, answers with something else than scores, cannot be compiled, or its answer to an image
            depends on the others, on chance, or on what it was shown before.
    """
    layout, scores = _layout(network, images, num_classes, precision)
    images = images.contiguous(memory_format=Manner(layout).memory_format)
    if compiled:
        network, scores = _compiled(network, images, scores, precision)
    check_alone(network, images, scores, [beside(images, far_from(images, turn), turn) for turn in range(2)])
    there = scores_of(network, _like(images, images.roll(CHUNK, 0)), num_classes).roll(-CHUNK, 0)
    if not _agree(network, images, scores, there, precision):
        raise ModelError(
            "the base network's answer to an image depends on its place in a pass; make it answer for each by itself"
        )
    return network, Manner(layout, len(images) % CHUNK == 0 and torch.equal(scores, there))


class Shown(NamedTuple):
    """A block that has some images at their own places, beside others.

    Attributes:
        places: of the images that are there, shape ``(kept,)``.
        block: of the shape and in the layout of all blocks.
    """

    places: Tensor
    block: Tensor


def beside(images: Tensor, others: Tensor, turn: int) -> Shown:
    """Return the images at some of their places, other ones every turn, with others at all other places.

    Half of them on even turns; on odd ones one in eight, never the first or last, at which many a mistake looks.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(turn)).to(images.device)
    inner = order[(order > 0) & (order < len(images) - 1)]
    places = inner[: 1 + len(images) // 8] if turn % 2 else order[: -(-len(images) // 2)]
    block = _like(images, others)
    block[places] = images[places]
    return Shown(places, block)


def far_from(images: Tensor, turn: int) -> Tensor:
    """Return images that move a mean, a maximum or a scale over a block, or a part of it: bright ones, or black."""
    return torch.zeros_like(images) if turn % 2 else 10.0 * images.flip(0)


def check_alone(network: Any, images: Tensor, scores: Tensor, company: Iterable[Shown]) -> None:
    """Raise ModelError if the scores of a block of images change when it is shown again, or in part in company.

    Not by a bit may they, but on devices that take sums in any order: there by no more than another call changes them.
    """
    num_classes = scores.shape[1]
    unsteady = _largest(_change(scores, scores_of(network, images.clone(), num_classes)))
    if not unsteady <= _ROUNDING:
        raise ModelError(
            "the base network answers otherwise when it is shown the same images again: it has randomness or memory of "
            "its own, such as dropout that stays on; its draws need not be independent, and votes could not be "
            "repeated; make its answer a function of the image"
        )
    for places, block in company:
        there = scores_of(network, block.clone(), num_classes)[places]
        if not _largest(_change(scores[places], there)) <= 10.0 * unsteady:
            raise ModelError(
                "the base network's answer to an image depends on the other images of a pass: draws would not be "
                "independent, and certificates would not hold; make it answer for each image by itself"
            )


def _layout(network: Any, images: Tensor, num_classes: int, precision: str) -> tuple[str, Tensor]:
    """Return the layout, and the scores in it."""
    scores = scores_of(network, images.clone(), num_classes)  # copies, since some networks write into their input
    check_classes(int(classes_of(scores).min()))
    if images.ndim != 4 or images.shape[1] == 1:
        return "contiguous", scores
    try:
        there = scores_of(network, images.contiguous(memory_format=torch.channels_last), num_classes)
    except ModelError:  # it views the pixels as one row, for instance
        return "contiguous", scores
    fits = _agree(network, images, scores, there, precision)
    return ("channels_last", there) if fits else ("contiguous", scores)


def _compiled(network: nn.Module, images: Tensor, scores: Tensor, precision: str) -> tuple[Any, Tensor]:
    """Return ``torch.compile`` of a copy of the network, its weights as they are now, and its scores.

    Raises:
        ModelError: it cannot be compiled, or answers otherwise than the network itself by more than rounding.
    """
    try:
        import torch._inductor.config  # the setting that lets weights be constants is documented nowhere else

        # Compiled code is kept with the code that it came from, for all networks of a class: what was compiled for
        # other weights must not be met. A caller's own compiled networks are compiled once more when next called.
        torch.compiler.reset()
        fast = torch.compile(copy.deepcopy(network), dynamic=False)
        with torch._inductor.config.patch(freezing=True):
            found = fast(images.clone())
    except Exception as error:
        reason = first_line(error)
        raise ModelError(f"the base network cannot be compiled here ({reason}); do without compiled=True") from error
    if not _agree(network, images, scores, found, precision):
        raise ModelError("the compiled network answers otherwise than the network itself; do without compiled=True")
    return fast, found


def _agree(network: Any, images: Tensor, scores: Tensor, other: Tensor, precision: str) -> bool:
    """Return whether scores of the same images that were computed in two ways agree but for rounding."""
    change = _usual(_change(scores, other))
    if change <= _ROUNDING or precision == "float32":
        return change <= _ROUNDING
    with computing_in("float32", images.device):
        exact = scores_of(network, images.clone(), scores.shape[1])
    return change <= 3.0 * _usual(_change(exact, scores))  # as far as such rounding goes without it


def _change(scores: Tensor, other: Tensor) -> Tensor:
    """Return by how much each row's margin changes, over the median margin; infinite where NaN is.

    The margin of a row is its top score less the next one; in ``other`` it is of the same class. It decides the vote,
    and neither an offset of all scores nor a class that is masked by a huge number hides its changes.
    """
    top = scores.argmax(1, keepdim=True)
    margin, there = _margin(scores, top), _margin(other, top)
    change = torch.where(margin == there, 0.0, (margin - there).abs())
    return (change / margin.median().clamp_min(1e-30)).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _margin(scores: Tensor, top: Tensor) -> Tensor:
    scores = scores.double()
    rest = scores.scatter(1, top, -torch.inf).amax(1)
    return scores.gather(1, top).squeeze(1) - rest


def _largest(change: Tensor) -> float:
    return float(change.max()) if len(change) else 0.0


def _usual(change: Tensor) -> float:
    return float(change.median())


def _like(images: Tensor, values: Tensor) -> Tensor:
    """Return the values in the layout of the images."""
    return torch.empty_like(images).copy_(values)
