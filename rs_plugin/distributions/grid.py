"""Gaussian and Laplace noise rounded to a grid, drawn exactly and in whole numbers.

Floating-point noise has few values, and adding it to an image rounds: the sum can tell which image it was, so that a
network may treat two images differently that the certificate takes for neighbours (V. Voráček and M. Hein, "Sound
randomized smoothing in floating-point arithmetic", ICLR 2023). Where an image's values are multiples of a step ``h``
and noise is rounded to multiples of ``h``, the sum is one of whole numbers. For such an image ``x``,
``round(x + z) = x + round(z)``: what is counted are the votes of the network after rounding, under the noise ``z``
itself, and the certificate of ``z`` holds for it as it stands.

A coordinate ``z`` falls into the cell of ``j`` with ``P(j) = F((j + 1/2) h) - F((j - 1/2) h)``. It is drawn by
inverting ``F`` with as many random bits as it takes: 62 at first, which tell the cell but for one draw in ``10^15`` or
so, and more until they do. So the law is exact if the bits are fair coins. Those of torch's generators stand for them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import mpmath
import numpy as np
import torch
from torch import Tensor

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.norm_exponential import Gaussian, Laplace
from rs_plugin.errors import InputError, ParameterError

#: Part of a run's key: raised whenever the same generator state would give other draws.
GRID_VERSION: Final = 1

#: Most steps from 0 to 1, so that float32 holds all sums exactly.
MOST_LEVELS: Final = 1 << 16

_BITS: Final = 62
_TABLE_BITS: Final = 16
_MOST_CELLS: Final = 1 << 18  # float32 holds every whole number up to 2^24


class GridNoise:
    """Draws of a noise in steps of ``1 / levels``, as whole numbers.

    Args:
        noise: a Gaussian or Laplace noise.
        levels: steps from 0 to 1, 255 for images of 8 bits.
        bits: random bits of a draw, at first.

    Raises:
        ParameterError: another noise, levels out of range, or a noise of too many steps.
    """

    def __init__(self, noise: SmoothingDistribution, levels: int = 255, bits: int = _BITS) -> None:
        if isinstance(levels, bool) or not isinstance(levels, int | np.integer) or not 1 <= levels <= MOST_LEVELS:
            raise ParameterError(f"levels must be a whole number from 1 to {MOST_LEVELS}, not {levels!r}")
        if type(noise) not in (Gaussian, Laplace):
            raise ParameterError(
                f"exact noise on a grid is there for Gaussian and Laplace noise, not for {noise}; choose one of these, "
                f"or leave out sound=True"
            )
        self.noise, self.levels = noise, int(levels)
        self._bits = bits
        self._law = _Law(type(noise), next(iter(noise.parameters.values())), self.levels)
        self._floors, self._first, self._table = _tables(self._law, bits)
        self._moved: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def fill(self, out: Tensor, generator: torch.Generator) -> None:
        """Fill ``out``, float32 and of the generator's device, with independent draws, in steps."""
        bits = torch.empty(out.numel(), dtype=torch.int64, device=out.device)
        bits.random_(0, 1 << self._bits, generator=generator)
        flat = out.view(-1)
        places, starts = self._look_up(bits, flat)
        for place, start in zip(places, starts, strict=True):
            flat[place] = float(self._law.resolved(start, self._bits, generator))

    def _look_up(self, bits: Tensor, flat: Tensor) -> tuple[list[int], list[int]]:
        """Fill ``flat`` with the cells of numbers of which ``bits`` are the first bits.

        Returns:
            The places where only further bits can tell, and the first bits there.
        """
        floors, table = self._on(flat.device)
        torch.index_select(table, 0, bits >> max(0, self._bits - _TABLE_BITS), out=flat)
        open_ = torch.isnan(flat).nonzero().view(-1)  # a cell ends within what the first bits leave open
        rest = bits[open_]
        at = torch.searchsorted(floors, rest)
        flat[open_] = (at + self._first).to(flat.dtype)
        met = floors[at.clamp(max=len(floors) - 1)] == rest
        return open_[met].tolist(), rest[met].tolist()

    def fill_chunks(self, out: Tensor, seeds: Sequence[int], generator: torch.Generator) -> None:
        """Fill ``out`` with equal chunks of rows, each from the generator at one of ``seeds``, as ``fill`` would."""
        chunks = out.view(len(seeds), -1, out.shape[1])
        if out.device.type != "cpu":  # looked up at once: every look is a wait for the GPU
            bits = torch.empty((len(seeds), chunks[0].numel()), dtype=torch.int64, device=out.device)
            for row, seed in zip(bits, seeds, strict=True):
                row.random_(0, 1 << self._bits, generator=generator.manual_seed(seed))
            if not self._look_up(bits.view(-1), out.view(-1))[0]:
                return
        for chunk, seed in zip(chunks, seeds, strict=True):
            self.fill(chunk, generator.manual_seed(seed))

    def steps_of(self, images: Tensor) -> Tensor:
        """Return images in [0, 1], on the CPU, as whole numbers of steps, float32.

        Raises:
            InputError: a value is no multiple of the step, as float32 has it.
        """
        steps, off = _rounded(images, self.levels)
        if bool(off.any()):
            fit = next((n for n in (255, 16, 4080, 65535) if not bool(_rounded(images, n)[1].any())), None)
            remedy = f"sound={fit} would do" if fit else "certify the images that rounding makes of them"
            raise InputError(
                f"sound counting on a grid needs images of multiples of 1/{self.levels}; {float(images[off][0])!r} is "
                f"none; {remedy}"
            )
        return steps

    def images_of(self, steps: Tensor) -> Tensor:
        """Turn whole numbers of steps into the values that a network sees, in place and each by itself."""
        # By a tensor of its device: GPUs multiply by the rounded inverse of a plain number.
        return steps.div_(torch.full((), float(self.levels), device=steps.device))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._moved:
            self._moved[device] = self._floors.to(device), self._table.to(device)
        return self._moved[device]


def _rounded(images: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return images in whole numbers of steps, and where they are off the grid."""
    steps = torch.round(images.to(torch.float32) * levels)
    return steps, steps / levels != images  # a quotient of whole numbers is rounded once


@dataclass(frozen=True)
class _Law:
    """The law of one coordinate on the grid."""

    family: type[SmoothingDistribution]
    scale: float
    levels: int

    def tail(self, j: int, mp: Any) -> Any:
        """Return ``P(z > (j + 1/2) h)``, to the precision of mpmath's context ``mp``, for ``j`` of 0 or more."""
        x = mp.mpf(2 * j + 1) / (2 * self.levels * mp.mpf(self.scale))
        return mp.erfc(x / mp.sqrt(2)) / 2 if issubclass(self.family, Gaussian) else mp.exp(-x) / 2

    def below(self, j: int, mp: Any) -> Any:
        """Return ``P(z <= (j + 1/2) h)``."""
        return 1 - self.tail(j, mp) if j >= 0 else self.tail(-j - 1, mp)

    def cell(self, u: Any, mp: Any) -> int:
        """Return the ``j`` with ``F((j - 1/2) h) <= u < F((j + 1/2) h)``, for ``u`` in (0, 1)."""
        two = 2 * min(u, 1 - u)
        x = mp.sqrt(2) * mp.erfinv(1 - two) if issubclass(self.family, Gaussian) else -mp.log(two)
        signed = x if u > 0.5 else -x
        j = int(mp.floor(signed * mp.mpf(self.scale) * self.levels + mp.mpf(0.5)))
        while self.below(j, mp) <= u:
            j += 1
        while self.below(j - 1, mp) > u:
            j -= 1
        return j

    def resolved(self, start: int, bits: int, generator: torch.Generator) -> int:
        """Return the cell of a number of which the first bits are known, with more bits until they tell it."""
        while True:
            more = torch.empty(1, dtype=torch.int64, device=generator.device)
            start = (start << _BITS) | int(more.random_(0, 1 << _BITS, generator=generator))
            bits += _BITS
            mp = _context(bits + 64)
            if 0 < start < (1 << bits) - 1:
                least, most = (self.cell(mp.ldexp(mp.mpf(end), -bits), mp) for end in (start, start + 1))
                if least == most:
                    return least


def _context(bits: int) -> Any:
    """Return a context of mpmath with so many bits; the package's own is everybody's, other threads' too."""
    context = mpmath.MPContext()
    context.prec = bits
    return context


@functools.lru_cache(maxsize=16)
def _tables(law: _Law, bits: int) -> tuple[Tensor, int, Tensor]:
    """Return what a draw is looked up in.

    Returns:
        ``floor(2^bits F((j + 1/2) h))`` for all ``j`` for which it is neither 0 nor all ones and one more on each side,
        the first of these ``j``, and for the first 16 bits of a draw its cell, NaN where they do not tell it.
    """
    mp = _context(4 * _BITS)

    def floor(j: int) -> int:
        return int(mp.floor(mp.ldexp(law.tail(j, mp), bits)))

    if floor(_MOST_CELLS):
        raise ParameterError(
            f"a scale of {law.scale:g} has more than {_MOST_CELLS} steps of 1/{law.levels}; choose fewer levels"
        )
    tails = [floor(0)]
    while tails[-1]:
        tails.append(floor(len(tails)))
    ones = (1 << bits) - 1
    floors = torch.tensor([*reversed(tails), *(ones - tail for tail in tails)], dtype=torch.int64)
    first = -len(tails)
    shown = min(bits, _TABLE_BITS)
    starts = torch.arange(1 << shown, dtype=torch.int64) << (bits - shown)
    at = torch.searchsorted(floors, starts)
    upto = torch.searchsorted(floors, starts + (1 << (bits - shown)))
    table = torch.where(at == upto, (at + first).to(torch.float32), torch.nan)
    return floors, first, table
