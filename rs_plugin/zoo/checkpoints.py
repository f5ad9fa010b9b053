"""Published checkpoints of smoothed classifiers' base networks, read from files without running any code in them.

Cohen et al. (2019) and Salman et al. (2019) store a dictionary with ``arch`` and ``state_dict``; the model is a
sequence of a normalisation without parameters and a network, so that keys begin with ``1.`` or ``1.module.``. These
files do not say how images are to be normalised, and conventions differ between releases (Cohen et al. divide by the
standard deviation, Salman et al. in most folders do not); so that is told by the caller or by a manifest, or found on
labelled images, never guessed. Yang et al. (2020) store the state alone, the network's under ``model.module.`` and the
means and the logarithms of the standard deviations under ``norm.module.``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from scipy import stats
from torch import Tensor, nn

from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ModelError, UnknownNameError, first_line
from rs_plugin.files import LARGEST_WEIGHTS, check_size
from rs_plugin.networks import CifarResNet, Normalized, WideResNet
from rs_plugin.zoo.normalisations import NORMALISATIONS, Convention
from rs_plugin.zoo.published import find_published

#: torchvision's networks by the blocks of their stages, and whether these are bottlenecks.
_STAGES: Final[dict[tuple[tuple[int, ...], bool], str]] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
#: Where Yang et al. keep the normalisation, and how to read it.
_OWN: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "norm.module.mu": lambda value: value,
    "norm.module.log_sig": torch.exp,
}
_LEVEL: Final = 1e-3  # of the test that one normalisation is better than another


def load_checkpoint(
    path: str | Path,
    normalisation: str | None = None,
    labelled: Dataset | None = None,
    manifest: str | Path | None = None,
) -> Normalized:
    """Return the network of a checkpoint, in eval mode, for images in [0, 1].

    Args:
        path: a file of Cohen et al., Salman et al., or Yang et al. with a residual network for CIFAR or ImageNet.
        normalisation: ``"mean_std"``, ``"mean"`` or ``"none"``, as the release has it. Where it is None, the file's own
            is taken if it holds one, or else that of the manifest's entry with the sha256 of the file.
        labelled: images to find the normalisation by, where nothing else says it: the one that is right on more of
            them, if sign tests at 0.001 set it apart from each of the others.
        manifest: a manifest to look into beside this package's own, as for ``published_files``.

    Raises:
        InputError: the file cannot be read, is a web page or half a download, or holds more than tensors and plain
            values, which might be code; or the normalisation is neither given nor found, or is not the file's own.
        ModelError: the network in it is of no known architecture.
        UnknownNameError: no normalisation has that name.
        ParameterError: the manifest cannot be read.
    """
    if normalisation is not None and normalisation not in NORMALISATIONS:
        raise UnknownNameError(f"unknown normalisation {normalisation!r}; known: {', '.join(NORMALISATIONS)}")
    entry = find_published(path, manifest)
    content = _content(Path(path))
    state, own = _network_state(content, path)
    with torch.random.fork_rng(devices=[]):  # initialisation draws from the global generator, in vain here
        network, family, architecture = _built(state, path)
    classes = len(state["fc.bias"])
    said = content.get("arch") if isinstance(content, Mapping) else None
    if isinstance(said, str) and architecture not in (said, ""):
        raise ModelError(f"{str(path)!r} says that it holds {said!r}, but its parameters are those of {architecture!r}")
    if entry is not None and entry.normalisation is not None:
        if normalisation not in (None, entry.normalisation):
            raise InputError(
                f"{str(path)!r} is {entry.name!r} of the manifest, which normalises by {entry.normalisation!r}, not by "
                f"{normalisation!r}"
            )
        normalisation = entry.normalisation
    if own is not None:
        if normalisation is not None and not _agree(own, NORMALISATIONS[normalisation][family]):
            raise InputError(
                f"{str(path)!r} says itself how its images are normalised, and not by {normalisation!r}; leave out the "
                f"normalisation"
            )
        return Normalized(network, *own).eval()
    if normalisation is None:
        if labelled is None:
            raise InputError(
                f"{str(path)!r} does not say how its images are normalised, and releases differ; pass normalisation= "
                f"({', '.join(NORMALISATIONS)}), or labelled= images to find it by"
            )
        normalisation = _found(network, family, labelled, path)
    if family == 0 and classes != 10 and normalisation != "none":
        raise InputError(
            f"{str(path)!r} has {classes} classes, and {normalisation!r} is that of CIFAR-10; load it with 'none' and "
            f"put its own normalisation around it: rs_plugin.networks.Normalized(model.network, mean, std)"
        )
    return Normalized(network, *NORMALISATIONS[normalisation][family]).eval()


def _agree(first: Convention, second: Convention) -> bool:
    return all(
        len(a) == len(b) and all(abs(x - y) < 1e-3 for x, y in zip(a, b, strict=True))
        for a, b in zip(first, second, strict=True)
    )


def _content(path: Path) -> Any:
    try:
        check_size(path, LARGEST_WEIGHTS)
        with path.open("rb") as file:
            head = file.read(64).lstrip()
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no checkpoint of a network that is known here: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read the checkpoint {str(path)!r} ({error.strerror}); give its path") from error
    if head.startswith(b"<"):
        raise InputError(f"{str(path)!r} is a web page, not a checkpoint; fetch the file by a browser")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's own text goes on to say how to run it all the same
        what = f", {named[1]} for instance" if named else ""
        raise InputError(
            f"{str(path)!r} holds more than tensors and plain values{what}, which might be code, and is refused; ask "
            f"for a file of tensors alone"
        ) from error
    except Exception as error:  # what torch.load raises for a damaged file has no common base
        reason = first_line(error)
        raise InputError(f"{str(path)!r} is not a whole checkpoint ({reason}); download it again") from error


def _network_state(content: Any, path: str | Path) -> tuple[dict[str, Tensor], Convention | None]:
    """Return the parameters of the network, without the prefixes of what it was wrapped in, and its normalisation."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{str(path)!r} holds no state of a network")
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    own = _own_normalisation(tensors, path)
    firsts = sorted((key for key in tensors if key.endswith("conv1.weight")), key=lambda key: key.count("."))
    prefix = firsts[0].removesuffix("conv1.weight") if firsts else ""
    inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    others = sorted(state.keys() - {prefix + key for key in inner} - (set() if own is None else _OWN.keys()))
    if not firsts or others:
        names = ", ".join(others[:3] or list(state)[:3])
        raise ModelError(f"{str(path)!r} holds a network of no known architecture (with {names}, ...)")
    return inner, own


def _own_normalisation(tensors: Mapping[str, Tensor], path: str | Path) -> Convention | None:
    if not _OWN.keys() <= tensors.keys():
        return None
    mean, std = (_OWN[key](tensors[key].double()).flatten().tolist() for key in _OWN)
    usual = all(-1e3 < value < 1e3 for value in mean) and all(1e-3 < value < 1e3 for value in std)
    if len(mean) != 3 or len(std) != 3 or not usual:
        raise InputError(f"{str(path)!r} normalises by means {mean} and deviations {std}, which is not for RGB images")
    return mean, std


def _built(state: dict[str, Tensor], path: str | Path) -> tuple[nn.Module, int, str]:
    """Return the network with its parameters, 0 for CIFAR or 1 for ImageNet, and its name in files that say it."""
    classes = len(state["fc.bias"]) if "fc.bias" in state else 0
    network: nn.Module | None = None
    family, architecture = 0, ""
    if classes and "block1.layer.0.conv1.weight" in state:  # the names of Yang et al.'s wide residual network
        state = {
            re.sub(r"^(block\d)\.layer\.", r"\1.", key).replace(".convShortcut.", ".shortcut."): value
            for key, value in state.items()
        }
        blocks = _blocks(state, "block")
        width = len(state["block1.0.conv1.weight"]) // 16
        if len(set(blocks[:3])) == 1 and not blocks[3] and width > 1:
            network = WideResNet(6 * blocks[0] + 4, width, classes)
    else:
        blocks = _blocks(state, "layer")
        bottleneck = "layer1.0.conv3.weight" in state
        if tuple(state["conv1.weight"].shape) == (16, 3, 3, 3) and blocks[3] == 0 and len(set(blocks[:3])) == 1:
            network = CifarResNet(6 * blocks[0] + 2, classes) if classes and not bottleneck and blocks[0] else None
            architecture = f"cifar_resnet{6 * blocks[0] + 2}"
        elif (blocks, bottleneck) in _STAGES and classes:
            from torchvision import models

            architecture = _STAGES[blocks, bottleneck]
            network, family = getattr(models, architecture)(num_classes=classes), 1
    if network is None:
        raise ModelError(f"{str(path)!r} holds a residual network of no known architecture ({blocks} blocks a stage)")
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **state})  # which old files lack
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{str(path)!r} does not fit the architecture that its blocks say: {reason}") from error
    return network.eval(), family, architecture


def _blocks(state: Mapping[str, Tensor], stage: str) -> tuple[int, ...]:
    """Return the number of blocks of each of four stages."""
    return tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"{stage}{number}.")}) for number in (1, 2, 3, 4)
    )


def _found(network: nn.Module, family: int, labelled: Dataset, path: str | Path) -> str:
    """Return the normalisation that is right on more images than each other one, by sign tests."""
    right = {}
    with torch.inference_mode():
        for name, conventions in NORMALISATIONS.items():
            model = Normalized(network, *conventions[family]).eval()
            answers = torch.cat([model(part).argmax(1) for part in torch.split(labelled.images, 256)])
            right[name] = answers == labelled.labels
    best = max(right, key=lambda name: int(right[name].sum()))
    for name in right.keys() - {best}:
        gained, lost = int((right[best] & ~right[name]).sum()), int((right[name] & ~right[best]).sum())
        if gained == 0 or stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue > _LEVEL:
            shares = ", ".join(f"{name} {float(part.float().mean()):.1%}" for name, part in right.items())
            raise InputError(
                f"{len(labelled)} labelled images do not tell how {str(path)!r} normalises ({shares} right); pass "
                f"normalisation=, or more images"
            )
    return best
