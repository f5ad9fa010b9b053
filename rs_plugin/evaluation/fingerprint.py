"""What decides a run's votes, as a key."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
from argparse import Namespace
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from numbers import Number
from pathlib import PurePath
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

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

#: Packages whose objects are not looked into, and those whose code is not: it changes with their version only.
_OPAQUE = frozenset({"torch", "numpy", *sys.stdlib_module_names})
_LIBRARIES = _OPAQUE | {"torchvision"}
_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), range, slice, Enum, PurePath, re.Pattern, Number,
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


_Parts = frozenset[tuple[str, str | int]]  # by name: texts of plain ones, identities of others
_Pair = tuple[int, int]  # what stands at a place before a pass, and after it


class _Node(NamedTuple):
    """An object, its type and name, and its parts.

    The object is kept, since the identity of one that is gone may be that of the next.
    """

    value: object
    text: str
    parts: _Parts


def _described(root: object) -> dict[int, _Node]:
    """Return all that an object is made of, by identity."""
    nodes: dict[int, _Node] = {}
    coming = [root]
    while coming:
        value = coming.pop()
        if id(value) in nodes:
            continue
        parts: list[tuple[str, str | int]] = []
        for name, part in _parts(value):
            if isinstance(part, Tensor):
                parts.append((name, _hash_of(part)))
            elif isinstance(part, _PLAIN):
                parts.append((name, repr(part)))
            else:
                parts.append((name, id(part)))
                coming.append(part)
        nodes[id(value)] = _Node(value, f"{_name(type(value))} {_name(value)}", frozenset(parts))
    return nodes


def _content(root: object, before: dict[int, _Node], after: dict[int, _Node]) -> bytes:
    """Return a hash of what an object is made of, before and after a pass alike.

    It is the same for a copy, where parts that are one object here are several there, or the other way round: pickle
    keeps only some of that. What stands at the same place before and after gets labels by its text and by the labels of
    its parts, again and again until that tells no more of them apart, as classes of bisimilar nodes of a graph.
    """
    kept: dict[_Pair, list[tuple[str, str | _Pair]]] = {}
    first = id(root), id(root)
    coming = [first]
    while coming:
        pair = coming.pop()
        if pair not in kept:
            kept[pair] = list(_in_both(before[pair[0]].parts, after[pair[1]].parts))
            coming += [part for _, part in kept[pair] if not isinstance(part, str)]
    texts = {pair: before[pair[0]].text if before[pair[0]].text == after[pair[1]].text else "" for pair in kept}
    labels = dict.fromkeys(kept, "")
    while True:
        finer = {
            pair: _hash([texts[pair], *sorted(f"{name}|{_told(part, labels)}" for name, part in parts)])
            for pair, parts in kept.items()
        }
        told_apart = {*finer.values()}
        if len(told_apart) == len({*labels.values()}):
            return "".join([finer[first], *sorted(told_apart)]).encode()
        labels = finer


def _in_both(before: _Parts, after: _Parts) -> Iterator[tuple[str, str | _Pair]]:
    """Yield plain parts that are the same, and pairs of others of the same name, which may have been made anew."""
    for name, part in before & after:
        yield name, part if isinstance(part, str) else (part, part)
    old, new = _single(before - after), _single(after - before)
    yield from ((name, (old[name], new[name])) for name in old.keys() & new.keys())


def _single(parts: _Parts) -> dict[str, int]:
    """Return the parts that are not plain and alone have their name; members of a set have none of their own."""
    names = Counter(name for name, _ in parts)
    return {name: part for name, part in parts if isinstance(part, int) and names[name] == 1}


def _told(part: str | _Pair, labels: dict[_Pair, str]) -> str:
    return f"={part}" if isinstance(part, str) else labels[part]


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _name(value: object) -> str:
    """Return the name of a class or function, nothing of other objects."""
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if isinstance(name, str) else ""


def _is_of(packages: frozenset[str], value: object) -> bool:
    if isinstance(value, FunctionType) and value.__module__ in (None, "builtins"):
        return False  # made by exec, since no builtin is a function of Python's
    return str(getattr(value, "__module__", "") or "builtins").partition(".")[0] in packages


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield what decides how an object behaves, with names."""
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
            yield from _numbered("cells", (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)))
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
        yield from ((_key(key), part) for key, part in value.items())
        yield from (("keys", key) for key in value if not isinstance(key, _PLAIN))
    elif isinstance(value, list | tuple | deque | array):
        yield from _numbered("", value)
    elif isinstance(value, set | frozenset):
        yield from (("members", part) for part in value)
    elif isinstance(value, np.ndarray):
        yield from {"dtype": str(value.dtype), "shape": str(value.shape)}.items()
        if value.dtype == object:
            yield from _numbered("values", value.flat)
        else:
            content = repr(value.tolist()).encode() if value.dtype.hasobject else value.tobytes()
            yield "values", hashlib.sha256(content).hexdigest()
    elif isinstance(value, SimpleNamespace | Namespace) or not _is_of(_OPAQUE, type(value)):
        yield from getattr(value, "__dict__", {}).items()
        slots = (name for kind in type(value).__mro__ for name in _slots_of(kind))
        yield from ((name, getattr(value, name)) for name in slots if hasattr(value, name))
        yield "class", type(value)


def _numbered(name: str, parts: Iterable[object]) -> Iterator[tuple[str, object]]:
    return ((f"{name}.{i}", part) for i, part in enumerate(parts))


def _key(key: object) -> str:
    """Return a text for the key of a dictionary, without the address that some objects show."""
    return repr(key) if isinstance(key, _PLAIN) else _name(key) or _name(type(key))


def _names_in(code: CodeType) -> list[str]:
    inner = (name for part in code.co_consts if isinstance(part, CodeType) for name in _names_in(part))
    return sorted({*code.co_names, *inner})


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


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
