"""Whether threads may run a network at the same time.

A network may keep something of a pass and read it later in the pass: features that a forward hook stores, an attribute,
a variable of its module. Two threads in such a network would mix their passes, and votes would be of nobody's draws. No
test and no trace of its code shows that a network does nothing of the kind; so only networks of known code are run at
the same time: torch's and torchvision's, this package's, and those that say so of themselves. All others run on the
thread that asked, one pass at a time in the whole process.

What a function is called, and where it says that it is from, is no evidence: ``functools.wraps`` copies both. Code is
known by the file that it was compiled from.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import torch
import typing_extensions
from torch import Tensor, nn

#: A class with this attribute in its own body, and true, promises that its ``forward`` reads nothing but its argument,
#: parameters, buffers and what was set when it was made, and writes into none of them.
PROMISE: Final = "pure_forward"

_KNOWN: Final = (
    "torch.nn.modules.", "torchvision.models.", "torchvision.ops.", "rs_plugin.networks.",
    "torchvision.transforms.transforms.Normalize.", "torchvision.transforms.v2._misc.Normalize.",
)  # fmt: skip
_PLAIN_TENSORS: Final = (Tensor, nn.Parameter)
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_ANY_MODULE: Final = frozenset(vars(nn.Module()))

_PACKAGES: Final = ("torch", "torchvision")
_FOLDERS: Final = tuple(
    f"{Path(str(spec.origin)).parent}/" for spec in map(find_spec, (*_PACKAGES, "rs_plugin")) if spec
)
_CALLED: Final = (FunctionType, MethodType, functools.partial, nn.Module)
_STANDARD: Final = f"{sysconfig.get_paths()['stdlib']}/"
_OTHERS: Final = f"{_STANDARD}site-packages/"

#: Of networks that are not of known code, one pass at a time: whatever they share, nobody mixes it.
_TURN: Final = threading.RLock()


def threads_may_share(network: nn.Module) -> bool:
    """Return whether threads may run a network at the same time: all of its code is known to keep nothing of a pass."""
    of_all = nn.modules.module  # hooks of all modules at once, as profilers set them
    if of_all._global_forward_hooks or of_all._global_forward_pre_hooks:
        return False
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        return False  # modes are the calling thread's alone
    modules = list(network.modules())
    kinds = {type(module) for module in modules}
    return all(map(_keeps_nothing, modules)) and _as_made(kind for kind in kinds if not _promises(kind))


def turn(network: nn.Module, *, shared: bool | None = None) -> AbstractContextManager[Any]:
    """Return the context of a network's passes: they take turns, unless threads may share it.

    Args:
        network: the network.
        shared: what ``threads_may_share`` says, if that is known.
    """
    return nullcontext() if (threads_may_share(network) if shared is None else shared) else _TURN


def _keeps_nothing(module: nn.Module) -> bool:
    """Return whether a module, without those within it, is of known code or promises, and nothing was added to it."""
    kind, own = type(module), vars(module)
    promised = _promises(kind)
    if not (promised or _is_known(kind)) or module.training:
        return False
    if any(own[name] for name in _HOOKS) or module._compiled_call_impl is not None:
        return False
    if kind.__call__ is not nn.Module.__call__ or getattr(module, "max_norm", None) is not None:
        return False  # embeddings with max_norm shrink their weights in a pass
    tensors = (*module._parameters.values(), *module._buffers.values())
    if any(tensor is not None and type(tensor) not in _PLAIN_TENSORS for tensor in tensors):
        return False
    # A function among its attributes may be its forward, or what its forward calls.
    added = {name: value for name, value in own.items() if callable(value) and name not in _OF_ANY_MODULE}
    if promised:
        return not any(hasattr(kind, name) for name in added)
    return all(_is_known_code(value) for value in added.values())


def _promises(kind: type) -> bool:
    return vars(kind).get(PROMISE) is True


def _is_known(kind: type) -> bool:
    """Return whether a class is one that a known module defines."""
    defined = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind
    return defined and f"{kind.__module__}.{kind.__qualname__}.".startswith(_KNOWN)


def _as_made(kinds: Iterable[type]) -> bool:
    """Return whether nobody has replaced a method of the classes, or a function that their modules or torch name."""
    known = {base for kind in (nn.Module, *kinds) for base in kind.__mro__} - {object}
    modules = {sys.modules[kind.__module__] for kind in known}
    named = [vars(part) for part in (*known, *modules, torch, nn.functional, Tensor)]
    values = {id(value): value for names in named for value in names.values()}
    return all(_is_in_place(value) for value in values.values())


def _is_in_place(value: object) -> bool:
    """Return whether what a class or module of known code names may have been there from the start."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    if not callable(value) or isinstance(value, type):
        return True
    if isinstance(value, FunctionType | BuiltinFunctionType | functools.partial):
        return _is_known_code(value)
    return _root(type(value)) in {*_PACKAGES, "typing_extensions", *sys.stdlib_module_names}


def _is_known_code(value: object, within: tuple[object, ...] = ()) -> bool:
    """Return whether a function or class is torch's, torchvision's, this package's or Python's own.

    Args:
        value: of any kind.
        within: functions in whose closures it stands, so that one that calls itself ends.
    """
    if isinstance(value, functools.partial):
        given = (*value.args, *value.keywords.values())
        return _is_known_code(value.func) and all(_is_known_code(part) for part in given if callable(part))
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        inner = [part for part in cells if isinstance(part, _CALLED) and part not in within]
        known = _is_known_file(value.__code__.co_filename)
        return known and all(_is_known_code(part, (*within, *inner)) for part in inner)
    if isinstance(value, BuiltinFunctionType):  # of C code, unless it is a method of somebody's object or class
        owner = value.__self__
        if isinstance(owner, type):
            return _is_known_code(owner)
        return owner is None or isinstance(owner, ModuleType) or _root(value) in _PACKAGES
    return isinstance(value, type) and _root(value) in {*_PACKAGES, "builtins"}


def _is_known_file(name: str) -> bool:
    standard = name.startswith(_STANDARD) and not name.startswith(_OTHERS)
    return name.startswith(_FOLDERS) or standard or name == typing_extensions.__file__


def _root(named: Any) -> str:
    return str(named.__module__).partition(".")[0]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
