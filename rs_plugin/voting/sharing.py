"""Whether threads may run a network at the same time.

A network may keep something of a pass and read it later in the pass: features that a forward hook stores, an attribute.
Two threads in one such network would mix their passes, and votes would be of nobody's draws. So each thread has a copy
of the network, which shares the weights alone; where a copy would share more than that, passes wait for one another.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from torch import Tensor, nn

from rs_plugin.voting.description import described

#: Attributes of any module in which code can be that a pass runs.
_OF_A_PASS: Final = ("_modules", "_forward_hooks", "_forward_pre_hooks")
_OF_ANY_MODULE: Final = frozenset(vars(nn.Module())) - set(_OF_A_PASS)


def thread_copy(network: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters, which no pass changes, and nothing else of the network's own.

    Raises:
        Exception: whatever an attribute that cannot be copied raises.
    """
    return copy.deepcopy(network, {id(weight): weight for weight in network.parameters()})


def copies_run_at_once(network: nn.Module, images: Tensor) -> bool:
    """Return whether copies of the network may run at the same time: a pass of one leaves the others as they were.

    Args:
        network: in eval mode.
        images: a block, of which others than these have been shown last.
    """
    if _has_closures(network):
        return False
    try:
        other = thread_copy(network)
    except Exception:  # any of a library's or a user's own
        return False
    return leaves_as_it_was(network, other, images)


def compiled_runs_at_once(compiled: Any, copied: nn.Module, images: Tensor) -> bool:
    """Return the same of one graph that was compiled of a network, in which nothing is read from where it is kept."""
    return not _has_closures(copied) and leaves_as_it_was(copied, compiled, images)


def leaves_as_it_was(network: nn.Module, run: Callable[[Tensor], object], images: Tensor) -> bool:
    """Return whether a pass of ``run`` over a block changes nothing that the network or its code can reach."""
    before = described(network)
    run(images.clone())  # some networks write into their input
    return before == described(network)


def _has_closures(network: nn.Module) -> bool:
    """Return whether attributes or hooks are functions with variables of their own, which copies would share."""
    # Hooks of all modules at once, as profilers set them.
    todo: list[object] = [network, nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks]
    seen: dict[int, object] = {}  # keeps them, so that no address is used twice
    while todo:
        value = todo.pop()
        if id(value) in seen or isinstance(value, Tensor | type | ModuleType | str | bytes):
            continue
        seen[id(value)] = value
        if isinstance(value, FunctionType):
            if value.__closure__:
                return True
        elif isinstance(value, MethodType):
            todo.append(value.__self__)
        elif isinstance(value, functools.partial):
            todo += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple | set | frozenset | deque):
            todo += value
        else:
            todo += (part for name, part in getattr(value, "__dict__", {}).items() if name not in _OF_ANY_MODULE)
    return False
