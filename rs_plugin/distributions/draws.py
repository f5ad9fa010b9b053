"""Elementary draws that the samplers share, each in place and from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symmetric_uniform_(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with uniform draws from (-1, 1), symmetric and never 0 or ±1.

    torch's uniforms are multiples ``j ε / 2`` of half the machine epsilon ``ε``, in [0, 1). The odd multiples
    ``(2j + 1) ε / 2 - 1`` made of them here are exact in floating point.
    """
    half_epsilon = torch.finfo(out.dtype).eps / 2
    return out.uniform_(generator=generator).mul_(2.0).sub_(1.0 - half_epsilon)


def laplace_(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with standard Laplace draws (density ``exp(-|x|) / 2``) by inverting the distribution function."""
    symmetric_uniform_(out, generator)
    # 1 - |v| is exact here, so the plain logarithm loses nothing and is ten times as fast as log1p.
    magnitude = out.abs().neg_().add_(1.0).log_()
    return torch.copysign(magnitude, out, out=out)


def log_gamma_draws(shape: float, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` logarithms of Gamma(shape) draws, float64, on the generator's device.

    Below shape 1, ``G(shape) = G(shape + 1) U^{1/shape}`` is used in logarithms, since the value itself underflows
    for small shapes (Marsaglia & Tsang 2000, section 6).
    """
    boost = shape < 1.0
    shapes = torch.full((count,), shape + boost, dtype=torch.float64, device=generator.device)
    # The only torch draw of a Gamma that takes a generator; torch.distributions.Gamma rests on it too.
    logs: Tensor = torch._standard_gamma(shapes, generator=generator).log_()
    if boost:
        uniform = torch.rand(count, dtype=torch.float64, device=generator.device, generator=generator)
        logs.add_(torch.log1p(-uniform).div_(shape))
    return logs


def put_extreme_(out: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """Set one coordinate of each row, uniformly chosen, to ``±size``, keeping the sign it had.

    The sign of a symmetric draw is independent of its magnitude and of the other coordinates, so it is a fair coin.
    """
    index = torch.randint(out.shape[1], (out.shape[0], 1), device=out.device, generator=generator)
    return out.scatter_(1, index, torch.copysign(size.view(-1, 1), out.gather(1, index)))


def truncated_normal_(out: Tensor, bound: Tensor, generator: torch.Generator) -> Tensor:
    """Fill each row with standard normal draws conditioned on ``|x| <= bound`` of that row.

    Where few draws of a normal fall outside, those alone are drawn again by inversion; otherwise all are inverted.
    Both give the conditional law: which draws are replaced depends on nothing but themselves.
    """
    limit = bound.view(-1, 1)
    if float(bound.min()) < 2.5:
        symmetric_uniform_(out, generator)
        out.mul_(torch.erf(limit / math.sqrt(2.0)).to(out.dtype)).erfinv_().mul_(math.sqrt(2.0))
        cast = limit.to(out.dtype)
        # Ten times as fast as clamp with tensor limits.
        return torch.maximum(torch.minimum(out, cast, out=out), -cast, out=out)
    out.normal_(generator=generator)
    cast = limit.to(out.dtype)
    rows, columns = torch.nonzero(out.abs() > cast, as_tuple=True)
    edge = bound[rows]
    again = symmetric_uniform_(torch.empty(len(rows), dtype=torch.float64, device=out.device), generator)
    again.mul_(torch.erf(edge / math.sqrt(2.0))).erfinv_().mul_(math.sqrt(2.0))
    out[rows, columns] = torch.minimum(torch.maximum(again, -edge), edge).to(out.dtype)
    return out
