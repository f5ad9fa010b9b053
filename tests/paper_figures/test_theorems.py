"""Theorems 1 to 3 and the corollaries: columns against closed forms of this file, and what agrees."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pandas as pd
import pytest
from scipy import special

from paper_figures.theory import corollaries, theorem1, worst_shift

COLUMNS = {"statement", "claimed", "computed", "independent", "difference", "error", "agrees"}


def laplace_bound(p: float, r: float) -> float:
    """Return the least P(z + δ in A) over A with P(z in A) = p, for z Laplace of scale 1: the ratio takes e^{-r} first.

    Cells of ratio e^{-r} (mass 1/2), between, and e^{r}: see [Z], proof of Corollary 1.
    """
    with mpmath.workdps(30):
        p_, r_ = mpmath.mpf(p), mpmath.mpf(r)
        if p_ <= mpmath.mpf(1) / 2:
            return float(mpmath.exp(-r_) * p_)
        # A = {x < t}: P = 1 - e^{-t}/2; shifted P = e^{t - r}/2 below r, 1 - e^{r - t}/2 above.
        t = -mpmath.log(2 * (1 - p_))
        return float(mpmath.exp(t - r_) / 2 if t < r_ else 1 - mpmath.exp(r_ - t) / 2)


def test_duality() -> None:
    frame = theorem1.duality()
    assert set(frame) >= COLUMNS
    assert frame["agrees"].all()
    assert frame["error"].max() < 1e-3
    for row in frame.itertuples():
        if row.noise.startswith("gaussian"):
            expected = special.ndtr(special.ndtri(row.p) - row.radius)
        elif row.noise.startswith("laplace"):
            expected = laplace_bound(row.p, row.radius)
        else:
            continue
        for value in (row.claimed, row.computed, row.independent):
            assert value == pytest.approx(expected, abs=1e-6)  # of cells; 1e-7 of the linear programme


def test_functions_inside_the_unit_interval() -> None:
    frame = theorem1.inner_values(functions=100)
    assert frame["agrees"].all()
    slack = frame[frame["relation"] == ">="]
    assert len(slack) == 3
    # Not for want of trying: some function comes near the bound.
    assert (slack["independent"] < 0.01).all()
    fractional = frame[frame["relation"] == "<="]
    assert set(fractional["computed"]) <= {0.0, 1.0}


def test_discrepancies() -> None:
    frame = theorem1.discrepancies(lams=(0.25, 1.0, 3.0), radii=(0.8,))
    assert frame["agrees"].all()
    assert set(frame["statement"].str.split(":").str[0]) == {"Theorem 1 II", "Theorem 1"}
    variation = frame[frame["statement"].str.contains("variation")].set_index("noise")["claimed"]
    # Total variation of a shift of symmetric unimodal noise on the line: P(|z| <= r/2).
    assert variation["gaussian(sigma=1.0)"] == pytest.approx(2.0 * special.ndtr(0.4) - 1.0, abs=1e-9)
    assert variation["laplace(b=1.0)"] == pytest.approx(1.0 - math.exp(-0.4), abs=1e-9)
    assert variation["l2_exponential(k=0.5, sigma=1.0)"] == pytest.approx(special.gammainc(0.25, 0.08), abs=1e-9)


@pytest.fixture(scope="module")
def bounds() -> pd.DataFrame:
    return corollaries.compute()


def test_corollaries_against_closed_forms(bounds: pd.DataFrame) -> None:
    for row in bounds.itertuples():
        laplace = row.noise.startswith("laplace")
        expected = laplace_bound(row.p, row.radius) if laplace else special.ndtr(special.ndtri(row.p) - row.radius)
        assert row.computed == pytest.approx(expected, rel=1e-11)  # rounded down by 1e-13 of itself, special functions
        # The sums have 16 000 terms, each exact but for rounding.
        assert expected - 1e-12 <= row.independent <= expected + row.error


def test_equation_7_overstates_below_one_half_and_only_there(bounds: pd.DataFrame) -> None:
    printed = bounds[bounds["statement"] == "Corollary 1, Eq. 7"]
    assert (printed["agrees"] == (printed["p"] >= 0.5)).all()
    assert (printed.loc[printed["p"] < 0.5, "difference"] < -0.007).all()
    assert bounds.loc[bounds["statement"] != "Corollary 1, Eq. 7", "agrees"].all()


def test_equation_7_is_the_formula() -> None:
    assert corollaries.eq7(0.9, 0.5) == pytest.approx(1.0 - math.exp(0.5) * 0.1)
    assert corollaries.eq7(0.6, 0.5) == pytest.approx(math.exp(-0.5) / 1.6)
    # Its two branches meet, with one slope.
    edge = 1.0 - 0.5 * math.exp(-0.5)
    below, above = corollaries.eq7(np.array([edge - 1e-9, edge + 1e-9]), 0.5)
    assert above - below == pytest.approx(2e-9 * math.exp(0.5), rel=1e-3)


def test_no_shift_of_the_plane_beats_the_claimed_one() -> None:
    frame = worst_shift.plane(ks=(0.0, 1.0), lams=(0.5, 2.0), angles=7)
    assert frame["agrees"].all()
    assert frame["error"].max() < 1e-4
    # The test has teeth: in L1 and Linf the best other shift is clearly worse; in L2 all of the sphere are alike.
    tie = frame["threat"] == "L2"
    # Laplace noise has |ℓ| <= r/b, so that D is as small as any at λ = 1/2 and at 2, for r = 0.6.
    trivial = np.isclose(frame["discrepancy"], np.maximum(frame["lam"] - 1.0, 0.0), atol=1e-9)
    assert set(frame.loc[trivial, "noise"]) == {"l1_exponential(k=0.0, b=1.0)"}
    assert (frame.loc[~tie & ~trivial, "difference"] < -1e-3).all()
    assert (frame.loc[tie, "difference"].abs() < 1e-4).all()
    gaussian = frame[(frame["noise"] == "l2_exponential(k=0.0, sigma=1.0)") & (frame["lam"] == 2.0)].iloc[0]
    t = math.log(2.0)
    expected = 2.0 * special.ndtr(0.3 + t / 0.6) - special.ndtr(-0.3 + t / 0.6)
    assert gaussian["discrepancy"] == pytest.approx(expected, abs=1e-9)


def test_no_shift_in_five_dimensions_beats_the_claimed_one() -> None:
    """12 rows, each failing with probability 1e-6 at most, seed fixed."""
    frame = worst_shift.sampled(ks=(2.0,), shifts=30, draws=5_000)
    assert frame["agrees"].all()
    assert (frame.loc[frame["threat"] != "L2", "difference"] < 0.0).all()
    assert frame["best_shift"].map(len).eq(5).all()


def test_a_wrong_worst_shift_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claimed (r, 0) under Linf in place of (r, r), the search finds better."""
    from rs_plugin.certificates import Certificate

    wrong = lambda self, radius: radius * np.eye(1, self.dim)[0]  # noqa: E731
    monkeypatch.setattr(Certificate, "worst_shift", wrong)
    frame = worst_shift.plane(ks=(1.0,), lams=(1.0,), angles=7)
    found = frame[frame["threat"] == "Linf"]
    assert (found["independent"] > 0.1).all()
    assert not found["agrees"].any()
