"""What decides a run's votes, as a key."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from argparse import Namespace
from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from numbers import Number
from pathlib import PurePath
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.errors import ModelError, first_line
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.voting import computing_in, single_threaded, turn
from rs_plugin.voting.passes import check_scores, scores_of

_NOISY = 16  # noisy images among those that a network is asked about
_DEPTH = 4096  # of objects within objects
_MOST_OBJECTS = 1 << 21
_ROUNDS = 64  # of telling objects apart by what they lead to

#: Packages whose objects are not looked into, and those whose code is not: it changes with their version only.
_OPAQUE = frozenset({"torch", "numpy", *sys.stdlib_module_names})
_LIBRARIES = _OPAQUE | {"torchvision"}
_PLAIN = (
    bool, int, float, complex, str, bytes, bytearray, type(None), range, slice, Enum, PurePath, re.Pattern, Number,
    np.generic, torch.dtype, torch.device,
)  # fmt: skip
_CODE = (FunctionType, staticmethod, classmethod, property)
_OF_ANY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def model_fingerprint(model: SmoothedClassifier, image: Tensor) -> str:
    """Return a hash of a network: its description, its scores of four fixed images and of ``image`` under noise.

    The description follows parameters, buffers, attributes and hooks of every module, and of classes and functions
    outside the libraries the bytecode, constants, attributes and the globals that they name. What a forward pass
    changes is left out. Compiled code and files that are read while it runs are not looked into.

    Raises:
        ModelError: the network fails, or does not answer with the classes' scores of each image, the highest finite.
    """
    base, device = model.base, model.device
    count = image.numel()
    fixed = torch.remainder(torch.arange(4 * count, dtype=torch.float64) * 0.6180339887498949, 1.0)
    draws = torch.empty(_NOISY, count, device=device)
    model.noise.fill(draws, torch.Generator(device=device).manual_seed(0))
    noisy = image.to(device) + draws.view(_NOISY, *image.shape)
    images = torch.cat([fixed.to(torch.float32).view(4, *image.shape).to(device), noisy])
    before = _described(base)
    with turn(base), torch.inference_mode(), single_threaded(), computing_in("float32", device):
        scores = scores_of(base, images, model.num_classes)
        check_scores(scores, len(images), model.num_classes)
    digest = hashlib.sha256(_content(base, before, _described(base)))
    # The more numbers, the coarser: each may lie at the edge of rounding on another machine.
    digest.update(_rounded(scores[:4], 3) + _rounded(scores[4:], 1) + str(scores[4:].argmax(1).tolist()).encode())
    return digest.hexdigest()


_Part = tuple[str | int, str | int]  # of an object: name and text, either of them an identity if it has parts itself
_Pair = tuple[int, int]  # what stands at a place before a pass, and after it
_Key = TypeVar("_Key", bound=Hashable)


class _Node(NamedTuple):
    """An object, its type and name, and its parts by name.

    The object is kept, since the identity of one that is gone may be that of the next.

    Attributes:
        value: the object.
        text: its type and name.
        plain: the texts of its plain parts.
        other: its other parts, by identity. The name of what stands under the key of a dictionary may be one too.
        told: a hash of text and plain parts.
    """

    value: object
    text: str
    plain: frozenset[tuple[str, str]]
    other: frozenset[_Part]
    told: str


def _described(root: object) -> dict[int, _Node]:
    """Return all that an object is made of, by identity."""
    nodes: dict[int, _Node] = {}
    level = [root]
    for depth in range(_DEPTH + 1):
        below: list[object] = []
        for value in level:
            if id(value) in nodes:
                continue
            if len(nodes) == _MOST_OBJECTS:
                raise ModelError(
                    f"attributes of the base network lead to more than {_MOST_OBJECTS:,} objects; votes are those of a "
                    f"network that can be described: take from it what it does not compute with"
                )
            plain: set[tuple[str, str]] = set()
            other: set[_Part] = set()
            for name, part in _parts(value) if depth < _DEPTH else ():
                named, text = name if isinstance(name, str) else _text(name), _text(part)
                if named is not None and text is not None:
                    plain.add((named, text))
                    continue
                below += [thing for thing, known in ((name, named), (part, text)) if known is None]
                other.add((id(name) if named is None else named, id(part) if text is None else text))
            text = f"{_name(type(value))} {_name(value)}"
            nodes[id(value)] = _Node(value, text, frozenset(plain), frozenset(other), _told(text, plain))
        level = below
    return nodes


def _told(text: str, plain: Iterable[tuple[str, str]]) -> str:
    return _hash([text, *map(str, sorted(plain))])


def _text(value: object) -> str | None:
    """Return a text for a plain object, None for one that has parts."""
    if isinstance(value, Tensor):
        return _hash_of(value)
    return repr(value) if isinstance(value, _PLAIN) else None


def _content(root: object, before: dict[int, _Node], after: dict[int, _Node]) -> bytes:
    """Return a hash of what an object is made of, before and after a pass alike.

    It is the same for a copy, where parts that are one object here are several there, or the other way round: pickle
    keeps only some of that.
    """
    sides = (before, after)
    label = _labels(
        {(side, key): node.told for side in (0, 1) for key, node in sides[side].items()},
        {
            (side, key): [tuple(x if isinstance(x, str) else (side, x) for x in pair) for pair in node.other]
            for side in (0, 1) for key, node in sides[side].items()
        },
    )  # fmt: skip
    kept: dict[_Pair, list[tuple[str | _Pair, str | _Pair]]] = {}
    first = id(root), id(root)
    coming = [first]
    while coming:
        pair = coming.pop()
        if pair in kept:
            continue
        named: list[dict[str | int, list[_Part]]] = [{}, {}]
        parts = [sides[side][pair[side]].other for side in (0, 1)]
        names = {name for name, _ in parts[0]} & {name for name, _ in parts[1]}
        for side in (0, 1):
            for name, part in parts[side]:
                known = name if isinstance(name, str) or name in names else label[side, name]
                named[side].setdefault(known, []).append((name, part))
        old, new = named
        same = [both for name in old.keys() & new.keys() for both in _same(old[name], new[name], label)]
        kept[pair] = [(_both(a[0], b[0]), _both(a[1], b[1])) for a, b in same]
        coming += [part for both in kept[pair] for part in both if not isinstance(part, str)]
    labels = _labels({pair: _told_of_both(before[pair[0]], after[pair[1]]) for pair in kept}, kept)
    return "".join([labels[first], *sorted({*labels.values()})]).encode()


def _told_of_both(before: _Node, after: _Node) -> str:
    if before.told == after.told:
        return before.told
    return _told(before.text if before.text == after.text else "", before.plain & after.plain)


def _same(
    old: list[_Part], new: list[_Part], label: Mapping[tuple[int, int], str]
) -> Iterator[tuple[_Part, _Part]]:
    """Yield which of the parts of one name is which: those that are the same, and then those of the same content.

    What is alone under its name is the same, though it be made anew.
    """
    if len(old) == len(new) == 1 and isinstance(old[0][1], int) and isinstance(new[0][1], int):
        yield old[0], new[0]
        return
    for told in (lambda part, side: part, lambda part, side: part if isinstance(part, str) else label[side, part]):
        by_content: dict[str | int, list[_Part]] = {}
        for name, part in new:
            by_content.setdefault(told(part, 1), []).append((name, part))
        left = []
        for name, part in old:
            if found := by_content.get(told(part, 0)):
                yield (name, part), found.pop()
            else:
                left.append((name, part))
        old, new = left, [part for parts in by_content.values() for part in parts]


def _both(before: str | int, after: str | int) -> str | _Pair:
    """Return a text that is the same on both sides, or a pair of identities."""
    if isinstance(before, int) and isinstance(after, int):
        return before, after
    assert isinstance(before, str) and before == after
    return before


def _labels(texts: Mapping[_Key, str], parts: Mapping[_Key, Iterable[tuple[Any, ...]]]) -> dict[_Key, str]:
    """Return a hash for every node of a graph: of its text and, to some depth, of what it leads to.

    Nodes get hashes of their text and of the hashes of their parts, again and again until that tells no more of them
    apart: the classes of bisimilar nodes, but for what lies deeper than the rounds.
    """
    labels = dict.fromkeys(texts, "")

    def told(part: Any) -> str:
        return f"={part}" if isinstance(part, str) else labels[part]

    for _ in range(_ROUNDS):
        finer = {}
        for key, text in texts.items():
            lines = ((told(name), told(part)) for name, part in parts[key])
            finer[key] = _hash([text, *sorted(f"{len(name)} {name} {part}" for name, part in lines)])
        if len({*finer.values()}) == len({*labels.values()}):
            return finer
        labels = finer
    return labels


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _name(value: object) -> str:
    """Return the name of a class or function, nothing of other objects."""
    try:
        name = getattr(value, "__qualname__", None)
        return f"{getattr(value, '__module__', '')}.{name}" if isinstance(name, str) else ""
    except Exception:  # of an object with attributes of its own making
        return ""


def _is_of(packages: frozenset[str], value: object) -> bool:
    if isinstance(value, FunctionType) and value.__module__ in (None, "builtins"):
        return False  # made by exec, since no builtin is a function of Python's
    return str(getattr(value, "__module__", "") or "builtins").partition(".")[0] in packages


def _parts(value: object) -> Iterator[tuple[object, object]]:
    """Yield what decides how an object behaves, with names, or with the keys of a dictionary."""
    if isinstance(value, torch.jit.ScriptModule):
        yield from value.named_parameters()
        yield from value.named_buffers()
        yield "graph", str(value.inlined_graph)
    elif isinstance(value, nn.Module):
        for group in (value._parameters, value._buffers, value._modules):
            yield from group.items()
        yield from ((name, part) for name, part in vars(value).items() if name not in _OF_ANY_MODULE)
        for hooks in _HOOKS:
            yield from _numbered(hooks, vars(value)[hooks].values())
        yield "class", type(value)
    elif isinstance(value, type):
        if not _is_of(_LIBRARIES, value):
            kept = (pair for pair in vars(value).items() if isinstance(pair[1], _CODE) or not pair[0].startswith("__"))
            yield from ((name, part) for name, part in kept if not name.startswith("_abc_"))
            yield from _numbered("bases", value.__mro__[1:])
    elif isinstance(value, FunctionType):
        if not _is_of(_LIBRARIES, value):
            yield "code", value.__code__
            yield from {"defaults": value.__defaults__, "keywords": value.__kwdefaults__}.items()
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            yield from ((f"cells.{name}", cell.cell_contents) for name, cell in cells if _is_filled(cell))
            names = _names_in(value.__code__)
            used = {name: value.__globals__[name] for name in names if name in value.__globals__}
            yield from ((f"globals.{name}", part) for name, part in used.items())
            # Of a module that the function names, what it names too may be what it takes from there.
            yield from (
                (f"{name}.{inner}", getattr(module, inner))
                for name, module in used.items()
                if isinstance(module, ModuleType) and module.__name__.partition(".")[0] not in _LIBRARIES
                for inner in names
                if inner in vars(module)
            )
    elif isinstance(value, CodeType):
        yield from {"bytes": value.co_code, "names": value.co_names, "constants": value.co_consts}.items()
    elif isinstance(value, property):
        yield from {"get": value.fget}.items()
    elif isinstance(value, staticmethod | classmethod | MethodType):
        yield from {"function": value.__func__, "self": getattr(value, "__self__", None)}.items()
    elif isinstance(value, functools._lru_cache_wrapper):
        yield "function", value.__wrapped__
    elif isinstance(value, BuiltinMethodType):
        if not isinstance(value.__self__, ModuleType):
            yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield from {"function": value.func, "positional": value.args, "keywords": value.keywords}.items()
    elif isinstance(value, Mapping):
        yield from ((repr(key) if isinstance(key, _PLAIN) else key, part) for key, part in value.items())
        yield from _attributes(value)
    elif isinstance(value, list | tuple | deque | array):
        yield from _numbered("", value)
        yield from _attributes(value)
    elif isinstance(value, set | frozenset):
        yield from (("members", part) for part in value)
        yield from _attributes(value)
    elif isinstance(value, np.ndarray):
        yield from {"dtype": str(value.dtype), "shape": str(value.shape)}.items()
        if value.dtype == object:
            yield from _numbered("values", value.flat)
        else:
            content = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
            yield "values", hashlib.sha256(content).hexdigest()
    else:
        yield from _attributes(value)


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes and the class of an object that is not a library's."""
    if isinstance(value, SimpleNamespace | Namespace) or not _is_of(_OPAQUE, type(value)):
        yield from getattr(value, "__dict__", {}).items()
        slots = (name for kind in type(value).__mro__ for name in _slots_of(kind))
        yield from ((name, getattr(value, name)) for name in slots if hasattr(value, name))
        yield "class", type(value)


def _numbered(name: str, parts: Iterable[object]) -> Iterator[tuple[str, object]]:
    return ((f"{name}.{i}", part) for i, part in enumerate(parts))


def _names_in(code: CodeType) -> list[str]:
    inner = (name for part in code.co_consts if isinstance(part, CodeType) for name in _names_in(part))
    return sorted({*code.co_names, *inner})


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _hash_of(value: Tensor) -> str:
    kind = f"{value.dtype}|{value.layout}|{tuple(value.shape)}"
    try:
        tensor = value.detach().cpu()
        if tensor.is_quantized:
            kind, tensor = f"{kind}|{tensor.qscheme()}", tensor.dequantize()
        tensor = tensor.to_dense().resolve_conj().contiguous()
        content = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = first_line(error)
        raise ModelError(f"a tensor of the base network ({kind}) cannot be read, so that its votes could not be told "
                         f"from another network's: {reason}") from error  # fmt: skip
    return f"{kind}|{hashlib.sha256(content).hexdigest()}"


def noise_fingerprint(noise: SmoothingDistribution, dim: int) -> str:
    """Return a hash of the noise: class, text, and what a few draws of a fixed seed on the CPU and their density are.

    So votes under a sampler that was changed since are not taken for votes under the new one.

    Raises:
        ParameterError: the sampler or the density breaks its contract.
    """
    digest = hashlib.sha256(f"{type(noise).__module__}.{type(noise).__qualname__}|{noise}".encode())
    draws = probe(noise, dim).double()
    digest.update(_rounded_draws(draws) + _rounded(noise.log_prob(draws), 2))
    return digest.hexdigest()


def rounded_hash(draws: Tensor) -> str:
    """Return a hash of draws (count, values) that rounding on another machine hardly ever changes."""
    return hashlib.sha256(_rounded_draws(draws.double())).hexdigest()


def _rounded_draws(draws: Tensor) -> bytes:
    """Return few numbers, so that hardly ever one lies at the edge of rounding; the norms know of all coordinates."""
    norms = [torch.linalg.vector_norm(draws, ord=order, dim=1) for order in (1.0, 2.0, torch.inf)]
    return b"".join(_rounded(part, 2) for part in (draws[:, :8], *norms))


def _rounded(values: Tensor, digits: int) -> bytes:
    """Return the values to that part of the largest one's power of ten; further digits depend on the machine."""
    answers = np.nan_to_num(values.detach().cpu().double().numpy(), posinf=0.0, neginf=0.0)
    largest = float(np.abs(answers).max(initial=0.0))
    scale = 10.0 ** np.floor(np.log10(largest)) if largest > 0.0 else 1.0
    return bytes((np.round(answers / scale, digits) + 0.0).tobytes()) + f"{scale:g}".encode()


def run_key(config: dict[str, Any]) -> str:
    """Return the key of a run: a hash of everything that decides its votes; how many images were asked for does not."""
    deciding = {name: value for name, value in config.items() if name != "images"}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
