"""The bundled digits, the choice of a subset, and the checks of images."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from rs_plugin.datasets import Dataset, check_images, datasets, load_dataset, parse_subset
from rs_plugin.datasets import digits as digits_module
from rs_plugin.datasets.augmentation import augmentations
from rs_plugin.errors import ChecksumError, InputError, ParameterError, UnknownNameError


def _dataset(**changes: object) -> Dataset:
    fields: dict[str, object] = {
        "name": "toy",
        "images": torch.linspace(0, 1, 4 * 12).view(4, 3, 2, 2),
        "labels": torch.tensor([0, 1, 2, 1]),
        "num_classes": 3,
        "indices": torch.tensor([10, 11, 12, 13]),
    }
    return Dataset(**{**fields, **changes})  # type: ignore[arg-type]


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    held_out, training = load_dataset("digits"), load_dataset("digits_train")
    assert (len(held_out), len(training)) == (360, 1437)
    for dataset in (held_out, training):
        assert dataset.image_shape == (1, 8, 8)
        assert dataset.dim == 64
        assert dataset.num_classes == 10
        assert (dataset.images.dtype, dataset.labels.dtype) == (torch.float32, torch.int64)
        # 0 ... 16 over 16 is exact in float32, so equality is.
        assert torch.equal(dataset.images[:, 0].double() * 16, torch.from_numpy(bunch.images)[dataset.indices])
        assert torch.equal(dataset.labels, torch.from_numpy(bunch.target)[dataset.indices])
        assert dataset.source and dataset.licence
    assert torch.equal(training.indices, torch.arange(1437))
    assert torch.equal(held_out.indices, torch.arange(1437, 1797))


def test_loads_share_nothing() -> None:
    first = load_dataset("digits")
    first.images[0] = 0.5
    assert not torch.equal(load_dataset("digits").images, first.images)


def test_other_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "SHA256", "0" * 64)
    with pytest.raises(ChecksumError, match=r"have sha256 f6d9e39f37dc.*expected 0{64}.*reinstall"):
        load_dataset("digits")


def test_subsets() -> None:
    everything = load_dataset("digits")
    assert load_dataset("digits", subset="all").fingerprint == everything.fingerprint
    twentieth = load_dataset("digits", subset="every_20th")
    assert torch.equal(twentieth.indices, torch.arange(1437, 1797, 20))
    assert torch.equal(twentieth.images, everything.images[::20])
    assert torch.equal(twentieth.labels, everything.labels[::20])
    assert twentieth.name == "digits"
    first = load_dataset("digits", subset="every_20th", n_examples=5)
    assert torch.equal(first.indices, 1437 + 20 * torch.arange(5))
    assert torch.equal(load_dataset("digits", n_examples=7).indices, torch.arange(1437, 1444))
    assert len(load_dataset("digits", subset="every_20th", n_examples=18)) == 18
    assert len({everything.fingerprint, twentieth.fingerprint, first.fingerprint}) == 3


@pytest.mark.parametrize(
    ("text", "step"),
    [(None, 1), ("all", 1), ("every_1st", 1), ("every_2nd", 2), ("every_3rd", 3), ("every_100th", 100)],
)
def test_parse_subset(text: str | None, step: int) -> None:
    assert parse_subset(text) == step


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "digit"}, UnknownNameError, "Did you mean 'digits'"),
        ({"subset": "evry_20th"}, UnknownNameError, "Did you mean 'every_20th'"),
        ({"subset": "every_th"}, UnknownNameError, "unknown subset"),
        ({"subset": 20}, UnknownNameError, "unknown subset 20"),
        ({"subset": "every_0th"}, ParameterError, "step 0"),
        ({"n_examples": 0}, ParameterError, "n_examples must be a whole number of 1 or more, not 0"),
        ({"n_examples": -3}, ParameterError, "-3"),
        ({"n_examples": 2.0}, ParameterError, "2.0"),
        ({"n_examples": True}, ParameterError, "True"),
        ({"n_examples": 361}, ParameterError, "'digits' has 360 images; choose at most 360"),
        ({"n_examples": 19, "subset": "every_20th"}, ParameterError, "'every_20th' of 'digits' has 18 images"),
    ],
)
def test_bad_choices(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_dataset(**{"name": "digits", **arguments})  # type: ignore[arg-type]


def test_choice_is_checked_before_the_images_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._targets, "broken", lambda: pytest.fail("loaded"))
    for choice in ({"subset": "every"}, {"n_examples": 0}):
        with pytest.raises((ParameterError, UnknownNameError)):
            load_dataset("broken", **choice)  # type: ignore[arg-type]


def test_loader_must_return_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._targets, "broken", lambda: [1, 2])
    with pytest.raises(ParameterError, match="returned a list"):
        load_dataset("broken")


def test_another_package_s_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._targets, "toy", _dataset)
    assert torch.equal(load_dataset("toy", subset="every_3rd").indices, torch.tensor([10, 13]))


def test_dataset_is_frozen_and_fingerprinted_by_content() -> None:
    dataset = _dataset()
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]
    assert dataset.fingerprint == _dataset(name="other", indices=torch.tensor([0, 1, 2, 3])).fingerprint
    assert dataset.fingerprint != _dataset(labels=torch.tensor([0, 1, 2, 2])).fingerprint
    assert dataset.fingerprint != _dataset(images=dataset.images.view(4, 3, 4, 1)).fingerprint
    assert dataset.fingerprint != _dataset(images=dataset.images.flip(0)).fingerprint
    transposed = dataset.images.transpose(2, 3).contiguous().transpose(2, 3)  # same values, another memory layout
    assert dataset.fingerprint == _dataset(images=transposed).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.full((4, 3, 2, 2), 255.0)}, "divide by 255"),
        ({"images": torch.zeros(4, 3, 2, 2, dtype=torch.float64)}, r"convert with .to\(torch.float32\)"),
        ({"labels": torch.tensor([0, 1, 2])}, r"labels of 'toy' must be an int64 tensor of shape \(4,\)"),
        ({"labels": torch.zeros(4)}, "not a torch.float32 tensor"),
        ({"labels": [0, 1, 2, 1]}, "not a list"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, r"span 0 … 3; with num_classes = 3"),
        ({"labels": torch.tensor([0, -1, 2, 1])}, "span -1"),
        ({"indices": torch.arange(3)}, "indices of 'toy'"),
    ],
)
def test_dataset_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _dataset(**changes)


def _with(value: float) -> torch.Tensor:
    images = torch.full((2, 1, 3, 3), 0.5)
    images[1, 0, 2, 1] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0.5]], "must be a torch tensor, not a list"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), "torch.uint8; convert to float32, and divide by 255"),
        (torch.zeros(1, 3, 3), r"shape \(1, 3, 3\).*unsqueeze"),
        (torch.zeros(2, 1, 1, 3, 3), r"shape \(2, 1, 1, 3, 3\)"),
        (torch.zeros(0, 1, 3, 3), "empty axis"),
        (_with(float("nan")), r"at \(1, 0, 2, 1\) the value NaN"),
        (_with(1.25), r"at \(1, 0, 2, 1\) the value 1.25, outside \[0, 1\]; clamp"),
        (_with(1 + 2.0**-20), r"the value 1.00000095, outside \[0, 1\]; clamp"),
        (_with(200.0), r"the value 200, outside \[0, 1\]; divide by 255"),
        (_with(300.0), "300, outside .*rescale"),
        (_with(float("inf")), "inf, outside .*rescale"),
        (_with(-0.25), "-0.25, outside .*normalisation"),
    ],
)
def test_check_images_refusals(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_images(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_check_images_accepts(dtype: torch.dtype) -> None:
    images = torch.tensor([0.0, 1.0, 0.5, 0.25], dtype=dtype).view(1, 1, 2, 2)
    assert check_images(images) is images


def test_shift_moves_a_quarter_of_the_images_by_at_most_one_pixel() -> None:
    images = torch.rand(4000, 2, 5, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    before = images.clone()
    moved = augmentations.get("shift")(images, torch.Generator().manual_seed(1))
    assert torch.equal(images, before)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    counts = {}
    found = torch.zeros(len(images), dtype=torch.bool)
    for row in range(3):
        for column in range(3):
            same = (moved == padded[:, :, row : row + 5, column : column + 6]).flatten(1).all(1)
            counts[row, column] = int(same.sum())
            found |= same
    assert found.all()
    # An image stays with probability 3/4 + 1/36, any of the eight moves has 1/36. Each count leaves its mean by
    # 5 standard deviations with probability below 1e-6.
    for place, count in counts.items():
        p = 7 / 9 if place == (1, 1) else 1 / 36
        assert abs(count - 4000 * p) < 5 * (4000 * p * (1 - p)) ** 0.5


def test_no_augmentation_is_the_identity() -> None:
    images = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmentations.get("none")(images, torch.Generator()), images)
    with pytest.raises(UnknownNameError, match="Did you mean 'shift'"):
        augmentations.get("shfit")
