"""What a data set is, its checks, and the lookup by name."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from rs_plugin.errors import InputError, ParameterError, UnknownNameError, counted
from rs_plugin.registry import Registry


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, checked on construction.

    Args:
        name: the name that it is registered under; a subset keeps it.
        images: float32, shape (n, channels, height, width), values in [0, 1].
        labels: int64, shape (n,), values in ``0 … num_classes - 1``.
        num_classes: number of classes.
        indices: int64, shape (n,): the place of every image in the original collection.
        source: where the images come from, for model cards and reports.
        licence: the licence of the images, for the same.
        collection: fingerprint of the whole that these images are a part of; by default their own.
        preprocessing: what was done to the images, in words.

    Raises:
        InputError: a shape, type or value that does not fit.
    """

    name: str
    images: Tensor
    labels: Tensor
    num_classes: int
    indices: Tensor
    source: str = ""
    licence: str = ""
    collection: str = ""
    preprocessing: str = "none"
    #: sha256 of shape, images and labels, as hexadecimal digits: equal if and only if the content is.
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        check_images(self.images, dtype=torch.float32, name=f"images of {self.name!r}")
        count = self.images.shape[0]
        for name, values in (("labels", self.labels), ("indices", self.indices)):
            if not isinstance(values, Tensor) or values.dtype != torch.int64 or values.shape != (count,):
                raise InputError(
                    f"{name} of {self.name!r} must be an int64 tensor of shape ({count},), not {_kind(values)}"
                )
        if self.num_classes < 1 or int(self.labels.min()) < 0 or int(self.labels.max()) >= self.num_classes:
            raise InputError(
                f"labels of {self.name!r} span {int(self.labels.min())} … {int(self.labels.max())}; "
                f"with num_classes = {self.num_classes} they must lie in 0 … {self.num_classes - 1}"
            )
        if len(set(self.indices.tolist())) < count:
            raise InputError(f"indices of {self.name!r} hold a value twice; every image needs a place of its own")
        object.__setattr__(self, "fingerprint", _fingerprint(self.images, self.labels))
        if not self.collection:
            object.__setattr__(self, "collection", self.fingerprint)

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        """Return what it is, without the pixels."""
        images = counted(len(self), "image")
        return f"<Dataset {self.name!r}: {images} of shape {self.image_shape}, {self.num_classes} classes>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def dim(self) -> int:
        """Number ``d`` of values of one image."""
        return self.images[0].numel()

    def take(self, positions: slice) -> Dataset:
        """Return the images at ``positions``, with their original indices."""
        return Dataset(
            self.name,
            self.images[positions],
            self.labels[positions],
            self.num_classes,
            self.indices[positions],
            self.source,
            self.licence,
            self.collection,
            self.preprocessing,
        )


@runtime_checkable
class Collection(Protocol):
    """Images that are read only as far as they are taken; a ``Dataset`` is one too."""

    def __len__(self) -> int: ...

    def take(self, positions: slice) -> Dataset:
        """Return the images at ``positions``, with their places in the collection as indices."""


#: Returns a data set; takes ``data_dir`` and ``preprocessing`` as keywords if these mean anything to it.
Loader = Callable[..., Collection]

#: Every data set that a user can name; other packages add loaders under the entry-point group of the same name.
datasets: Registry[Loader] = Registry("data set", callable, "rs_plugin.datasets")
datasets.register("digits", "rs_plugin.datasets.digits:load_held_out")
datasets.register("digits_train", "rs_plugin.datasets.digits:load_training")
for _name in ("cifar10", "cifar100", "cifar10_jpeg"):
    for _part in ("", "_train"):
        datasets.register(f"{_name}{_part}", f"rs_plugin.datasets.known:load_{_name}{_part}")
datasets.register("imagenet", "rs_plugin.datasets.known:load_imagenet")
datasets.register("imagenet_robustbench", "rs_plugin.datasets.known:load_imagenet_robustbench")

#: Shapes of the images of data sets that models are trained on, without ``preprocessing``, or with the usual one.
IMAGE_SHAPES: Final = {
    "digits": (1, 8, 8),
    **dict.fromkeys(("cifar10", "cifar100", "cifar10_jpeg"), (3, 32, 32)),
    **dict.fromkeys(("imagenet", "imagenet_robustbench"), (3, 224, 224)),
}


def load_dataset(
    name: str | Path,
    subset: str | None = None,
    n_examples: int | None = None,
    *,
    data_dir: str | Path | None = None,
    preprocessing: Any = None,
) -> Dataset:
    """Return the images of a data set that are to be worked on.

    The choice depends on the arguments only, never on a model or a result, and only the images chosen are read.

    Args:
        name: a registered name, one of the entry-point group ``rs_plugin.datasets``, or the path of a folder or zip
            file that holds images in one folder per class.
        subset: None or ``"all"``, or ``"every_20th"`` (any number) for images 0, 20, 40, … of the data set.
        n_examples: take only the first so many of the subset.
        data_dir: the folder that holds the data set; by default where the environment variable ``RS_DATA`` points.
        preprocessing: for image files: one of RobustBench's names, as in ``"Res256Crop224"``, or a function from a PIL
            image to a float tensor in [0, 1].

    Raises:
        UnknownNameError: no data set, subset or preprocessing has that name.
        ParameterError: ``n_examples`` is not a positive integer or exceeds the subset, or the data set does not take
            an option.
        InputError: the data are not there, not whole, or not what they must be.
    """
    _checked_step(subset, n_examples)  # before anything is read or fetched
    return choose(_collection(name, data_dir, preprocessing), str(name), subset, n_examples)


def choose(collection: Collection, name: str, subset: str | None, n_examples: int | None) -> Dataset:
    """Return the images of a collection that ``subset`` and ``n_examples`` name, as ``load_dataset`` has it."""
    step = _checked_step(subset, n_examples)
    available = len(range(0, len(collection), step))
    if n_examples is not None and n_examples > available:
        part = f"subset {subset!r} of {name!r}" if step > 1 else repr(name)
        raise ParameterError(
            f"n_examples = {n_examples}, but {part} has {counted(available, 'image')}; choose at most {available}"
        )
    count = available if n_examples is None else n_examples
    if isinstance(collection, Dataset) and count == len(collection):
        return collection
    return collection.take(slice(0, (count - 1) * step + 1, step))


def _checked_step(subset: str | None, n_examples: int | None) -> int:
    step = parse_subset(subset)
    if n_examples is not None and (isinstance(n_examples, bool) or not isinstance(n_examples, int) or n_examples < 1):
        raise ParameterError(f"n_examples must be a whole number of 1 or more, not {n_examples!r}")
    return step


def _collection(name: str | Path, data_dir: str | Path | None, preprocessing: Any) -> Collection:
    options = {"data_dir": data_dir, "preprocessing": preprocessing}
    given = {key: value for key, value in options.items() if value is not None}
    if _is_path(name) or (str(name) not in datasets.names() and Path(name).is_dir()):
        from rs_plugin.datasets.files import ImageFiles

        if data_dir is not None:
            raise ParameterError(f"the data set {str(name)!r} is a path already; leave out data_dir")
        return ImageFiles(name, preprocessing=preprocessing)
    loader = datasets.get(str(name))
    accepted = inspect.signature(loader).parameters
    for key, value in given.items():
        if key not in accepted:
            raise ParameterError(f"data set {name!r} takes no {key} (here {value!r}); leave it out")
    loaded = loader(**given)
    if not isinstance(loaded, Collection):
        raise ParameterError(f"the loader of data set {name!r} returned {_kind(loaded)}; it must return a Dataset")
    return loaded


def _is_path(name: str | Path) -> bool:
    return isinstance(name, Path) or (isinstance(name, str) and ("/" in name or "\\" in name or name.endswith(".zip")))


def parse_subset(subset: str | None) -> int:
    """Return the step between the images that ``subset`` names: 1 for all.

    >>> parse_subset("every_20th")
    20

    Raises:
        UnknownNameError: the text is neither ``"all"`` nor of the form ``"every_20th"``.
        ParameterError: a step of zero.
    """
    if subset is None or subset == "all":
        return 1
    match = re.fullmatch(r"every_(\d+)(?:st|nd|rd|th)", subset) if isinstance(subset, str) else None
    if match is None:
        close = difflib.get_close_matches(str(subset), ["all", "every_20th"], n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(f"unknown subset {subset!r}; known: all, every_20th (with any number).{hint}")
    if int(match[1]) == 0:
        raise ParameterError(f"subset {subset!r} has step 0; choose 1 or more, as in 'every_20th'")
    return int(match[1])


def check_images(images: object, *, dtype: torch.dtype | None = None, name: str = "images") -> Tensor:
    """Return ``images`` if they are floating, of shape (n, channels, height, width), n >= 1, with values in [0, 1].

    Args:
        images: what to check.
        dtype: the only type to accept, any floating type if None.
        name: how to call them in a message.

    Raises:
        InputError: they are not; the message says what was found and how to mend it.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"{name} must be a torch tensor, not {_kind(images)}; convert with torch.from_numpy")
    if not images.dtype.is_floating_point:
        raise InputError(f"{name} have type {images.dtype}; convert to float32, and divide by 255 if they are bytes")
    if dtype is not None and images.dtype != dtype:
        raise InputError(f"{name} have type {images.dtype}; convert with .to({dtype})")
    if images.ndim != 4 or min(images.shape) < 1:
        raise InputError(
            f"{name} have shape {tuple(images.shape)}; it must be (n, channels, height, width) without an empty axis"
            + ("; add the first axis with .unsqueeze(0)" if images.ndim == 3 else "")
        )
    low, high = float(images.min()), float(images.max())
    if low >= 0.0 and high <= 1.0:
        return images
    # Comparisons with NaN are false, so that NaN arrives here as well.
    unfit = ~((images >= 0.0) & (images <= 1.0))
    where = tuple(int(place) for place in unfit.nonzero()[0])
    value = float(images[where])
    if value != value:
        remedy = "NaN; remove or repair that image"
    elif low < 0.0:
        remedy = f"{value:g}, outside [0, 1]; undo the normalisation: it belongs inside the network"
    else:
        divide = 1.5 < high <= 255.0
        remedy = f"{value:.9g}, outside [0, 1]; " + ("divide by 255" if divide else "clamp or rescale to [0, 1]")
    raise InputError(f"{name} hold at {where} the value {remedy}")


def _fingerprint(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.detach().cpu().contiguous().numpy().astype("<f4", copy=False).data)
    digest.update(labels.detach().cpu().contiguous().numpy().astype("<i8", copy=False).data)
    return digest.hexdigest()


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
