"""Whether a network is a function of its images and nothing else, read off its code.

A network may keep something of a pass and read it later in the pass: features that a forward hook stores, an attribute,
a variable of its module. Two threads in such a network would mix their passes, and votes would be of nobody's draws. No
test shows that a network does nothing of the kind; but torch.fx can often follow its code. Where what it follows
consists of torch's own modules and functions, and nothing writes into what the network keeps, the graph that it finds
is a pure function, and threads may run that at the same time. All other networks are run one pass at a time.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

#: Functions and methods of tensors whose result is new memory, whatever they are given.
_NEW: Final = {
    "add", "sub", "rsub", "mul", "div", "truediv", "pow", "matmul", "mm", "bmm", "addmm", "einsum", "linear", "conv1d",
    "conv2d", "conv3d", "batch_norm", "layer_norm", "group_norm", "cat", "stack", "clone", "sum", "mean", "amax",
    "softmax", "log_softmax", "sigmoid", "tanh", "gelu", "silu", "exp", "log", "sqrt", "rsqrt",
}  # fmt: skip
#: What writes into its first argument, beside names that end in "_".
_WRITES: Final = {
    "setitem", "delitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor",
}  # fmt: skip
_OF_TORCH: Final = ("torch", "torchvision", "_operator", "math", "builtins")
_PLAIN_TENSORS: Final = (Tensor, nn.Parameter)


def pure_graph(network: nn.Module, images: Tensor) -> fx.GraphModule | None:
    """Return a graph that answers as the network does, shares its weights, and that threads may run at the same time.

    Args:
        network: in eval mode.
        images: a block, on which both have to answer alike, to the last bit.

    Returns:
        None where the code cannot be followed, does more than to compute, or answers otherwise.
    """
    if _is_tapped(network):
        return None
    try:
        traced = copy.deepcopy(network)  # tracing leaves its marks in what code keeps
        with _Written() as written:
            graph = _Tracer().trace(traced)
        parts = {str(node.target): _part(network, traced, str(node.target)) for node in graph.nodes if _is_part(node)}
        if written.any or not _is_pure(graph, parts):
            return None
        pure = fx.GraphModule(parts, graph).eval()
        blocks = (images, 0.5 * images.flip(0))
        alike = all(torch.equal(network(block.clone()), pure(block.clone())) for block in blocks)
    except Exception:  # any of a library's or a user's own: it cannot be followed
        return None
    return pure if alike else None


def _is_part(node: fx.Node) -> bool:
    return node.op in ("call_module", "get_attr")


def _part(network: nn.Module, traced: nn.Module, path: str) -> Any:
    """Return a module or tensor of the network, by its path; of the traced copy if tracing has made it."""
    for root in (network, traced):
        found: Any = root
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is not None:
            return found
    raise AttributeError(path)


def _is_tapped(network: nn.Module) -> bool:
    """Return whether there are hooks, or a module has got a ``forward`` of its own, which tracing may not see."""
    of_all = nn.modules.module
    if of_all._global_forward_hooks or of_all._global_forward_pre_hooks:
        return True
    return any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in network.modules()
    )


class _Tracer(fx.Tracer):
    """Follows what happens to buffers, as to parameters."""

    proxy_buffer_attributes = True


class _Written(TorchFunctionMode):
    """Notes whether anything is written in place that tracing does not follow: no image has to do with it."""

    def __init__(self) -> None:
        super().__init__()
        self.any = False

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if _writes(getattr(function, "__name__", ""), kwargs or {}) and not isinstance(result, fx.Proxy):
            self.any = True
        return result


def _writes(name: str, arguments: dict[str, Any]) -> bool:
    """Return whether a function or method of that name writes into its first argument, or into ``out``."""
    by_argument = any(arguments.get(key) not in (None, False) for key in ("inplace", "out"))
    return by_argument or name in _WRITES or (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"


def _is_pure(graph: fx.Graph, parts: dict[str, Any]) -> bool:
    """Return whether all of a graph is torch's own code that writes into nothing but what the pass itself has made."""
    kept: set[fx.Node] = set()  # nodes whose memory may be the network's
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        given = set(node.all_input_nodes)
        if node.op == "get_attr":
            if type(parts[str(node.target)]) not in _PLAIN_TENSORS:
                return False
            kept.add(node)
            continue
        if node.op == "call_module":
            module = parts[str(node.target)]
            known, writes, name = _is_torchs(module), bool(getattr(module, "inplace", False)), type(module).__name__
        else:
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            known = node.op == "call_method" or _is_function_of_torch(node.target)
            known = known and not _takes_code((node.args, node.kwargs)) and "embedding" not in name
            writes = _writes(name, node.kwargs)
        if not known or (writes and given & kept):
            return False
        if given & kept and name not in _NEW:
            kept.add(node)
    return True


def _takes_code(value: Any) -> bool:
    """Return whether there is anything callable among the arguments of a node, but for types of numbers."""
    if isinstance(value, list | tuple):
        return any(map(_takes_code, value))
    if isinstance(value, dict):
        return any(map(_takes_code, value.values()))
    return callable(value) and not isinstance(value, fx.Node | torch.dtype)


def _is_function_of_torch(target: Any) -> bool:
    package = str(getattr(target, "__module__", None) or "torch").partition(".")[0]
    return package in _OF_TORCH and not isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket)


def _is_torchs(module: nn.Module) -> bool:
    """Return whether a module, and all within it, is one of ``torch.nn`` as torch made it, and in eval mode."""
    for part in module.modules():
        kind = type(part)
        own = kind.__module__.startswith("torch.nn.modules.") and kind.forward.__module__ == kind.__module__
        tensors = (*part._parameters.values(), *part._buffers.values())
        if not own or part.training or any(t is not None and type(t) not in _PLAIN_TENSORS for t in tensors):
            return False
        if getattr(part, "max_norm", None) is not None:  # embeddings that shrink their weights in a pass
            return False
        others = (value for name, value in vars(part).items() if not name.startswith("_"))
        if any(callable(value) and not _is_function_of_torch(value) for value in others):
            return False
        if part._compiled_call_impl is not None:
            return False
    return True
