"""Data sets of image files: a folder or a zip file with one folder per class, read as far as they are asked for."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from torch import Tensor

from rs_plugin.datasets.base import Dataset
from rs_plugin.errors import InputError, ParameterError, UnknownNameError, first_line

#: Formats whose files hardly ever agree in size, which is how a folder's content is told apart.
SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png", ".webp"})
_LARGEST_FILE: Final = 1 << 26  # bytes; what claims to be larger is no image for a classifier
_LARGEST_PIXELS: Final = 1 << 26
_LARGEST_SET: Final = 16 << 30  # bytes of float32 values held at a time

Preprocessing = str | Callable[[Any], Tensor] | None

#: Resizing (0: none), its interpolation, and cropping, by RobustBench's names.
_PREPROCESSINGS: Final[dict[str, tuple[int | tuple[int, int], str, int]]] = {
    "Res256Crop224": (256, "bilinear", 224),
    "BicubicRes256Crop224": (256, "bicubic", 224),
    "Crop288": (0, "bilinear", 288),
    "Res224": ((224, 224), "bilinear", 0),
}


@dataclass(frozen=True)
class _File:
    path: str  # relative, with forward slashes
    size: int
    crc: int  # 0 in a folder, whose files are not read for it

    @property
    def label(self) -> str:
        return PurePosixPath(self.path).parent.name

    @property
    def number(self) -> int | None:
        stem = PurePosixPath(self.path).stem
        return int(stem) if stem.isascii() and stem.isdigit() else None


class ImageFiles:
    """The images below a folder, or in a zip file, with one folder per class; classes in alphabetical order.

    Where every file has a number of its own as its name, that is its index; otherwise the order of class and name is.

    Args:
        path: the folder or zip file.
        name: name of the data set.
        preprocessing: None, one of RobustBench's names, or a function from a PIL image to a float tensor in [0, 1].
        classes: how many classes there must be.
        count: how many images there must be.
        only: the last two parts of the paths, ``class/file``, of the images to keep, in that order; their indices are
            their places in it.
        source: where the images come from.
        licence: their licence.

    Raises:
        InputError: the path holds no such images, or not as many as it must.
        UnknownNameError: no preprocessing has that name.
    """

    def __init__(
        self,
        path: str | Path,
        name: str | None = None,
        preprocessing: Preprocessing = None,
        *,
        classes: int | None = None,
        count: int | None = None,
        only: Sequence[str] | None = None,
        source: str = "",
        licence: str = "",
    ) -> None:
        self._path = Path(path)
        self.name = name or self._path.stem
        self._transform, self.preprocessing = _transform(preprocessing)
        self._source, self._licence = source or str(path), licence
        files = _zip_files(self._path) if self._path.is_file() else _folder_files(self._path)
        labels = sorted({file.label for file in files})
        if len(labels) < 2:
            raise InputError(
                f"{str(path)!r} must hold images in one folder per class, two or more; it has {len(files)} images in "
                f"{len(labels)} class folders"
            )
        above = {str(PurePosixPath(file.path).parent.parent) for file in files}
        if len(above) > 1:
            raise InputError(
                f"{str(path)!r} holds class folders at several places ({', '.join(sorted(above)[:4])}); give the one "
                f"that is meant"
            )
        if (classes is not None and len(labels) != classes) or (count is not None and len(files) != count):
            found, due = f"{len(files)} images of {len(labels)} classes", f"{count or 'any'} of {classes or 'any'}"
            raise InputError(f"{str(path)!r} holds {found}, not {due}; it is another data set, or half of a copy")
        numbers = [file.number for file in files]
        if only is not None:
            self._files, self._indices = _picked(files, only, path), list(range(len(only)))
        elif None not in numbers and len(set(numbers)) == len(files):
            self._files = sorted(files, key=lambda file: file.number or 0)
            self._indices = sorted(number for number in numbers if number is not None)
        else:
            self._files = sorted(files, key=lambda file: (file.label, file.path))
            self._indices = list(range(len(files)))
        self._labels = {label: place for place, label in enumerate(labels)}
        listing = "\n".join(f"{file.path}|{file.size}|{file.crc}" for file in self._files)
        digest = hashlib.sha256(f"{listing}\n{self.preprocessing}".encode())
        if callable(preprocessing):  # whose name does not say what it does
            with _Reader(self._path) as read:
                digest.update(self._decoded(self._files[0], read).contiguous().numpy().tobytes())
        self._collection = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def take(self, positions: slice) -> Dataset:
        """Return the images at ``positions``, decoded.

        Raises:
            InputError: an image cannot be read, or images differ in shape.
            ParameterError: they would not fit into memory.
        """
        files = self._files[positions]
        with _Reader(self._path) as read, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            first = self._decoded(files[0], read)
            if (need := len(files) * first.numel() * 4) > _LARGEST_SET:
                raise ParameterError(
                    f"{len(files)} images of {self.name!r} would take {need / 2**30:.0f} GiB; choose fewer by a subset "
                    f"or n_examples"
                )
            images = torch.empty((len(files), *first.shape))

            def put(place: int) -> None:
                image = self._decoded(files[place], read)
                if image.shape != first.shape:
                    raise InputError(
                        f"{files[place].path!r} of {self.name!r} has shape {tuple(image.shape)}, the first image "
                        f"{tuple(first.shape)}; choose a preprocessing, as in 'Res256Crop224'"
                    )
                images[place] = image

            list(pool.map(put, range(len(files))))
        return Dataset(
            self.name,
            images,
            torch.tensor([self._labels[file.label] for file in files]),
            len(self._labels),
            torch.tensor(self._indices[positions]),
            self._source,
            self._licence,
            self._collection,
            self.preprocessing,
        )

    def _decoded(self, file: _File, read: Callable[[_File], bytes]) -> Tensor:
        from PIL import Image

        unreadable = (OSError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError)
        try:
            picture = Image.open(io.BytesIO(read(file)))
            if picture.width * picture.height > _LARGEST_PIXELS:
                raise ValueError(f"it has {picture.width} by {picture.height} pixels")
            return self._transform(picture.convert("RGB")).to(torch.float32)
        except unreadable as error:
            reason = first_line(error)
            raise InputError(
                f"image {file.path!r} of {str(self._path)!r} cannot be read ({reason}); copy the data set again"
            ) from error


class _Reader:
    """Reads files of a folder or a zip file, from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path) if path.is_file() else None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def __call__(self, file: _File) -> bytes:
        return (self._path / file.path).read_bytes() if self._zip is None else self._zip.read(file.path)


def _picked(files: Sequence[_File], only: Sequence[str], path: str | Path) -> list[_File]:
    known = {"/".join(PurePosixPath(file.path).parts[-2:]): file for file in files}
    missing = [wanted for wanted in only if wanted not in known]
    if missing:
        raise InputError(f"{str(path)!r} lacks {len(missing)} of {len(only)} images, {missing[0]!r} for instance")
    return [known[wanted] for wanted in only]


def _zip_files(path: Path) -> list[_File]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{str(path)!r} is not a whole zip file ({error}); copy or download it again") from error
    return _images(path, [_File(member.filename, member.file_size, member.CRC) for member in members])


def _folder_files(path: Path) -> list[_File]:
    if not path.is_dir():
        raise InputError(f"there is no folder or zip file {str(path)!r}; give the path of the images")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES:
                whole = Path(folder) / name
                found.append(_File(whole.relative_to(path).as_posix(), whole.stat().st_size, 0))
    return _images(path, found)


def _images(path: Path, files: Sequence[_File]) -> list[_File]:
    kept = []
    for file in files:
        parts = PurePosixPath(file.path).parts
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        if hidden or PurePosixPath(file.path).suffix.lower() not in SUFFIXES:
            continue
        if len(parts) < 2:
            raise InputError(
                f"{str(path)!r} holds {file.path!r} outside any class folder; images must lie in one folder per class"
            )
        if file.size > _LARGEST_FILE:
            raise InputError(f"{file.path!r} in {str(path)!r} has {file.size} bytes, which no image of a data set has")
        kept.append(file)
    return kept


def _transform(preprocessing: Preprocessing) -> tuple[Callable[[Any], Tensor], str]:
    """Return the function from a PIL image to a tensor, and its name."""
    if preprocessing is not None and not isinstance(preprocessing, str):
        if not callable(preprocessing):
            raise ParameterError(f"preprocessing must be a name or a function, not {preprocessing!r}")
        named = preprocessing if hasattr(preprocessing, "__qualname__") else type(preprocessing)
        return preprocessing, f"{named.__module__}.{named.__qualname__}"
    from torchvision import transforms

    if preprocessing is None:
        return transforms.ToTensor(), "none"
    if preprocessing not in _PREPROCESSINGS:
        raise UnknownNameError(f"unknown preprocessing {preprocessing!r}; known: {', '.join(_PREPROCESSINGS)}")
    size, interpolation, crop = _PREPROCESSINGS[preprocessing]
    steps: list[Any] = []
    if size:
        steps.append(transforms.Resize(size, transforms.InterpolationMode(interpolation)))
    if crop:
        steps.append(transforms.CenterCrop(crop))
    return transforms.Compose([*steps, transforms.ToTensor()]), preprocessing
