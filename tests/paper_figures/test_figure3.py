"""Accuracy and robustness, against closed forms and draws; frontiers; what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special

from paper_figures import figure3
from paper_figures.families import Family, norm
from tests.paper_figures.seeing import assert_legible


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return figure3.compute(ks=(0.0, 2.0), accuracies=(0.5, 0.9))


def test_gaussian_rows_have_closed_forms(frame: pd.DataFrame) -> None:
    for row in frame[(frame["k"] == 0.0) & (frame["family"] != "Eq. 12")].itertuples():
        reach = row.threshold / row.sigma
        inside = special.gammainc(2.5, reach**2 / 2) if row.ball == 2 else (2 * special.ndtr(reach) - 1) ** 5
        assert inside == pytest.approx(row.accuracy, abs=1e-9)
        s, t = math.sqrt(5.0) * row.radius / row.sigma, math.log(row.lam)
        expected = row.lam * special.ndtr(s / 2 + t / s) - special.ndtr(-s / 2 + t / s)
        assert -row.robustness == pytest.approx(expected, abs=5e-6)  # accuracy of the Linf quadrature


def test_rows_against_draws(frame: pd.DataFrame) -> None:
    """48 rows, two means each, fail together with probability at most 1e-5 (Hoeffding, 1e-7 each)."""
    n = 100_000
    bound = math.sqrt(math.log(2e7) / (2 * n))
    generator = np.random.default_rng(3)
    draws = {
        (name, k): Family.of(figure3.FAMILIES[name](k, 1.0), 5).draw(n, generator)
        for name, k in frame[["family", "k"]].drop_duplicates().itertuples(index=False)
    }
    for row in frame.itertuples():
        z = draws[row.family, row.k]
        assert abs(np.mean(norm(z, row.ball) <= row.threshold / row.sigma) - row.accuracy) < bound
        family = Family.of(figure3.FAMILIES[row.family](row.k, 1.0), 5)
        ratio = family.log_ratio(z, np.full(5, row.radius / row.sigma))
        mean = np.maximum(row.lam - np.exp(np.minimum(ratio, 50.0)), 0.0).mean()
        assert abs(mean + row.robustness) < row.lam * bound


def test_equations_11_and_13_have_one_accuracy_in_the_2_norm(frame: pd.DataFrame) -> None:
    sigma = frame[frame["ball"] == 2].set_index(["family", "k", "accuracy"])["sigma"]
    assert sigma["Eq. 11"].to_numpy() == pytest.approx(sigma["Eq. 13"].to_numpy(), rel=1e-9)


def test_frontier_is_the_best_exponent(frame: pd.DataFrame) -> None:
    edge = figure3.frontier(frame)
    assert len(edge) == 8
    for row in edge.to_dict("records"):
        same = frame
        for key in ("ball", "lam", "accuracy"):
            same = same[same[key] == row[key]]
        best = same.groupby("family")["robustness"].max()
        for family, value in best.items():
            assert row[f"robustness {family}"] == value
        for winner in row["best"].split(", "):
            assert row[f"robustness {winner}"] == pytest.approx(best.max(), abs=2e-6)


def test_findings_at_the_default_radius(frame: pd.DataFrame) -> None:
    """At r = 0.1 and λ = 1 the Gaussian is best in both families that contain it, and Eq. 12 is worst."""
    edge = figure3.frontier(frame[frame["lam"] == 1.0])
    assert (edge["k Eq. 11"] == 0.0).all()
    assert (edge["k Eq. 13"] == 0.0).all()
    assert (edge["best"] == "Eq. 11, Eq. 13").all()  # both are Gaussian
    assert (edge["robustness Eq. 12"] < edge["robustness Eq. 11"] - 0.05).all()


def test_findings_depend_on_lambda() -> None:
    """At λ = 5, f of the ∞-norm, accuracy 0.95: noise of Eqs. 12 and 13 keeps more than a Gaussian, and than Eq. 11."""
    frame = figure3.compute(balls=((math.inf, 0.5),), lams=(5.0,), ks=(0.0, 1.0), accuracies=(0.95,))
    value = frame.set_index(["family", "k"])["robustness"]
    assert value["Eq. 13", 1.0] > value["Eq. 13", 0.0] + 0.002
    assert value["Eq. 13", 1.0] > value["Eq. 11", 1.0] + 0.002
    # The bound of Eq. 6 takes the best λ.
    bound = figure3.certified(frame).set_index(["family", "k"])["lower_bound"]
    sigma = frame.set_index(["family", "k"])["sigma"]["Eq. 11", 0.0]
    expected = special.ndtr(special.ndtri(0.95) - math.sqrt(5.0) * 0.1 / sigma)
    assert bound["Eq. 11", 0.0] == pytest.approx(expected, abs=1e-6)
    assert bound["Eq. 13", 1.0] > bound["Eq. 13", 0.0]
    side_by_side = figure3.highest_bounds(figure3.certified(frame))
    assert len(side_by_side) == 1
    row = side_by_side.iloc[0]
    assert {name: (row[f"bound {name}"], row[f"k {name}"]) for name in figure3.FAMILIES} == {
        name: (max(bound[name, 0.0], bound[name, 1.0]), float(bound[name, 1.0] > bound[name, 0.0]))
        for name in figure3.FAMILIES
    }
    assert row["best"] == "Eq. 13"


def test_drawing(frame: pd.DataFrame) -> None:
    figure = figure3.draw(frame)
    assert_legible(figure)
    left, right = figure.axes[:2]
    assert len(figure.axes) == 4  # two values of λ
    assert left.get_xlabel() == r"accuracy $E\,f(z)$"
    assert left.get_ylabel() == r"robustness $-D(\lambda; r)$"
    assert "0.65" in left.get_title()
    assert r"\infty" in right.get_title()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"Eq. {i}, best $k$" for i in (11, 12, 13)]
    more = figure3.compute(balls=((2.0, 0.65),), radii=(0.1, 0.3), lams=(1.0, 2.0), ks=(0.0,), accuracies=(0.5, 0.9))
    assert_legible(figure3.draw(more))
