"""What the theory's pictures draw, against closed forms and quadrature; that they can be read."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

from paper_figures.theory import balls, dual, smoothing
from tests.paper_figures.seeing import assert_legible


def test_smoothing_is_a_mean_over_noise() -> None:
    frame = smoothing.compute(sigma=0.3, points=41)
    for row in frame.iloc[[3, 20, 33]].itertuples():
        mean = sum(
            integrate.quad(lambda z, x=row.x: math.exp(-((z - x) ** 2) / 0.18), a, b)[0] for a, b in smoothing.INTERVALS
        ) / (0.3 * math.sqrt(2.0 * math.pi))
        assert row.smoothed == pytest.approx(mean, abs=1e-10)
    assert frame.loc[frame["x"].abs() < 1e-9, "base"].item() == 1.0
    assert frame.loc[np.isclose(frame["x"], 1.0), "base"].item() == 0.0


def test_the_bound_is_below_and_crosses_at_the_radius() -> None:
    frame = smoothing.compute()
    assert (frame["bound"] <= frame["smoothed"]).all()
    p, radius = frame["smoothed"].iloc[200], frame["radius"].iloc[0]
    assert frame["bound"].iloc[200] == pytest.approx(p, abs=1e-12)
    assert radius == pytest.approx(0.5 * special.ndtri(p), abs=1e-9)
    inside = frame["x"].abs() < radius
    assert (frame.loc[inside, "bound"] > 0.5).all()
    assert (frame.loc[~inside, "bound"] <= 0.5).all()
    assert_legible(smoothing.draw(frame))
    with pytest.raises(ValueError, match="odd, not 10"):
        smoothing.compute(points=10)


def test_dual_function() -> None:
    frame = dual.compute()
    s, some = 0.8, frame[frame["lam"] > 0.0]
    t = np.log(some["lam"])
    closed = some["lam"] * special.ndtr(s / 2 + t / s) - special.ndtr(-s / 2 + t / s)
    assert some["value"].to_numpy() == pytest.approx((some["lam"] * some["p"] - closed).to_numpy(), abs=1e-9)
    assert (frame.loc[frame["lam"] == 0.0, "value"] == 0.0).all()
    top = dual.highest(frame)
    assert (top["highest"] <= top["bound"] + 1e-12).all()
    # A maximum is flat: half the curvature φ(.)/(s λ), below 0.28 for λ >= 0.9, times the square of half a step.
    assert top["highest"].to_numpy() == pytest.approx(top["bound"].to_numpy(), abs=0.28 * 0.025**2)
    assert top["bound"].to_numpy() == pytest.approx(special.ndtr(special.ndtri(top["p"]) - s), abs=1e-9)
    assert_legible(dual.draw(frame))


@pytest.fixture(scope="module")
def plane() -> pd.DataFrame:
    return balls.compute(points=17)


def test_gaussian_discrepancies_in_the_plane() -> None:
    frame = balls.compute(k=0.0, points=9)
    size = np.hypot(frame["x"], frame["y"])[frame["family"] != "Eq. 10"]
    found = frame.loc[frame["family"] != "Eq. 10", "discrepancy"]
    # Kinks between the plane's 24 by 160 nodes.
    assert found.to_numpy() == pytest.approx(2.0 * special.ndtr(size / 2.0).to_numpy() - 1.0, abs=1e-4)


def test_the_worst_shift_is_the_highest_of_the_ball(plane: pd.DataFrame) -> None:
    order = {"L1": 1, "L2": 2, "Linf": math.inf}
    for _, group in plane.groupby("family"):
        first = group.iloc[0]
        inside = np.linalg.norm(group[["x", "y"]], ord=order[first["threat"]], axis=1) <= first["radius"] + 1e-9
        best = group[inside].loc[group[inside]["discrepancy"].idxmax()]
        worst = (first["worst_x"], first["worst_y"])
        if first["threat"] == "L2":
            assert np.hypot(best["x"], best["y"]) == pytest.approx(first["radius"], abs=0.01)  # near the edge
        else:
            assert sorted(np.abs([best["x"], best["y"]])) == pytest.approx(sorted(worst))
    assert_legible(balls.draw(plane))
