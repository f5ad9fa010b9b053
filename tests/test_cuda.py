"""What runs on a GPU: draws on the grid, votes, certificates and training there, against the CPU and closed forms.

The samplers' own tests run on a GPU with ``RS_DEVICE=cuda python -m pytest tests/distributions/test_sampling.py``.
"""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

import rs_plugin as rs
from rs_plugin.distributions import Gaussian, Laplace
from rs_plugin.distributions.grid import GridNoise
from rs_plugin.evaluation.executors import Counting
from rs_plugin.evaluation.executors.on_ray import _sendable
from rs_plugin.training import TrainConfig, train
from tests.evaluation.toys import SHAPE, HalfSpace, half_space_model, labelled, toy_data, toy_model, votes_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

GRIDS = [(Gaussian(0.25), 255), (Gaussian(1.0), 16), (Laplace(0.1), 255), (Laplace(0.5), 8)]
NOISES = [
    "gaussian(sigma=0.5)", "laplace(b=0.35)", "l1_exponential(k=500, b=0.42)", "l2_exponential(k=500, sigma=0.55)",
    "linf_exponential(k=100, sigma=0.0001)", "mixed_norm(k=25, sigma=0.5)", "mixed_norm(k=2900, sigma=0.5)",
]  # fmt: skip
IDS = [f"{noise}-{levels}" for noise, levels in GRIDS]


@pytest.mark.parametrize(("noise", "levels"), GRIDS, ids=IDS)
@pytest.mark.parametrize("bits", [62, 18])
def test_cells_on_the_grid_are_those_of_the_cpu(noise, levels, bits):
    """Both for the first bits alone and where the table leaves a cell open, whole numbers that they are."""
    grid = GridNoise(noise, levels, bits)
    rest = torch.randint(0, 1 << bits, (1 << 20,), generator=torch.Generator().manual_seed(0))
    numbers = torch.cat([rest, grid._floors.clamp(0, (1 << bits) - 1), (grid._floors + 1).clamp(0, (1 << bits) - 1)])
    here, there = torch.empty(len(numbers)), torch.empty(len(numbers), device="cuda")
    assert grid._look_up(numbers, here) == grid._look_up(numbers.cuda(), there)
    assert torch.equal(here, there.cpu())


@pytest.mark.parametrize("bits", [62, 10])
def test_chunks_on_the_grid_are_what_their_seeds_give(bits):
    grid, whole = GridNoise(Gaussian(0.25), 255, bits), torch.empty(192, 12, device="cuda")
    grid.fill_chunks(whole, [5, 6, 7], torch.Generator("cuda"))
    for chunk, seed in zip(whole.split(64), (5, 6, 7), strict=True):
        alone = torch.empty(64, 12, device="cuda")
        grid.fill(alone, torch.Generator("cuda").manual_seed(seed))
        assert torch.equal(chunk, alone)


@pytest.mark.parametrize("text", NOISES)
def test_chunks_are_what_their_seeds_give(text):
    """But for the rounding of sums, which a GPU takes in an order that the number of rows decides."""
    noise, whole = rs.parse_noise(text), torch.empty(4096, 3072, device="cuda")
    noise.fill_chunks(whole, list(range(64)), torch.Generator("cuda"))
    for seed in (0, 41, 63):
        alone = torch.empty(64, 3072, device="cuda")
        noise.fill(alone, torch.Generator("cuda").manual_seed(seed))
        torch.testing.assert_close(whole[64 * seed : 64 * (seed + 1)], alone, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("noise", "levels"), GRIDS, ids=IDS)
@pytest.mark.parametrize("bits", [62, 10])
def test_draws_on_the_grid_have_their_law(noise, levels, bits):
    count = 4_000_000 if bits == 62 else 3000
    out = torch.empty(count // 100, 100, device="cuda")
    GridNoise(noise, levels, bits).fill(out, torch.Generator("cuda").manual_seed(1))
    values, counts = np.unique(out.cpu().numpy(), return_counts=True)
    assert np.array_equal(values, np.round(values))
    law = stats.norm(scale=noise.sigma) if isinstance(noise, Gaussian) else stats.laplace(scale=noise.b)
    expected = count * (law.cdf((values + 0.5) / levels) - law.cdf((values - 0.5) / levels))
    kept = expected >= 5.0
    observed = np.append(counts[kept], count - counts[kept].sum())
    expected = np.append(expected[kept], max(count - expected[kept].sum(), 1e-9))
    kept = expected >= 1.0
    chi = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert kept.sum() == 1 or stats.chi2.sf(chi, kept.sum() - 1) > 1e-6


@pytest.mark.parametrize("levels", [1, 16, 255, 4080])
def test_images_of_steps_are_those_of_the_cpu(levels):
    steps = torch.arange(-4 * levels, 5 * levels).to(torch.float32)
    grid = GridNoise(Gaussian(0.25), levels)
    assert torch.equal(grid.images_of(steps.cuda()).cpu(), grid.images_of(steps.clone()))


@pytest.mark.parametrize("stopping", ["fixed", "anytime"])
@pytest.mark.parametrize("sound", [False, True])
def test_votes_depend_on_nothing_but_the_seed(stopping, sound):
    data = toy_data(12)
    if sound:
        data = dataclasses.replace(data, images=torch.round(data.images * 255) / 255)
    model = toy_model()
    model = rs.SmoothedClassifier(model.base, model.noise, 3, sound=sound)
    settings = {"n0": 64, "n": 3000, "stopping": stopping, "device": "cuda", "store": None}
    runs = [rs.evaluate(model, data, "L2", [0.1, 0.3], batch_size=size, **settings) for size in (256, 256, 1024)]
    assert votes_of(runs[0]) == votes_of(runs[1])
    # A group of another size is another shape, whose sums may be rounded otherwise: these networks' are not.
    assert votes_of(runs[0]) == votes_of(runs[2])


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_shares_of_votes_are_the_probabilities(sound, sigma):
    """A half-space under Gaussian noise has ``p = Φ(margin / sigma)``; on the grid of 1/255 as well, but for 1e-3."""
    images = torch.round(torch.linspace(0.0, 1.0, 8).view(-1, 1, 1, 1).expand(-1, *SHAPE) * 255) / 255
    base = HalfSpace()
    run = rs.evaluate(
        rs.SmoothedClassifier(base, Gaussian(sigma), 2, sound=sound), labelled(images.contiguous(), [0] * 8), "L2",
        [0.1], n0=64, n=100_000, device="cuda", store=None,
    )  # fmt: skip
    on_cpu = rs.evaluate(half_space_model(sigma), labelled(images.contiguous(), [0] * 8), "L2", [0.1], n0=64,
                         n=100_000, store=None)  # fmt: skip
    for here, there in zip(run.votes, on_cpu.votes, strict=True):
        table = np.array([here.counts, there.counts]) + 0.5
        assert here.base == there.base
        assert stats.chi2_contingency(table).pvalue > 1e-7


def test_what_is_sent_to_workers_is_on_the_cpu():
    """Whoever takes it from there has a GPU of its own, which is the first that it sees."""
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    counting = Counting(toy_model().to(device), SHAPE, 64, device)
    sent = pickle.loads(pickle.dumps(_sendable(counting)))
    assert sent.model.device == torch.device("cpu")
    assert sent.device == torch.device("cuda")
    assert counting.model.device == device


def test_training_on_a_gpu_learns_and_leaves_the_random_state_alone():
    config = TrainConfig(epochs=60, batch_size=479, device="cuda")  # divides the 1 437 images: a graph is replayed
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    whole = train(config)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(), before[1])
    ragged = train(dataclasses.replace(config, batch_size=256))
    on_cpu = train(dataclasses.replace(config, device="cpu", batch_size=256))
    assert on_cpu.card.accuracy_noise > 0.7
    for found in (whole, ragged):
        assert abs(found.card.accuracy_noise - on_cpu.card.accuracy_noise) < 0.05
        assert "--device cuda" in found.card.command
        assert next(found.model.parameters()).device.type == "cpu" and "forward" not in vars(found.model)
    assert rs.SmoothedClassifier(whole.model, Gaussian(0.25), 10).certify(
        rs.load_dataset("digits", n_examples=2).images, "L2", n=1000
    )
