"""One pass of the network: its number type, its threads, and what it may answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from rs_plugin.errors import ModelError, UnknownNameError, first_line

#: Types that a network may compute in; all but float32 by autocast.
PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Answers of ``classes_of`` that are no classes, and what the network returned there.
_UNUSABLE: Final = {-1: "infinite scores", -2: "NaN"}


def scores_of(network: Any, images: Tensor, num_classes: int) -> Tensor:
    """Return the network's scores (batch, classes) of a block of images.

    Raises:
        ModelError: it fails, or answers with something else.
    """
    try:
        scores = network(images)
    except Exception as error:
        reason = first_line(error)
        shape = tuple(images.shape)
        raise ModelError(f"the base network failed on float32 images of shape {shape}: {reason}") from error
    _check_shape(scores, len(images), num_classes)
    return torch.as_tensor(scores)


def classes_of(scores: Tensor) -> Tensor:
    """Return the class of every row, or a negative number where its scores are not usable; nothing is waited for."""
    highest = scores.amax(1)  # NaN where any score is
    classes = torch.where(torch.isfinite(highest), scores.argmax(1), -1)
    return torch.where(torch.isnan(highest), -2, classes)


def check_classes(lowest: int) -> None:
    """Raise ModelError if the lowest answer of ``classes_of`` is no class."""
    if lowest < 0:
        raise ModelError(f"the base network returned {_UNUSABLE[lowest]}; votes of such a network would mean nothing")


def check_scores(scores: object, rows: int, num_classes: int) -> None:
    """Raise ModelError unless ``scores`` is a tensor (rows, num_classes) without NaN, the highest of each row finite.

    Scores of minus infinity, logarithms of 0 for instance, are as good as others unless all of a row are.
    """
    _check_shape(scores, rows, num_classes)
    assert isinstance(scores, Tensor)
    check_classes(int(classes_of(scores).min()))


def _check_shape(scores: object, rows: int, num_classes: int) -> None:
    if not isinstance(scores, Tensor):
        raise ModelError(f"the base network returned {type(scores).__name__}; it must return a tensor of class scores")
    if scores.layout != torch.strided or scores.dtype == torch.bool or scores.is_complex():
        kind = f"{scores.dtype} scores, {scores.layout}"
        raise ModelError(f"the base network returned {kind}; they must be real numbers in a dense tensor")
    if scores.ndim != 2 or scores.shape[0] != rows:
        raise ModelError(
            f"the base network returned shape {tuple(scores.shape)} for {rows} images; "
            f"it must be ({rows}, {num_classes})"
        )
    if scores.shape[1] != num_classes:
        raise ModelError(
            f"the base network returned {scores.shape[1]} class scores, not {num_classes}; pass num_classes="
            f"{scores.shape[1]} if that is its number of classes"
        )


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a precision, whatever autocast a caller may have set for his own thread."""
    kind = device.type if device.type == "cuda" else "cpu"
    if precision == "float32":
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, PRECISIONS[precision])


def check_precision(precision: str) -> str:
    """Return ``precision`` if it is the name of one.

    Raises:
        UnknownNameError: it is not.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    return precision


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run torch's operators on one thread each, so that their rounding does not depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
