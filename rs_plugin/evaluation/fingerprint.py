"""What decides a run's votes, as a key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.voting import computing_in, described, single_threaded

_NOISY = 16  # noisy images among those that a network is asked about


def model_fingerprint(base: nn.Module, noise: SmoothingDistribution, image: Tensor, device: torch.device) -> str:
    """Return a hash of the network: its description, and its scores of four fixed images and of ``image`` under noise.

    The description is that of ``voting.described``; what a forward pass changes is left out.
    """
    count = image.numel()
    fixed = torch.remainder(torch.arange(4 * count, dtype=torch.float64) * 0.6180339887498949, 1.0)
    draws = torch.empty(_NOISY, count, device=device)
    noise.fill(draws, torch.Generator(device=device).manual_seed(0))
    noisy = image.to(device) + draws.view(_NOISY, *image.shape)
    images = torch.cat([fixed.to(torch.float32).view(4, *image.shape).to(device), noisy])
    before = described(base)
    with torch.inference_mode(), single_threaded(), computing_in("float32", device):
        scores = base(images)
    after = described(base)
    digest = hashlib.sha256()
    for place in sorted(before.items() & after.items()):
        digest.update("|".join(place).encode())
    # The more numbers, the coarser: each may lie at the edge of rounding on another machine.
    digest.update(_rounded(scores[:4], 3) + _rounded(scores[4:], 1) + str(scores[4:].argmax(1).tolist()).encode())
    return digest.hexdigest()


def noise_fingerprint(noise: SmoothingDistribution, dim: int) -> str:
    """Return a hash of the noise: class, text, and what a few draws of a fixed seed on the CPU and their density are.

    So votes under a sampler that was changed since are not taken for votes under the new one.

    Raises:
        ParameterError: the sampler or the density breaks its contract.
    """
    digest = hashlib.sha256(f"{type(noise).__module__}.{type(noise).__qualname__}|{noise}".encode())
    draws = probe(noise, dim).double()
    # Few numbers, so that hardly ever one lies at the edge of rounding; the norms know of all coordinates.
    norms = torch.stack([torch.linalg.vector_norm(draws, ord=order, dim=1) for order in (1.0, 2.0, torch.inf)])
    for part in (draws[:, :8], norms[0], norms[1], norms[2], noise.log_prob(draws)):
        digest.update(_rounded(part, 2))
    return digest.hexdigest()


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
