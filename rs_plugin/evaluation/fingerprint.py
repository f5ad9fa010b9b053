"""What decides a run's votes, as a key."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.voting import plain_float32, single_threaded

_NOISY = 16  # noisy images among those that a network is asked about
_DEPTH = 8  # of attributes within attributes
_OF_ANY_MODULE = frozenset(vars(nn.Module()))


def model_fingerprint(base: nn.Module, noise: SmoothingDistribution, image: Tensor, device: torch.device) -> str:
    """Return a hash of the network: its description, scores of four fixed images, classes of ``image`` under noise.

    The description holds the class, parameters, buffers and plain attributes of every module, where normalisation and
    thresholds often hide; attributes that a forward pass changes are left out. Code is told apart by ``forward`` and by
    functions among the attributes, not by what these call.
    """
    count = image.numel()
    fixed = torch.remainder(torch.arange(4 * count, dtype=torch.float64) * 0.6180339887498949, 1.0)
    draws = torch.empty(_NOISY, count, device=device)
    noise.fill(draws, torch.Generator(device=device).manual_seed(0))
    noisy = image.to(device) + draws.view(_NOISY, *image.shape)
    images = torch.cat([fixed.to(torch.float32).view(4, *image.shape).to(device), noisy])
    before = _described(base)
    with torch.inference_mode(), single_threaded(), plain_float32(device):
        scores = base(images)
    after = _described(base)
    digest = hashlib.sha256()
    for place in sorted(before.items() & after.items()):
        digest.update("|".join(place).encode())
    # Scores of few images only: every number may lie at the edge of rounding on another machine.
    digest.update(_rounded(scores[:4]) + str(scores[4:].argmax(1).tolist()).encode())
    return digest.hexdigest()


def _described(base: nn.Module) -> dict[str, str]:
    """Return a text for every place within the network, by the path to it."""
    found: dict[str, str] = {}
    seen: set[int] = set()

    def visit(path: str, value: object, depth: int) -> None:
        if isinstance(value, Tensor):
            found[path] = _hash_of(value)
        elif isinstance(value, np.ndarray):
            visit(path, (str(value.dtype), value.tolist()), depth)
        elif isinstance(value, _PLAIN):
            found[path] = repr(value)
        elif depth == 0 or id(value) in seen:
            found[path] = type(value).__qualname__
        else:
            seen.add(id(value))
            found[path] = f"{type(value).__module__}.{type(value).__qualname__}"
            for name, part in _parts(value):
                visit(f"{path}.{name}", part, depth - (not isinstance(part, nn.Module)))

    visit("", base, _DEPTH)
    return found


_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield what decides how an object behaves, with names; nothing of an object whose parts are no settings."""
    if isinstance(value, nn.Module):
        for group in (value._parameters, value._buffers, value._modules):
            yield from group.items()
        yield from ((name, part) for name, part in vars(value).items() if name not in _OF_ANY_MODULE)
        if not type(value).__module__.startswith(("torch.", "torchvision.")):
            yield "forward()", type(value).forward
    elif isinstance(value, Mapping):
        yield from ((repr(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(i), part) for i, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield "members", sorted(map(repr, value))
    elif isinstance(value, functools.partial):
        yield from {"func": value.func, "args": value.args, "keywords": value.keywords}.items()
    elif isinstance(value, FunctionType):
        code = value.__code__
        constants = [c for c in code.co_consts if isinstance(c, _PLAIN)]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        yield "code", [value.__qualname__, code.co_code, constants, code.co_names]
        yield "values", [value.__defaults__, value.__kwdefaults__, cells]
    elif isinstance(value, MethodType):
        yield from {"func": value.__func__, "self": value.__self__}.items()
    elif not type(value).__module__.startswith("torch"):
        yield from getattr(value, "__dict__", {}).items()


def _hash_of(value: Tensor) -> str:
    tensor = value.detach().cpu().contiguous()
    content = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return f"{tensor.dtype}|{tuple(tensor.shape)}|{hashlib.sha256(content).hexdigest()}"


def noise_fingerprint(noise: SmoothingDistribution, dim: int, device: torch.device) -> str:
    """Return a hash of the noise: class, text, and what a few draws of a fixed seed and their density are.

    So votes under a sampler that was changed since are not taken for votes under the new one.

    Raises:
        ParameterError: the sampler or the density breaks its contract.
    """
    digest = hashlib.sha256(f"{type(noise).__module__}.{type(noise).__qualname__}|{noise}".encode())
    draws = probe(noise, dim, device).double()
    # Few numbers, so that hardly ever one lies at the edge of rounding; the norms know of all coordinates.
    norms = torch.stack([torch.linalg.vector_norm(draws, ord=order, dim=1) for order in (1.0, 2.0, torch.inf)])
    for part in (draws[:, :8], norms[0], norms[1], norms[2], noise.log_prob(draws)):
        digest.update(_rounded(part))
    return digest.hexdigest()


def _rounded(values: Tensor) -> bytes:
    """Return the values to a thousandth of the largest one's power of ten; further digits depend on the machine."""
    answers = np.nan_to_num(values.detach().cpu().double().numpy(), posinf=0.0, neginf=0.0)
    largest = float(np.abs(answers).max(initial=0.0))
    scale = 10.0 ** np.floor(np.log10(largest)) if largest > 0.0 else 1.0
    return bytes((np.round(answers / scale, 3) + 0.0).tobytes()) + f"{scale:g}".encode()


def run_key(config: dict[str, Any]) -> str:
    """Return the key of a run: a hash of everything that decides its votes; how many images were asked for does not."""
    deciding = {name: value for name, value in config.items() if name != "images"}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
