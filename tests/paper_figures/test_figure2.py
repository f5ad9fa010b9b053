"""The discrepancy in the plane, against a closed form and draws; the grid; what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special

import rs_plugin as rs
from paper_figures import figure2
from tests.paper_figures.seeing import assert_legible


def test_gaussian_case_has_the_closed_form() -> None:
    frame = figure2.compute(k=0.0, sigma=1.0, radius=0.5, lam=2.0, points=10)
    s, t = 0.5 * math.sqrt(2.0), math.log(2.0)
    expected = 2.0 * special.ndtr(s / 2 + t / s) - special.ndtr(-s / 2 + t / s)
    assert frame["discrepancy"].to_numpy() == pytest.approx(expected, abs=5e-7)  # accuracy of the Linf quadrature
    assert (np.abs(frame["integral"] - expected) <= frame["error"]).all()


def test_grid_holds_densities() -> None:
    frame = figure2.compute(k=1.0, reach=8.0, points=800)
    cell = (16.0 / 799) ** 2
    for _, group in frame.groupby("family"):
        # A midpoint sum; 1/‖z‖ has its mass of the origin's cells wrong by about the size of a cell's side.
        assert group["centred"].sum() * cell == pytest.approx(1.0, abs=0.02)
        assert group["overlap"].sum() * cell == pytest.approx(1.0 - group["discrepancy"].iloc[0], abs=1e-4)


def test_certificate_against_draws() -> None:
    """D = E(λ - e^ℓ)_+ by 400 000 draws of Eq. 13, made here by rejection; fails with probability 1e-9 (Hoeffding)."""
    k, r, lam, n = 1.0, 0.5, 1.0, 400_000
    generator = np.random.default_rng(5)
    # ‖z‖₂² / 2 ~ Gamma((2 - k)/2); the direction has density ∝ max(|cos|, |sin|)^{-k}, at most 2^{k/2} = √2.
    angle = generator.uniform(0.0, 2.0 * math.pi, 3 * n)
    height = np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle))) ** -k
    angle = angle[generator.uniform(0.0, math.sqrt(2.0), 3 * n) < height][:n]
    assert len(angle) == n
    z = np.sqrt(2.0 * generator.gamma(0.5 * (2.0 - k), size=n))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    moved = z - r
    ratio = -k * np.log(np.abs(moved).max(1) / np.abs(z).max(1)) - 0.5 * ((moved**2).sum(1) - (z**2).sum(1))
    mean = float(np.maximum(lam - np.exp(ratio), 0.0).mean())
    found = figure2.compute(k=k, radius=r, lam=lam, points=2).set_index("family").loc["Eq. 13"].iloc[0]
    assert abs(found["discrepancy"] - mean) < lam * math.sqrt(math.log(2e9) / (2 * n))
    assert abs(found["integral"] - mean) < lam * math.sqrt(math.log(2e9) / (2 * n))


def test_neither_family_has_the_smaller_discrepancy_always() -> None:
    """At equal k and σ, Eq. 11 at λ = 1, Eq. 13 at λ = 1/2 and r = 0.1; the certificates and the plane agree."""
    frame = figure2.compare(ks=(1.0,), radii=(0.1,), lams=(0.5, 1.0)).set_index("lam")
    assert frame["smaller"].to_dict() == {0.5: "Eq. 13", 1.0: "Eq. 11"}
    for name in figure2.NOISES:
        assert (np.abs(frame[name] - frame[f"integral {name}"]) <= frame["error"]).all()
    same = figure2.compare(ks=(0.0,), radii=(0.5,), lams=(1.0,)).iloc[0]
    assert same["smaller"] == "neither"  # both are Gaussian
    assert same["Eq. 11"] == pytest.approx(2.0 * special.ndtr(math.sqrt(0.125)) - 1.0, abs=1e-6)


def test_required_probability() -> None:
    frame = figure2.required(ks=(0.0, 1.0), radii=(0.1, 0.5))
    gaussian = frame[frame["k"] == 0.0]
    for name in figure2.NOISES:
        expected = special.ndtr(math.sqrt(2.0) * gaussian["radius"])
        assert gaussian[name].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-6)  # the Linf quadrature
    assert (gaussian["less"] == "neither").all()
    assert gaussian["gaussian"].to_numpy() == pytest.approx(gaussian["Eq. 11"].to_numpy(), abs=1e-6)
    for row in frame[frame["k"] == 1.0].to_dict("records"):
        equal = rs.certificate(rs.Gaussian(math.sqrt(rs.MixedNorm(1.0, 1.0).second_moment(2))), "Linf", 2)
        assert row["gaussian"] == pytest.approx(equal.required_probability(row["radius"]), abs=1e-6)
    for row in frame[frame["k"] == 1.0].to_dict("records"):
        assert row[row["less"]] == min(row["Eq. 11"], row["Eq. 13"])


def test_odd_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="even, not 3"):
        figure2.compute(points=3)


def test_drawing() -> None:
    frame: pd.DataFrame = figure2.compute(points=60)
    figure = figure2.draw(frame)
    assert_legible(figure)
    left, right = figure.axes[:2]
    for axes, name in ((left, "Eq. 11"), (right, "Eq. 13")):
        first = frame[frame["family"] == name].iloc[0]
        assert axes.get_title().startswith(name)
        assert f"{first['discrepancy']:.4f} (certificate)" in axes.get_title()
        assert f"{first['integral']:.4f} (plane)" in axes.get_title()
        assert axes.get_xlabel() == "$z_1$ (input units)"
    assert left.get_ylabel() == "$z_2$ (input units)"
    assert_legible(figure2.draw(figure2.compute(k=0.5, radius=0.3, lam=2.0, points=60)))
