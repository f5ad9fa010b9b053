"""The densities of the 2-norm, against arbitrary-precision quadrature; what is drawn."""

from __future__ import annotations

import mpmath
import numpy as np
import pandas as pd
import pytest

from paper_figures import figure1
from tests.paper_figures.seeing import assert_legible


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return figure1.compute()


@pytest.mark.parametrize(("k", "sigma"), [(0, 1.0), (60, 1.0), (80, 1.0), (0, 0.2**0.5)])
def test_density_mean_and_spread(frame: pd.DataFrame, k: int, sigma: float) -> None:
    curve = frame[(frame["k"] == k) & np.isclose(frame["sigma"], sigma)]
    curve = curve[curve["panel"] == (figure1.GROWING_K if k else curve["panel"].iloc[0])]
    with mpmath.workdps(30):
        weight = lambda s: s ** (99 - k) * mpmath.exp(-(s**2) / (2 * sigma**2))  # noqa: E731
        ends = [0, 2, 4, 6, 8, 10, 12, 16, 25]
        moments = [mpmath.quad(lambda s, q=q: s**q * weight(s), ends) for q in (0, 1, 2)]
        mean = moments[1] / moments[0]
        spread = mpmath.sqrt(moments[2] / moments[0] - mean**2)
        for i in (50, 200, 290):
            # Doubles lose a few digits in log density, of size 100.
            expected = float(weight(curve["radius"].iloc[i]) / moments[0])
            assert curve["density"].iloc[i] == pytest.approx(expected, rel=1e-11, abs=1e-300)
    assert curve["mean"].iloc[0] == pytest.approx(float(mean), rel=1e-12)
    # A difference of numbers 200 times as large.
    assert curve["spread"].iloc[0] == pytest.approx(float(spread), rel=1e-9)


def test_curves_of_one_style_have_one_second_moment(frame: pd.DataFrame) -> None:
    facts = figure1.shell(frame).set_index("panel")
    square = facts["mean"] ** 2 + facts["spread"] ** 2
    assert square[figure1.GROWING_K].to_numpy() == pytest.approx(100.0 - facts.loc[figure1.GROWING_K, "k"].to_numpy())
    assert square[figure1.FALLING_SIGMA].to_numpy() == pytest.approx(square[figure1.GROWING_K].to_numpy())


def test_k_keeps_the_spread_and_sigma_does_not(frame: pd.DataFrame) -> None:
    facts = figure1.shell(frame).set_index("panel")
    assert facts.loc[figure1.GROWING_K, "spread"].to_numpy() == pytest.approx(0.5**0.5, rel=0.01)
    relative = facts.loc[figure1.FALLING_SIGMA, "relative_spread"].to_numpy()
    assert relative == pytest.approx(relative[0])


def test_drawing(frame: pd.DataFrame) -> None:
    figure = figure1.draw(frame)
    assert_legible(figure)
    left, right = figure.axes
    assert left.lines[0].get_color() == "black"
    assert "mean 9.98, sd 0.71" in left.lines[0].get_label()
    assert [axes.get_xlabel() for axes in (left, right)] == [r"$\|z\|_2$ (input units)"] * 2
    assert left.get_ylabel() == "density (1 / input unit)"
    assert left.lines[2].get_ydata() == pytest.approx(frame.query("k == 40")["density"].to_numpy())
    assert figure1.draw(figure1.compute(dim=50, ks=(0, 10), sigmas=(1.0, 0.5, 0.25))).axes[1].lines[2] is not None
