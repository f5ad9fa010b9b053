"""Which random numbers belong to which draw: a function of the seed, the image, the purpose and the chunk alone.

So votes do not depend on the order of work, on the number of workers or on interruptions.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Final

import torch

#: Draws that share one generator state.
CHUNK: Final = 64

_CHUNK_BITS: Final = 28


class Stream(IntEnum):
    """What draws are for; draws of different streams are independent."""

    SELECTION = 0
    ESTIMATION = 1
    BANK = 2
    CERTIFICATE = 3
    ATTACK = 4


def chunk_seed(seed: int, index: int, stream: Stream, chunk: int) -> int:
    """Return the generator seed of one chunk of draws, in [0, 2⁶³).

    torch's CPU generator uses the low 32 bits of a seed only. Within one (seed, index) the low 32 bits of all streams
    and chunks differ by construction, so no two chunks of an image ever share their draws.
    """
    digest = hashlib.blake2b(f"{seed}|{index}".encode(), digest_size=8).digest()
    base = int.from_bytes(digest, "little")
    low = (base + (int(stream) << _CHUNK_BITS) + chunk) & 0xFFFFFFFF
    return ((base >> 33) << 32) | low


def make_generator(device: torch.device, seed: int, index: int, stream: Stream, chunk: int = 0) -> torch.Generator:
    """Return a fresh generator on ``device`` at the start of a chunk."""
    return torch.Generator(device=device).manual_seed(chunk_seed(seed, index, stream, chunk))
