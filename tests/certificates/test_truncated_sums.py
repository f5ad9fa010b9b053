"""Tails of sums of truncated normals against convolution on a fine lattice, and against their limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from rs_plugin.distributions.laws.truncated_sums import erf_between, sum_limit, sum_tail

INTERVALS = [
    (-1.0, 1.0),
    (-0.3, 2.0),
    (-4.0, 4.0),
    (0.5, 0.9),
    (1.0, 4.0),
    (-1e-3, 1e-3),
    (2.0, 2.0 + 1e-6),
    (-3.0, -2.5),
]
LATTICE = 4000


def by_convolution(count: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds and tails: the mass of each cell of a lattice put at its middle.

    Moving mass by at most half a cell changes the sum by a mean-zero error of deviation ``cell √(count / 12)``; at
    the edges of cells its effect is of the second order, cell² times the slope of the density: below 1e-5 here.
    """
    edges = np.linspace(low, high, LATTICE + 1)
    cells = erf_between(edges[:-1], edges[1:]) / erf_between(np.array(low), np.array(high))
    size = LATTICE * count
    density = np.fft.irfft(np.fft.rfft(cells, 2 * size) ** count, 2 * size)[: size - count + 1]
    step = (high - low) / LATTICE
    position = count * low + step * (np.arange(size - count + 1) + count / 2)
    tail = 1.0 - np.cumsum(density)
    return position + step / 2, tail


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 12])
def test_against_convolution(count: int, interval: tuple[float, float]) -> None:
    low, high = interval
    at, expected = by_convolution(count, low, high)
    rows = np.linspace(0, len(at) - 1, 37).round().astype(int)
    size = np.ones(len(rows))
    value, error = sum_tail(count, low * size, high * size, at[rows], 1e-10)
    assert (error <= 1e-5).all()  # the worst: three and four summands on long intervals converge slowest
    assert (np.abs(value - expected[rows]) <= error + 1e-5).all()


@pytest.mark.parametrize("count", [4, 5, 8, 62])
@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_the_error_bound_holds(count: int, interval: tuple[float, float]) -> None:
    low, high = interval
    threshold = np.linspace(count * low, count * high, 41)
    size = np.ones(41)
    fine, fine_error = sum_tail(count, low * size, high * size, threshold, 1e-12)
    for tolerance in (1e-3, 1e-5, 1e-8):
        value, error = sum_tail(count, low * size, high * size, threshold, tolerance)
        assert (np.abs(value - fine) <= error + fine_error).all()


@pytest.mark.parametrize("count", [400, 3070, 150526])
@pytest.mark.parametrize("interval", [(-1.0, 1.0), (-0.3, 2.0), (-4.0, 4.0), (0.5, 0.9)], ids=str)
def test_many_against_edgeworth(count: int, interval: tuple[float, float]) -> None:
    low, high = interval
    law = stats.truncnorm(low * np.sqrt(2), high * np.sqrt(2), scale=np.sqrt(0.5))
    mean, variance, skewness, kurtosis = (float(x) for x in law.stats("mvsk"))
    z = np.linspace(-4, 4, 33)
    s, k = skewness / np.sqrt(count), kurtosis / count
    series = s * (z**2 - 1) / 6 + k * (z**3 - 3 * z) / 24 + s**2 * (z**5 - 10 * z**3 + 15 * z) / 72
    expected = special.ndtr(-z) + np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * series
    size = np.ones(len(z))
    value, error = sum_tail(count, low * size, high * size, count * mean + z * np.sqrt(count * variance), 1e-10)
    # The next term of the expansion is a few times count^{-3/2}.
    assert (np.abs(value - expected) <= error + 2 * count**-1.5).all()


def test_no_summand_and_the_ends() -> None:
    value, error = sum_tail(0, np.full(3, -1.0), np.ones(3), np.array([-0.5, 0.0, 0.5]), 1e-10)
    assert value.tolist() == [1.0, 0.0, 0.0] and not error.any()
    for count in (1, 2, 3, 4, 9):
        ends = count * np.array([-1.0, 2.0]) + [-1e-9, 1e-9]
        value, error = sum_tail(count, np.full(2, -1.0), np.full(2, 2.0), ends, 1e-10)
        assert (np.abs(value - [1.0, 0.0]) <= error).all()


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
@pytest.mark.parametrize("count", [4, 50, 3000])
def test_limits(count: int, interval: tuple[float, float]) -> None:
    low, high = np.array([interval[0]]), np.array([interval[1]])
    for side, certain in ((-1.0, 1.0), (1.0, 0.0)):
        limit = sum_limit(count, low, high, side)
        value, error = sum_tail(count, low, high, limit, 1e-10)
        assert abs(value[0] - certain) <= error[0] + 1e-15
