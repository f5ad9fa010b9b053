"""Data sets of files: what is read, in which order, and what is said where they are not as they must be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as tv
from torchvision import transforms

from rs_plugin.datasets import load_dataset
from rs_plugin.datasets.files import ImageFiles
from rs_plugin.errors import InputError, ParameterError, UnknownNameError

CLASSES = ("ant", "bee", "cat")


def picture(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(seed: int, size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    picture(seed, size).save(stream, "PNG")  # lossless, so that pixels come back as they were
    return stream.getvalue()


def pixels(seed: int, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture(seed, size)).copy()).permute(2, 0, 1).float() / 255


#: Place in the collection to class, as in CIFAR's files: numbers run over all classes.
LABELS = (2, 0, 1, 1, 2, 0, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "animals"
    for number, label in enumerate(LABELS):
        place = root / "test" / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03d}.png").write_bytes(encoded(number))
    (root / "test" / "ant" / "notes.txt").write_text("no image")
    (root / ".cache" / "ant").mkdir(parents=True)
    (root / ".cache" / "ant" / "9.png").write_bytes(encoded(99))
    return root


def zipped(folder: Path) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target


@pytest.mark.parametrize("form", ["folder", "zip"])
class TestOrder:
    def test_numbers_are_places(self, folder: Path, form: str) -> None:
        data = load_dataset(folder if form == "folder" else zipped(folder))
        assert data.labels.tolist() == list(LABELS)
        assert data.indices.tolist() == list(range(7))
        assert data.num_classes == 3 and data.name == "animals"
        for place in range(7):
            assert torch.equal(data.images[place], pixels(place))

    def test_a_part_is_a_part_of_the_whole(self, folder: Path, form: str) -> None:
        path = str(folder if form == "folder" else zipped(folder))
        whole, part = load_dataset(path), load_dataset(path, "every_3rd", 2)
        assert part.indices.tolist() == [0, 3]
        assert torch.equal(part.images, whole.images[[0, 3]]) and part.collection == whole.collection
        assert part.fingerprint != whole.fingerprint

    def test_without_numbers_class_and_name_decide(self, folder: Path, form: str) -> None:
        """As torchvision orders folders, which published subsets of ImageNet rest on."""
        for place, path in enumerate(sorted(folder.rglob("test/**/*.png"))):
            path.rename(path.with_name(f"img_{9 - place}.png"))
        expected = tv.ImageFolder(str(folder / "test"), transforms.ToTensor())
        data = load_dataset(folder if form == "folder" else zipped(folder))
        assert data.labels.tolist() == expected.targets
        assert all(torch.equal(image, expected[i][0]) for i, image in enumerate(data.images))


def test_only_what_is_chosen_is_read(folder: Path) -> None:
    broken = folder / "test" / "bee" / "003.png"
    broken.write_bytes(b"no image at all")
    assert load_dataset(folder, n_examples=3).indices.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"003\.png.*cannot be read.*copy the data set again"):
        load_dataset(folder)


def test_the_collection_is_told_apart_by_its_files_and_preprocessing(folder: Path) -> None:
    plain = load_dataset(folder, n_examples=1)
    cut = load_dataset(folder, n_examples=1, preprocessing="Res256Crop224")
    assert cut.image_shape == (3, 224, 224) and cut.preprocessing == "Res256Crop224"
    assert plain.collection != cut.collection
    (folder / "test" / "bee" / "003.png").write_bytes(encoded(3, (8, 9)))
    assert load_dataset(folder, n_examples=1).collection != plain.collection


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("Res256Crop224", [transforms.Resize(256), transforms.CenterCrop(224)]),
        (
            "BicubicRes256Crop224",
            [transforms.Resize(256, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)],
        ),
        ("Crop288", [transforms.CenterCrop(288)]),
        ("Res224", [transforms.Resize([224, 224])]),
    ],
)
def test_preprocessing_by_robustbenchs_names(folder: Path, name: str, steps: list[torch.nn.Module]) -> None:
    expected = transforms.Compose([*steps, transforms.ToTensor()])(picture(0))
    assert torch.equal(load_dataset(folder, n_examples=1, preprocessing=name).images[0], expected)


def test_preprocessing_by_a_function(folder: Path) -> None:
    half = transforms.Compose([transforms.Resize(4), transforms.ToTensor()])
    assert load_dataset(folder, preprocessing=half).image_shape == (3, 4, 4)


class TestRefusals:
    def test_images_of_several_shapes(self, folder: Path) -> None:
        (folder / "test" / "bee" / "003.png").write_bytes(encoded(3, (8, 9)))
        with pytest.raises(InputError, match=r"shape \(3, 8, 9\).*choose a preprocessing"):
            load_dataset(folder)

    def test_half_a_zip_file(self, folder: Path) -> None:
        whole = zipped(folder)
        whole.write_bytes(whole.read_bytes()[:-100])
        with pytest.raises(InputError, match=r"not a whole zip file.*download it again"):
            load_dataset(whole)

    def test_a_damaged_member(self, folder: Path) -> None:
        whole = zipped(folder)
        content = bytearray(whole.read_bytes())
        content[content.rindex(b"IDAT") + 20] ^= 255
        whole.write_bytes(bytes(content))
        with pytest.raises(InputError, match="cannot be read"):
            load_dataset(whole)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no folder or zip file"):
            load_dataset(tmp_path / "nothing")

    def test_no_classes(self, folder: Path) -> None:
        (folder / "loose.png").write_bytes(encoded(1))
        with pytest.raises(InputError, match=r"'loose\.png' outside any class folder"):
            load_dataset(folder)
        with pytest.raises(InputError, match="two or more; it has 3 images in 1 class folders"):
            load_dataset(one_class(folder))

    def test_several_places(self, folder: Path) -> None:
        place = folder / "train" / "ant"
        place.mkdir(parents=True)
        (place / "000.png").write_bytes(encoded(1))
        with pytest.raises(InputError, match=r"several places \(test, train\)"):
            load_dataset(folder)

    def test_numbers_of_images_and_classes(self, folder: Path) -> None:
        with pytest.raises(InputError, match=r"holds 7 images of 3 classes, not 9 of 3; .*half of a copy"):
            ImageFiles(folder, count=9, classes=3)

    def test_unknown_preprocessing(self, folder: Path) -> None:
        with pytest.raises(UnknownNameError, match="unknown preprocessing 'Res1'; known: Res256Crop224"):
            load_dataset(folder, preprocessing="Res1")

    def test_a_zip_that_claims_a_giant(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rs_plugin.datasets.files._LARGEST_FILE", 100)
        with pytest.raises(InputError, match="which no image of a data set has"):
            load_dataset(zipped(folder))

    def test_a_picture_of_too_many_pixels(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rs_plugin.datasets.files._LARGEST_PIXELS", 10)
        with pytest.raises(InputError, match="8 by 8 pixels"):
            load_dataset(folder)

    def test_more_than_memory(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rs_plugin.datasets.files._LARGEST_SET", 1000)
        with pytest.raises(ParameterError, match="choose fewer"):
            load_dataset(folder)

    def test_a_folder_beside_one_by_its_plain_name(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder.parent)
        assert len(load_dataset(folder.name)) == len(load_dataset(folder))
        folder.rename("digits")  # a registered name goes first
        assert load_dataset("digits", n_examples=1).source != "digits" and load_dataset("digits").num_classes == 10

    def test_functions_are_told_apart_by_what_they_do(self, folder: Path) -> None:
        def made(factor: float) -> Callable[[Image.Image], torch.Tensor]:
            return lambda image: factor * transforms.functional.to_tensor(image)

        first, second, third = (load_dataset(folder, preprocessing=made(f)).collection for f in (1.0, 0.9, 1.0))
        assert first == third != second

    def test_options_that_mean_nothing(self, folder: Path) -> None:
        with pytest.raises(ParameterError, match="'digits' takes no data_dir"):
            load_dataset("digits", data_dir=folder)
        with pytest.raises(ParameterError, match="'digits' takes no preprocessing"):
            load_dataset("digits", preprocessing="Crop288")
        with pytest.raises(ParameterError, match="is a path already"):
            load_dataset(folder, data_dir=folder)


def one_class(folder: Path) -> Path:
    (folder / "loose.png").unlink()
    for label in ("bee", "cat"):
        for path in (folder / "test" / label).iterdir():
            path.unlink()
    return folder


def cifar_like(root: Path, folder: str, names: list[str], key: str, count: int) -> dict[str, list[list[str]]]:
    """Write files of CIFAR's structure and return the checksums that torchvision is to expect."""
    place = root / folder
    place.mkdir(parents=True)
    sums = []
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        content = {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), key: (np.arange(count) % 10).tolist()}
        (place / name).write_bytes(pickle.dumps(content))
        sums.append([name, hashlib.md5((place / name).read_bytes()).hexdigest()])
    return {"files": sums}


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    sums = cifar_like(root / "cifar10", "cifar-10-batches-py", ["data_batch_1", "test_batch"], "labels", 20)["files"]
    meta = {"label_names": [str(i) for i in range(10)]}
    path = root / "cifar10" / "cifar-10-batches-py" / "batches.meta"
    path.write_bytes(pickle.dumps(meta))
    monkeypatch.setattr(tv.CIFAR10, "train_list", sums[:1])
    monkeypatch.setattr(tv.CIFAR10, "test_list", sums[1:])
    checked = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(tv.CIFAR10, "meta", checked)
    monkeypatch.delenv("RS_DATA", raising=False)
    return root


class TestCifar:
    def test_through_torchvision(self, cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RS_DATA", str(cifar))
        data = load_dataset("cifar10", "every_4th")
        raw = np.random.default_rng(1).integers(0, 256, (20, 3072), dtype=np.uint8)
        expected = torch.from_numpy(raw).view(20, 3, 32, 32)[::4].float() / 255
        assert torch.equal(data.images, expected)
        assert data.indices.tolist() == [0, 4, 8, 12, 16] and data.labels.tolist() == [0, 4, 8, 2, 6]
        assert len(load_dataset("cifar10_train", data_dir=cifar)) == 20
        assert load_dataset("cifar10", data_dir=cifar / "cifar10").collection == data.collection

    def test_damaged_files(self, cifar: Path) -> None:
        with (cifar / "cifar10" / "cifar-10-batches-py" / "test_batch").open("ab") as file:
            file.write(b"x")
        with pytest.raises(InputError, match=r"'cifar10' cannot be had from .* the files there are not whole"):
            load_dataset("cifar10", data_dir=cifar)

    def test_nothing_is_fetched_unasked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **more: object) -> None:
            raise AssertionError("tried to download")

        monkeypatch.setattr(tv.CIFAR10, "download", fail)
        monkeypatch.delenv("RS_DATA", raising=False)
        with pytest.raises(InputError, match=r"RS_DATA is not set; pass data_dir to download it there"):
            load_dataset("cifar10")
        monkeypatch.setenv("RS_DATA", str(tmp_path))
        with pytest.raises(InputError, match="is not where RS_DATA points"):
            load_dataset("cifar100")

    def test_no_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **more: object) -> None:
            raise OSError("<urlopen error no route>\nmore")

        monkeypatch.setattr(tv.CIFAR10, "download", fail)
        with pytest.raises(InputError, match=r"download failed \(<urlopen error no route>\); copy"):
            load_dataset("cifar10", data_dir=tmp_path)

    def test_no_preprocessing(self, cifar: Path) -> None:
        with pytest.raises(ParameterError, match="takes no preprocessing"):
            load_dataset("cifar10", data_dir=cifar, preprocessing="Crop288")


class TestImageNet:
    def test_an_incomplete_folder(self, tmp_path: Path) -> None:
        for name in ("n01440764", "n01443537"):
            place = tmp_path / "imagenet" / "val" / name
            place.mkdir(parents=True)
            (place / "ILSVRC2012_val_00000001.JPEG").write_bytes(encoded(1))
        with pytest.raises(InputError, match="holds 2 images of 2 classes, not 50000 of 1000"):
            load_dataset("imagenet", data_dir=tmp_path)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"'imagenet' is not in .*; it must hold imagenet/val or val or"):
            load_dataset("imagenet", data_dir=tmp_path)


LOSSLESS = Path(os.environ.get("RS_DATA", "/nowhere")) / "cifar10" / "cifar10_test_first846_lossless.npz"


@pytest.mark.skipif(not LOSSLESS.is_file(), reason="RS_DATA holds no cifar10_test_first846_lossless.npz")
class TestStandIn:
    def test_order_and_nearness_to_the_lossless_images(self) -> None:
        exact = np.load(LOSSLESS)
        data = load_dataset("cifar10_jpeg", None, 846)
        assert data.name == "cifar10_jpeg" and data.indices.tolist() == list(range(846))
        assert data.labels.tolist() == exact["labels"].tolist()
        lossless = torch.from_numpy(exact["images"]).permute(0, 3, 1, 2).float() / 255
        # The mean difference that its source states is about 6/255; another order would give some 60/255.
        assert 2 / 255 < float((data.images - lossless).abs().mean()) < 10 / 255

    def test_training_part(self) -> None:
        data = load_dataset("cifar10_jpeg_train", "every_1000th")
        assert data.labels.bincount().tolist() == [5] * 10


@pytest.mark.skipif(find_spec("robustbench") is None, reason="RobustBench, which has the list, is not installed")
def test_robustbenchs_images_of_imagenet(tmp_path: Path) -> None:
    """In a tree of the right names, where one picture stands for all: which files, in what order, with what labels."""
    package = Path(str(find_spec("robustbench").origin)).parent / "helper_files"  # type: ignore[union-attr]
    listed = (package / "imagenet_test_image_ids.txt").read_text().split()
    classes = sorted(json.loads((package / "imagenet_class_to_id_map.json").read_text()))
    assert len(listed) == 5000 and len(classes) == 1000
    source = tmp_path / "one.JPEG"
    picture(3, (256, 300)).save(source, "JPEG")
    val = tmp_path / "imagenet" / "val"
    counts = dict.fromkeys(classes, 0)
    for name in classes:
        (val / name).mkdir(parents=True)
    for path in listed:
        os.link(source, val / path)
        counts[path.split("/")[0]] += 1
    for name, count in counts.items():
        for filler in range(50 - count):
            os.link(source, val / name / f"filler_{filler}.JPEG")
    data = load_dataset("imagenet_robustbench", n_examples=8, data_dir=tmp_path)
    assert (data.name, data.num_classes, data.image_shape) == ("imagenet_robustbench", 1000, (3, 224, 224))
    assert data.indices.tolist() == list(range(8)) and data.preprocessing == "Res256Crop224"
    assert data.labels.tolist() == [classes.index(path.split("/")[0]) for path in listed[:8]]
    last = load_dataset("imagenet_robustbench", "every_2500th", data_dir=tmp_path)
    assert last.labels.tolist() == [classes.index(listed[i].split("/")[0]) for i in (0, 2500)]
    whole = load_dataset("imagenet", n_examples=2, data_dir=tmp_path)
    assert whole.labels.tolist() == [0, 0] and whole.collection != data.collection
    (val / listed[7]).rename(val / listed[7].replace("ILSVRC", "else"))
    with pytest.raises(InputError, match=f"lacks 1 of 5000 images, {listed[7]!r} for instance"):
        load_dataset("imagenet_robustbench", n_examples=8, data_dir=tmp_path)
