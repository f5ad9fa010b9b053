"""What decides a run's votes, as a key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import nn

from rs_plugin.voting import single_threaded


def model_fingerprint(base: nn.Module, image_shape: tuple[int, ...], device: torch.device) -> str:
    """Return a hash of the network: class, state dict, and its answers on fixed images.

    The answers are included since normalisation often hides in plain attributes; they are rounded to a thousandth of
    the largest one's power of ten, since their last digits depend on the machine.
    """
    digest = hashlib.sha256(f"{type(base).__module__}.{type(base).__qualname__}".encode())
    for name, value in base.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    count = int(np.prod(image_shape))
    probe = torch.remainder(torch.arange(4 * count, dtype=torch.float64) * 0.6180339887498949, 1.0)
    images = probe.to(torch.float32).view(4, *image_shape).to(device)
    with torch.inference_mode(), single_threaded():
        scores = base(images)
    answers = scores.detach().cpu().double().numpy() if isinstance(scores, torch.Tensor) else np.zeros(1)
    answers = np.nan_to_num(answers, posinf=0.0, neginf=0.0)
    largest = float(np.abs(answers).max(initial=0.0))
    scale = 10.0 ** np.floor(np.log10(largest)) if largest > 0.0 else 1.0
    digest.update((np.round(answers / scale, 3) + 0.0).tobytes())
    digest.update(f"{scale:g}".encode())
    return digest.hexdigest()


def run_key(config: dict[str, Any]) -> str:
    """Return the key of a run: a hash of everything that decides its votes."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
