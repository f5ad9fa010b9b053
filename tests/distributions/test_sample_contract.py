"""What ``sample`` promises for every family: shapes, types, blocks, and randomness from its generator alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from rs_plugin.distributions import (
    Gaussian,
    L1Exponential,
    L2Exponential,
    Laplace,
    LinfExponential,
    MaxTiltedExponential,
    MixedNorm,
    NormExponential,
    SmoothingDistribution,
)
from rs_plugin.distributions.base import BLOCK_VALUES
from rs_plugin.errors import ParameterError
from tests.cases import SAMPLED, each


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CONTRACT = [
    Gaussian(0.5), Laplace(0.3), L1Exponential(3, 0.3), L2Exponential(3, 0.5), LinfExponential(3, 2.0),
    MixedNorm(3, 0.5), NormExponential(2, 3, 0.5, 0.7), MaxTiltedExponential(1, 3, 0.7), MaxTiltedExponential(3, 3, 1),
]  # fmt: skip


@pytest.mark.parametrize("noise", CONTRACT, ids=str)
class TestContract:
    """What every family's ``sample`` promises."""

    def test_same_state_same_draws(self, noise: SmoothingDistribution) -> None:
        one, two = generator(1), generator(1)
        first = noise.sample((7, 12), generator=one)
        assert torch.equal(first, noise.sample((7, 12), generator=two))
        following = noise.sample((7, 12), generator=one)
        assert not torch.equal(first, following)
        assert torch.equal(following, noise.sample((7, 12), generator=two))
        assert not torch.equal(first, noise.sample((7, 12), generator=generator(2)))

    def test_event_shape_does_not_matter(self, noise: SmoothingDistribution) -> None:
        flat = noise.sample((5, 12), generator=generator())
        image = noise.sample((5, 3, 2, 2), generator=generator())
        assert image.shape == (5, 3, 2, 2)
        assert torch.equal(flat, image.reshape(5, 12))

    def test_whole_blocks_are_a_prefix(self, noise: SmoothingDistribution) -> None:
        dim = 4096
        rows = BLOCK_VALUES // dim
        few = noise.sample((rows, dim), generator=generator())
        more = noise.sample((2 * rows + 3, dim), generator=generator())
        assert torch.equal(few, more[:rows])
        assert len({tuple(row[:4].tolist()) for row in more}) == len(more)

    def test_fill_is_sample_in_place(self, noise: SmoothingDistribution) -> None:
        out = torch.empty((70, 12))
        noise.fill(out, generator())
        assert torch.equal(out, noise.sample((70, 12), generator=generator()))

    @pytest.mark.parametrize(("rows", "dim"), [(64, 12), (1, 12), (64, 4096), (2, BLOCK_VALUES + 1)])
    def test_chunks_are_filled_as_each_alone(self, noise: SmoothingDistribution, rows: int, dim: int) -> None:
        """Also where a chunk is larger than a block; and the generator's state before does not matter."""
        if dim > 12 and isinstance(noise, MaxTiltedExponential) and noise.power not in (1, 2):
            rows, dim = 3, BLOCK_VALUES // 2 - 1  # slow in bulk
        seeds = (5, 6, 5)
        together, alone = torch.empty((3 * rows, dim)), torch.empty((3 * rows, dim))
        noise.fill_chunks(together, seeds, generator(9))
        for chunk, seed in zip(alone.split(rows), seeds, strict=True):
            noise.fill(chunk, generator(seed))
        assert torch.equal(together, alone)
        assert torch.equal(together[:rows], together[2 * rows :])

    def test_an_event_larger_than_a_block(self, noise: SmoothingDistribution) -> None:
        z = noise.sample((2, BLOCK_VALUES + 1), generator=generator())
        assert z.shape == (2, BLOCK_VALUES + 1)
        assert torch.isfinite(z).all()
        assert not torch.equal(z[0], z[1])

    def test_dtypes(self, noise: SmoothingDistribution) -> None:
        default = noise.sample((50, 12), generator=generator())
        assert default.dtype == torch.get_default_dtype() == torch.float32
        assert noise.sample((50, 12), generator=generator(), dtype=torch.float64).dtype == torch.float64
        for half in (torch.bfloat16, torch.float16):
            drawn = noise.sample((50, 12), generator=generator(), dtype=half)
            assert drawn.dtype == half
            assert torch.equal(drawn, default.to(half))
            assert torch.isfinite(drawn).all()

    def test_default_dtype_is_followed(self, noise: SmoothingDistribution) -> None:
        torch.set_default_dtype(torch.float64)
        try:
            assert noise.sample((2, 12), generator=generator()).dtype == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)

    def test_device_and_layout(self, noise: SmoothingDistribution) -> None:
        z = noise.sample((4, 12), generator=generator(), device="cpu")
        assert z.device.type == "cpu"
        assert z.is_contiguous()
        assert not z.requires_grad
        assert noise.sample((4, 12), generator=generator(), device="meta").device.type == "meta"

    def test_no_draws(self, noise: SmoothingDistribution) -> None:
        assert noise.sample((0, 12), generator=generator()).shape == (0, 12)

    def test_global_generators_are_left_alone(self, noise: SmoothingDistribution) -> None:
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        noise.sample((50, 12), generator=generator())
        assert torch.equal(before[0], torch.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
        assert before[2] == random.getstate()

    def test_generator_is_required(self, noise: SmoothingDistribution) -> None:
        with pytest.raises(TypeError, match="generator"):
            noise.sample((2, 12))  # type: ignore[call-arg]
        for wrong in (None, 0, np.random.default_rng(0)):
            with pytest.raises(ParameterError, match="generator"):
                noise.sample((2, 12), generator=wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize("shape", [(), (5,), (5, 0), (5, 3, 0), (-1, 5)])
    def test_shapes_that_are_no_batch_of_events(self, noise: SmoothingDistribution, shape: tuple[int, ...]) -> None:
        with pytest.raises(ParameterError, match="shape"):
            noise.sample(shape, generator=generator())

    def test_types_that_are_not_floating(self, noise: SmoothingDistribution) -> None:
        with pytest.raises(ParameterError, match="int32"):
            noise.sample((2, 12), generator=generator(), dtype=torch.int32)


@each(SAMPLED)
def test_draws_are_finite_in_half_precision(noise: SmoothingDistribution, dim: int) -> None:
    z = noise.sample((3, dim), generator=generator(8), dtype=torch.bfloat16)
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("family", [L1Exponential, L2Exponential, LinfExponential, MixedNorm])
@pytest.mark.parametrize("k", [3, 3.5, 1000])
def test_k_at_or_above_the_dimension_is_refused(family: type[SmoothingDistribution], k: float) -> None:
    noise = family(k, 1.0)
    with pytest.raises(ParameterError, match=rf"k = {k:g} .* d = 3.*0 <= k < 3"):
        noise.sample((2, 3), generator=generator())
    with pytest.raises(ParameterError, match="d = 3"):
        noise.sample((2, 1, 3, 1), generator=generator())
    if k < 4:
        assert noise.sample((2, 2, 2), generator=generator()).shape == (2, 2, 2)
