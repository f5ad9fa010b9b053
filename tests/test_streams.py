"""Seeds of draws: functions of seed, image, purpose and chunk, without collisions inside an image."""

from __future__ import annotations

import itertools

import pytest
import torch

from rs_plugin.streams import CHUNK, Stream, chunk_seed, make_generator

IMAGES = [(0, 0), (0, 1), (7, 49_999), (2**63, 3), (-1, 0)]
RECORDED = (3361674512948419139, 7043218887371281313)


@pytest.mark.parametrize(("seed", "index"), IMAGES)
def test_low_32_bits_of_one_image_never_repeat(seed: int, index: int) -> None:
    chunks = [*range(1600), 2**28 - 1]  # 1600 chunks are 102 400 draws; the last is the largest allowed
    seeds = [chunk_seed(seed, index, stream, chunk) for stream in Stream for chunk in chunks]
    assert len({value & 0xFFFFFFFF for value in seeds}) == len(seeds)


def test_streams_are_apart_however_many_chunks_are_drawn() -> None:
    base = chunk_seed(3, 5, Stream.SELECTION, 0) & 0xFFFFFFFF
    starts = [(chunk_seed(3, 5, stream, 0) - base) % 2**32 for stream in Stream]
    assert min(b - a for a, b in itertools.pairwise(sorted(starts))) >= 2**28
    assert max(starts) <= 2**32 - 2**28  # the last stream does not run into the first


def test_seeds_fit_a_generator() -> None:
    for seed, index in IMAGES:
        for stream in Stream:
            value = chunk_seed(seed, index, stream, 2**28 - 1)
            assert 0 <= value < 2**63
            torch.Generator().manual_seed(value)


def test_every_argument_matters() -> None:
    reference = chunk_seed(1, 2, Stream.SELECTION, 3)
    others = [
        chunk_seed(2, 2, Stream.SELECTION, 3),
        chunk_seed(1, 3, Stream.SELECTION, 3),
        chunk_seed(1, 2, Stream.ESTIMATION, 3),
        chunk_seed(1, 2, Stream.SELECTION, 4),
        chunk_seed(12, 2, Stream.SELECTION, 3),
    ]
    assert len({reference, *others}) == 6
    assert chunk_seed(1, 23, Stream.SELECTION, 0) != chunk_seed(12, 3, Stream.SELECTION, 0)


def test_seeds_are_the_recorded_ones() -> None:
    # A change here orphans every stored vote; it must come with a new sampler version.
    assert chunk_seed(0, 0, Stream.SELECTION, 0) == RECORDED[0]
    assert chunk_seed(5, 17, Stream.ESTIMATION, 9) == RECORDED[1]


def test_generators_depend_on_nothing_else() -> None:
    device = torch.device("cpu")
    torch.manual_seed(0)
    first = torch.randn(CHUNK, generator=make_generator(device, 1, 2, Stream.BANK))
    torch.manual_seed(99)
    torch.randn(10)
    again = torch.randn(CHUNK, generator=make_generator(device, 1, 2, Stream.BANK))
    other = torch.randn(CHUNK, generator=make_generator(device, 1, 2, Stream.CERTIFICATE))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
