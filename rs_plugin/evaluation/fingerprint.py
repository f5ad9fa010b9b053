"""What decides a run's votes, as a key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.voting import plain_float32, single_threaded


def model_fingerprint(base: nn.Module, image_shape: tuple[int, ...], device: torch.device) -> str:
    """Return a hash of the network: class, state dict, and its answers on fixed images.

    The answers are included since normalisation often hides in plain attributes.
    """
    digest = hashlib.sha256(f"{type(base).__module__}.{type(base).__qualname__}".encode())
    for name, value in base.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    count = int(np.prod(image_shape))
    values = torch.remainder(torch.arange(4 * count, dtype=torch.float64) * 0.6180339887498949, 1.0)
    images = values.to(torch.float32).view(4, *image_shape).to(device)
    with torch.inference_mode(), single_threaded(), plain_float32(device):
        scores = base(images)
    digest.update(_rounded(scores) if isinstance(scores, torch.Tensor) else b"")
    return digest.hexdigest()


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


def _rounded(values: torch.Tensor) -> bytes:
    """Return the values to a thousandth of the largest one's power of ten; further digits depend on the machine."""
    answers = np.nan_to_num(values.detach().cpu().double().numpy(), posinf=0.0, neginf=0.0)
    largest = float(np.abs(answers).max(initial=0.0))
    scale = 10.0 ** np.floor(np.log10(largest)) if largest > 0.0 else 1.0
    return bytes((np.round(answers / scale, 3) + 0.0).tobytes()) + f"{scale:g}".encode()


def run_key(config: dict[str, Any]) -> str:
    """Return the key of a run: a hash of everything that decides its votes; how many images were asked for does not."""
    deciding = {name: value for name, value in config.items() if name != "images"}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
