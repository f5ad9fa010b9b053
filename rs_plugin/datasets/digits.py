"""The 1 797 scans of handwritten digits, 8 by 8 pixels, that come with scikit-learn."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import torch

from rs_plugin.datasets.base import Dataset
from rs_plugin.errors import ChecksumError

#: The first images are for training, the last 360 are held out. Neighbours seem to be by one writer, so that a random
#: split would put the same hand on both sides.
TRAINING_IMAGES: Final = 1437

#: sha256 of the pixels (0 … 16, as little-endian float64) and the labels (int64).
SHA256: Final = "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"

SOURCE: Final = (
    "Optical Recognition of Handwritten Digits, test part, by E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, as bundled with scikit-learn"
)
LICENCE: Final = "CC BY 4.0"


def load_held_out() -> Dataset:
    """Return the last 360 images."""
    return _load("digits", slice(TRAINING_IMAGES, None))


def load_training() -> Dataset:
    """Return the first 1 437 images."""
    return _load("digits_train", slice(TRAINING_IMAGES))


def _load(name: str, positions: slice) -> Dataset:
    """Return a part of the collection, scaled to [0, 1].

    Raises:
        ChecksumError: the installed scikit-learn holds other images.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels, labels = np.asarray(bunch.images), np.asarray(bunch.target)
    found = hashlib.sha256(pixels.astype("<f8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    if found != SHA256:
        raise ChecksumError(
            f"scikit-learn's digits have sha256 {found}, expected {SHA256}; reinstall scikit-learn from its wheel"
        )
    images = torch.from_numpy(pixels / 16.0).to(torch.float32).unsqueeze(1)
    indices = torch.arange(len(images))
    return Dataset(
        name,
        images[positions].clone(),
        torch.from_numpy(labels.astype(np.int64))[positions].clone(),
        10,
        indices[positions].clone(),
        SOURCE,
        LICENCE,
    )
