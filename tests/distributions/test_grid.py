"""Noise on a grid, against mpmath: every outcome of the first bits, what further bits decide, and the law of draws."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import rs_plugin.distributions.grid as module
from rs_plugin.distributions import Gaussian, L2Exponential, Laplace, MixedNorm
from rs_plugin.distributions.grid import MOST_LEVELS, GridNoise
from rs_plugin.errors import InputError, ParameterError

CASES = [
    (Gaussian(0.25), 255), (Gaussian(1.0), 16), (Gaussian(0.003), 255), (Laplace(0.1), 255), (Laplace(0.5), 8),
    (Laplace(0.001), 255),
]  # fmt: skip
IDS = [f"{noise}-{levels}" for noise, levels in CASES]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distribution(noise):
    """Return the function F in mpmath, from the formula of the density."""
    if isinstance(noise, Gaussian):
        return lambda x: mpmath.ncdf(x, 0, mpmath.mpf(noise.sigma))
    return lambda x: mpmath.exp(x / noise.b) / 2 if x < 0 else 1 - mpmath.exp(-x / noise.b) / 2


@pytest.mark.parametrize(("noise", "levels"), CASES, ids=IDS)
@pytest.mark.parametrize("bits", [8, 13, 18])
def test_every_outcome_of_the_first_bits_lies_in_its_cell(noise, levels, bits):
    """All outcomes are tried. Those that the first bits leave open have an end of a cell within, and are told of."""
    grid = GridNoise(noise, levels, bits)
    outcomes = torch.arange(1 << bits)
    found = torch.empty(1 << bits)
    places, opened = grid._look_up(outcomes, found)
    assert opened == places, "each outcome is at its own place"
    F = distribution(noise)
    with mpmath.workdps(60):

        def end(j):
            return F((mpmath.mpf(j) + mpmath.mpf(0.5)) / levels) * 2**bits

        told = ~torch.isin(outcomes, torch.tensor(places, dtype=torch.int64))
        for j in found[told].unique().to(torch.int64).tolist():
            inside = outcomes[told & (found == j)]
            assert end(j - 1) <= int(inside.min())
            assert int(inside.max()) + 1 <= end(j)
        for u in opened:
            j = GridNoise(noise, levels)._law.cell((mpmath.mpf(u) + mpmath.mpf(0.5)) / 2**bits, mpmath)
            assert any(u < end(k) < u + 1 for k in (j - 1, j)), "an end of a cell lies within"


@pytest.mark.parametrize(("noise", "levels"), [CASES[0], CASES[3]], ids=[IDS[0], IDS[3]])
@pytest.mark.parametrize("start", [0, 1, 200, 511])
def test_what_is_left_open_falls_as_its_cells_share_it(noise, levels, start):
    grid = GridNoise(noise, levels, 9)
    source = generator(start)
    found = np.array([grid._law.resolved(start, 9, source) for _ in range(1500)])
    F = distribution(noise)
    low, high = start / 2**9, (start + 1) / 2**9
    values, counts = np.unique(found, return_counts=True)
    shares = []
    for j in values.tolist():
        a, b = (float(F((mpmath.mpf(j) + side) / levels)) for side in (-0.5, 0.5))
        shares.append((min(b, high) - max(a, low)) / (high - low))
    shares = np.array(shares)
    assert (shares > 0.0).all()
    assert shares.sum() > 0.97  # cells that none of 1500 draws fell into have less than that together
    seen = shares * 1500 >= 5
    if seen.sum() > 1:
        rest = 1500 - counts[seen].sum(), 1500 * (1.0 - shares[seen].sum())
        observed = np.append(counts[seen], rest[0])
        expected = np.append(1500 * shares[seen], max(rest[1], 1e-9))
        kept = expected >= 1.0
        chi = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
        assert stats.chi2.sf(chi, kept.sum() - 1) > 1e-6


@pytest.mark.parametrize(("noise", "levels"), CASES, ids=IDS)
@pytest.mark.parametrize("bits", [62, 10])
def test_draws_have_the_law_of_rounded_noise(noise, levels, bits):
    """Chi-square at 1e-6, for all cells in which five draws or more are expected."""
    count = 1_000_000 if bits == 62 else 3000
    out = torch.empty(count // 100, 100)
    GridNoise(noise, levels, bits).fill(out, generator(1))
    values, counts = np.unique(out.numpy(), return_counts=True)
    assert np.array_equal(values, np.round(values))
    law = stats.norm(scale=noise.sigma) if isinstance(noise, Gaussian) else stats.laplace(scale=noise.b)
    expected = count * (law.cdf((values + 0.5) / levels) - law.cdf((values - 0.5) / levels))
    kept = expected >= 5.0
    observed = np.append(counts[kept], count - counts[kept].sum())
    expected = np.append(expected[kept], count - expected[kept].sum())
    kept = expected >= 1.0
    chi = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert kept.sum() == 1 or stats.chi2.sf(chi, kept.sum() - 1) > 1e-6


def test_chunks_are_what_their_seeds_give():
    grid, whole = GridNoise(Gaussian(0.25)), torch.empty(192, 12)
    grid.fill_chunks(whole, [5, 6, 7], generator())
    for chunk, seed in zip(whole.split(64), (5, 6, 7), strict=True):
        alone = torch.empty(64, 12)
        grid.fill(alone, generator(seed))
        assert torch.equal(chunk, alone)


@pytest.mark.parametrize("levels", [1, 16, 255, 4080])
def test_images_go_to_steps_and_back(levels):
    images = torch.arange(levels + 1).to(torch.float32) / levels
    grid = GridNoise(Gaussian(0.25), levels)
    steps = grid.steps_of(images)
    assert steps.tolist() == list(range(levels + 1))
    assert torch.equal(grid.images_of(steps.clone()), images)
    noisy = torch.arange(-4 * levels, 5 * levels).to(torch.float32)
    expected = (np.arange(-4 * levels, 5 * levels) / levels).astype(np.float32)  # rounded once, as float64 to float32
    assert np.allclose(grid.images_of(noisy).numpy(), expected, rtol=2**-23, atol=0.0)


@pytest.mark.parametrize("k", [1, 7, 100, 254])
@pytest.mark.parametrize("side", [-1.0, 2.0])
def test_an_image_next_to_the_grid_is_refused(k, side):
    image = torch.full((1, 2, 2), k / 255)
    image[0, 1, 1] = torch.nextafter(image[0, 1, 1], torch.tensor(side))
    with pytest.raises(InputError, match="multiples of 1/255"):
        GridNoise(Gaussian(0.25)).steps_of(image)


def test_a_grid_that_would_do_is_named():
    with pytest.raises(InputError, match=r"0\.25 is none; sound=16 would do"):
        GridNoise(Gaussian(0.25)).steps_of(torch.tensor([0.0, 0.25, 1.0]))
    with pytest.raises(InputError, match="sound=4080 would do"):
        GridNoise(Gaussian(0.25)).steps_of(torch.tensor([1 / 16, 1 / 255]))
    with pytest.raises(InputError, match="certify the images that rounding makes of them"):
        GridNoise(Gaussian(0.25)).steps_of(torch.tensor([0.123456]))


@pytest.mark.parametrize("noise", [MixedNorm(k=2, sigma=0.5), L2Exponential(k=0, sigma=0.5)])
def test_other_noise_is_refused(noise):
    with pytest.raises(ParameterError, match="exact noise on a grid is there for Gaussian and Laplace noise"):
        GridNoise(noise)


@pytest.mark.parametrize("levels", [0, -1, 2.0, True, MOST_LEVELS + 1, np.int64(0), np.float64(255.0), np.True_])
def test_levels_out_of_range_are_refused(levels):
    with pytest.raises(ParameterError, match="levels must be a whole number from 1 to 65536"):
        GridNoise(Gaussian(0.25), levels)


@pytest.mark.parametrize("noise", [Gaussian(1e5), Laplace(1e4), Gaussian(1e100)])
def test_noise_of_too_many_steps_is_refused(noise):
    with pytest.raises(ParameterError, match="more than 262144 steps of 1/255"):
        GridNoise(noise)


def test_numpys_whole_numbers_are_levels():
    grid = GridNoise(Gaussian(0.25), np.int64(16))
    assert (type(grid.levels), grid.levels) == (int, 16)
    assert grid._law == GridNoise(Gaussian(0.25), 16)._law


def widest(cells, levels):
    """Return the scale of Laplace noise with ``P(z > (cells + 1/2) h) = exp(-(cells + 1/2) h / b) / 2 = 2^-62``."""
    return (cells + 0.5) / (61 * math.log(2)) / levels


def test_noise_is_allowed_up_to_the_widest(monkeypatch):
    monkeypatch.setattr(module, "_MOST_CELLS", 500)
    assert GridNoise(Laplace(0.999 * widest(500, 255)))._first == -501  # 0 to 500 on each side
    with pytest.raises(ParameterError, match="more than 500 steps of 1/255"):
        GridNoise(Laplace(1.001 * widest(500, 255)))


@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_are_exact_for_the_widest_noise(sign):
    """Laplace noise has the longer tail; of a draw whose first 3 000 bits are alike float32 still holds all sums."""
    mp = module._context(4000)
    u = mp.ldexp(1, -3000)
    law = module._Law(Laplace, widest(module._MOST_CELLS, MOST_LEVELS), MOST_LEVELS)
    furthest = law.cell(u if sign < 0 else 1 - u, mp)
    assert furthest == pytest.approx(sign * (module._MOST_CELLS + 0.5) * 2999 / 61, abs=1.0)
    images = torch.arange(MOST_LEVELS + 1, dtype=torch.int64)
    sums = images.to(torch.float32) + torch.tensor(float(furthest), dtype=torch.float32)
    assert torch.equal(sums.to(torch.int64), images + furthest)


def test_the_tables_do_not_depend_on_mpmaths_precision_elsewhere():
    law = module._Law(Gaussian, 0.37, 255)
    expected = module._tables(law, 62)[0]
    module._tables.cache_clear()
    with mpmath.workprec(10):
        assert torch.equal(module._tables(law, 62)[0], expected)
