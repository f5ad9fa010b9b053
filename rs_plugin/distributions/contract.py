"""What every distribution promises, checked on a few draws before anything is built on it."""

from __future__ import annotations

import torch
from torch import Tensor

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.errors import ParameterError

_DRAWS = 4


def probe(noise: SmoothingDistribution, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Return four draws of a fixed seed, shape (4, d), after checking that they and their density can be used.

    Raises:
        ParameterError: ``_sample`` leaves values of ``out`` unset or not finite, or ``_log_prob`` does not return one
            number for each row.
    """
    noise.check_dim(dim)
    out = torch.full((_DRAWS, dim), torch.nan, device=device)
    noise.fill(out, torch.Generator(device=device).manual_seed(0))
    if not bool(torch.isfinite(out).all()):
        raise ParameterError(
            f"a draw of {noise} is not finite; {type(noise).__name__}._sample must fill all of 'out' in place"
        )
    logs = noise.log_prob(out)
    if not isinstance(logs, Tensor) or logs.shape != (_DRAWS,) or bool(torch.isnan(logs).any()):
        got = tuple(logs.shape) if isinstance(logs, Tensor) else type(logs).__name__
        raise ParameterError(
            f"the log density of {noise} at {_DRAWS} draws is {got}; {type(noise).__name__}._log_prob must return one "
            f"number a row, shape ({_DRAWS},)"
        )
    return out
