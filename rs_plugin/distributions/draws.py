"""Elementary draws that the samplers share, each in place and from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symmetric_uniform_(out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``out`` with uniform draws from (-1, 1), symmetric and never 0 or ±1."""
    return to_symmetric_(out.uniform_(generator=generator))


def to_symmetric_(out: Tensor) -> Tensor:
    """Turn torch's uniform draws from [0, 1) into ones from (-1, 1), symmetric and never 0 or ±1.

    torch's uniforms are multiples ``j ε / 2`` of half the machine epsilon ``ε``, in [0, 1). The odd multiples
    ``(2j + 1) ε / 2 - 1`` made of them here are exact in floating point.
    """
    half_epsilon = torch.finfo(out.dtype).eps / 2
    return out.mul_(2.0).sub_(1.0 - half_epsilon)


def to_laplace_(out: Tensor) -> Tensor:
    """Turn draws of ``symmetric_uniform_`` into standard Laplace draws (density ``exp(-|x|) / 2``) by inversion."""
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


def uniform_columns(uniform: Tensor, dim: int) -> Tensor:
    """Turn uniform draws from [0, 1), float64 (count,), into uniformly chosen columns, int64.

    Off by ``dim`` times 2⁻⁵³ at most; torch's own whole numbers are off by ``dim`` times 2⁻³².
    """
    return (uniform * dim).to(torch.int64)


def put_extreme_(out: Tensor, columns: Tensor, size: Tensor) -> Tensor:
    """Set one coordinate of each row, in the given column, to ``±size``, keeping the sign it had.

    The sign of a symmetric draw is independent of its magnitude and of the other coordinates, so it is a fair coin.
    """
    index = columns.view(-1, 1)
    return out.scatter_(1, index, torch.copysign(size.view(-1, 1), out.gather(1, index)))


def to_truncated_normal_(out: Tensor, bound: Tensor, scale: float = 1.0) -> Tensor:
    """Turn draws of ``symmetric_uniform_`` into normal ones conditioned on ``|x| <= bound`` of its row, times a scale.

    ``bound``, of shape (count,) in float64, is in units of the standard deviation.
    """
    limit = bound.view(-1, 1)
    out.mul_(torch.erf(limit / math.sqrt(2.0)).to(out.dtype)).erfinv_().mul_(math.sqrt(2.0) * scale)
    cast = (limit * scale).to(out.dtype)
    # Ten times as fast as clamp with tensor limits.
    return torch.maximum(torch.minimum(out, cast, out=out), -cast, out=out)


def wide_truncated_normal_(out: Tensor, bound: Tensor, generator: torch.Generator) -> Tensor:
    """Fill each row with standard normal draws conditioned on ``|x| <= bound`` of that row, for bounds that cut little.

    Draws of a normal that fall outside are drawn again by inversion in double precision. That gives the conditional
    law, since whether a draw is replaced depends on itself alone, and single precision would be coarse in the tails.
    """
    out.normal_(generator=generator)
    cast = bound.view(-1, 1).to(out.dtype)
    rows, columns = torch.nonzero(out.abs() > cast, as_tuple=True)
    again = symmetric_uniform_(torch.empty((len(rows), 1), dtype=torch.float64, device=out.device), generator)
    edge = cast.view(-1)[rows]
    fresh = to_truncated_normal_(again, bound[rows]).view(-1).to(out.dtype)
    out[rows, columns] = torch.maximum(torch.minimum(fresh, edge), -edge)
    return out
