"""Three ways to the least value over f, against closed forms and all the vertices of small problems."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special

import rs_plugin as rs
from paper_figures.families import Family
from paper_figures.theory import neyman_pearson


def brute_force(mass: np.ndarray, shifted: np.ndarray, p: float) -> float:
    """Return the minimum over the vertices of the polytope: all f of 0 and 1 but for one cell."""
    best = np.inf
    for i in range(len(mass)):
        others = [j for j in range(len(mass)) if j != i]
        for bits in itertools.product((0.0, 1.0), repeat=len(others)):
            f = np.zeros(len(mass))
            f[others] = bits
            f[i] = (p - f @ mass) / mass[i]
            if -1e-12 <= f[i] <= 1.0 + 1e-12:
                best = min(best, float(f @ shifted))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_small_problems(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mass, shifted = (generator.dirichlet(np.ones(7)) for _ in range(2))
    for p in (0.15, 0.5, 0.85):
        expected = brute_force(mass, shifted, p)
        # Sums of seven numbers; the linear programme's tolerance is 1e-7.
        assert neyman_pearson.sorted_minimum(mass, shifted, p)[0] == pytest.approx(expected, abs=1e-12)
        assert neyman_pearson.dual(mass, shifted, p) == pytest.approx(expected, abs=1e-12)
        assert neyman_pearson.linear_programme(mass, shifted, p)[0] == pytest.approx(expected, abs=1e-7)


def test_cells_of_the_line_are_exact() -> None:
    mass, shifted = neyman_pearson.line_cells(Family.of(rs.Gaussian(2.0), 1), 0.7, 500)
    assert mass.sum() == pytest.approx(1.0, abs=1e-13)
    assert shifted.sum() == pytest.approx(1.0, abs=1e-13)
    # Masses are those of the edges' normal quantiles, which the sums up to each cell give back.
    inner = np.cumsum(mass)[5:-5]
    assert special.ndtr(special.ndtri(inner) - 0.35) == pytest.approx(np.cumsum(shifted)[5:-5], abs=1e-9)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_minimum_on_cells_is_never_below_the_gaussian_closed_form(p: float) -> None:
    expected = special.ndtr(special.ndtri(p) - 0.6)
    values = []
    for count in (50, 400):
        cells = neyman_pearson.line_cells(Family.of(rs.Gaussian(1.0), 1), 0.6, count)
        values.append(neyman_pearson.sorted_minimum(*cells, p)[0])
    assert expected - 1e-13 <= values[1] <= values[0] + 1e-13
    assert values[1] == pytest.approx(expected, abs=1e-5)  # of the order of the square of a cell's mass


def test_points_of_the_plane() -> None:
    cells = neyman_pearson.plane_cells(Family.of(rs.Gaussian(1.0), 2), np.array([0.5, 0.5]), 64, 512)
    expected = special.ndtr(special.ndtri(0.7) - 0.5**0.5)
    assert neyman_pearson.sorted_minimum(*cells, 0.7)[0] == pytest.approx(expected, abs=1e-5)  # points beside an edge
