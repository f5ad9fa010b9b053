"""Cubature of the overlap, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special

import rs_plugin as rs
from paper_figures.families import Family
from paper_figures.overlap import discrepancy_by_cubature


@pytest.mark.parametrize("lam", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("dim", [1, 2])
def test_gaussian(lam: float, dim: int) -> None:
    shift = np.full(dim, 0.4)
    s, t = 0.4 * math.sqrt(dim) / 0.8, math.log(lam)
    expected = lam * special.ndtr(s / 2 + t / s) - special.ndtr(-s / 2 + t / s)
    value, error = discrepancy_by_cubature(Family.of(rs.Gaussian(0.8), dim), shift, lam)
    assert error < (1e-8 if dim == 1 else 1e-4)
    assert abs(value - expected) <= error + 1e-12


@pytest.mark.parametrize("lam", [0.9, 1.0, 1.3])
def test_laplace_in_the_plane(lam: float) -> None:
    # Only the first coordinate sees r e₁: ℓ is r/b, -r/b, or linear between, where P(z₁ > x) = e^{-x/b}/2.
    r = 0.6
    grid = np.linspace(0.0, r, 2_000_001)
    between = 0.5 * np.exp(-grid) * np.maximum(lam - np.exp(2.0 * grid - r), 0.0)
    expected = 0.5 * max(lam - math.exp(-r), 0.0) + float(integrate.trapezoid(between, grid))
    expected += 0.5 * math.exp(-r) * max(lam - math.exp(r), 0.0)
    value, error = discrepancy_by_cubature(Family.of(rs.Laplace(1.0), 2), np.array([r, 0.0]), lam)
    assert abs(value - expected) <= error + 1e-9


def test_three_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="not 3"):
        discrepancy_by_cubature(Family.of(rs.Gaussian(1.0), 3), np.zeros(3), 1.0)
