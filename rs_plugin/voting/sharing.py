"""Whether threads may run a network at the same time.

A network may keep something of a pass and read it later in the pass: features that a forward hook stores, an attribute,
a variable of its module. Two threads in such a network would mix their passes, and votes would be of nobody's draws. No
test and no trace of its code shows that a network does nothing of the kind; so only networks of known code are run at
the same time: torch's and torchvision's, this package's, and those that say so of themselves. All others run one pass
at a time.
"""

from __future__ import annotations

import functools
import sys
from typing import Final

from torch import Tensor, nn

#: A class with this attribute in its own body, and true, promises that its ``forward`` reads nothing but its argument,
#: parameters, buffers and what was set when it was made, and writes into none of them.
PROMISE: Final = "pure_forward"

_KNOWN: Final = ("torch.nn.modules.", "torchvision.models.", "torchvision.ops.")
_PLAIN_TENSORS: Final = (Tensor, nn.Parameter)
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def threads_may_share(network: nn.Module) -> bool:
    """Return whether threads may run a network at the same time: all of its code is known to keep nothing of a pass."""
    of_all = nn.modules.module  # hooks of all modules at once, as profilers set them
    if of_all._global_forward_hooks or of_all._global_forward_pre_hooks:
        return False
    return all(_keeps_nothing(module) for module in network.modules())


def _keeps_nothing(module: nn.Module) -> bool:
    """Return the same of one module, without those within it."""
    kind, own = type(module), vars(module)
    if not (_is_known(kind) or vars(kind).get(PROMISE) is True) or module.training:
        return False
    if any(own[name] for name in _HOOKS) or module._compiled_call_impl is not None:
        return False
    if kind.__call__ is not nn.Module.__call__ or getattr(module, "max_norm", None) is not None:
        return False  # embeddings with max_norm shrink their weights in a pass
    tensors = (*module._parameters.values(), *module._buffers.values())
    if any(tensor is not None and type(tensor) not in _PLAIN_TENSORS for tensor in tensors):
        return False
    # A function among its attributes may be its forward, or what its forward calls.
    return all(_is_torchs(value) for name, value in own.items() if callable(value) and name not in _OF_ANY_MODULE)


def _is_known(kind: type) -> bool:
    """Return whether a class is one that a known module defines, and its ``forward`` is the one that stands there."""
    place = kind.__module__
    defined = getattr(sys.modules.get(place), kind.__qualname__, None) is kind
    code = getattr(getattr(kind, "forward", None), "__module__", "")
    return defined and f"{place}.".startswith(_KNOWN) and f"{code}.".startswith(_KNOWN)


def _is_torchs(value: object) -> bool:
    if isinstance(value, functools.partial):
        return _is_torchs(value.func)
    return str(getattr(value, "__module__", None)).partition(".")[0] in ("torch", "torchvision")


_OF_ANY_MODULE: Final = frozenset(vars(nn.Module()))
