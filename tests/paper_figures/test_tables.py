import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import rs_plugin as rs
from paper_figures import table1, table2, table3, tables
from paper_figures.accuracy import BEST, CHOSEN
from paper_figures.printed import CIFAR10, IMAGENET
from rs_plugin.estimation import exceeds
from tests.paper_figures import made_up
from tests.paper_figures.seeing import assert_legible

TABLES = {1: table1, 2: table2, 3: table3}
ALL_SURE = {"trained": made_up.IMAGES, "retuned": made_up.IMAGES, "family": made_up.IMAGES}
LARGEST = 0.9998  # unanimous 100 000 draws show this much and more: the sequence's lower end is near 1 - 1.9e-4


@pytest.fixture(scope="module")
def frames():
    chosen = made_up.profile()
    votes = made_up.votes(chosen, {"trained": 10, "retuned": 20, "family": 30})
    return {number: module.compute(chosen, votes) for number, module in TABLES.items()}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_rows_are_complete_and_each_has_its_protocol(frames, number):
    frame = frames[number]
    per_row = frame.groupby(["dataset", "row", "protocol"]).size()
    radii = {CIFAR10: 6 if number == 3 else 9, IMAGENET: 7}
    assert all(count == radii[dataset] for (dataset, *_), count in per_row.items())
    expected = {tables.PAPER_BASELINE, tables.PAPER_FAMILY, *(row.name for row in tables.ROWS)}
    assert expected <= set(frame["row"])
    assert any(name.startswith("logs, ") for name in frame["row"]) == (number != 1)


@pytest.mark.parametrize(("number", "radius"), [(1, 0.25), (2, 0.25), (3, 2 / 255)])
def test_sure_images_are_certified_at_a_small_radius(frames, number, radius):
    frame = frames[number]
    first = frame[(frame["dataset"] == CIFAR10) & np.isclose(frame["radius"], radius)]
    by_row = first.set_index(["row", "protocol"])["certified"]
    for protocol in (BEST, CHOSEN):
        assert by_row[tables.BASELINE.name, protocol] == 100.0 * 10 / made_up.IMAGES
        assert by_row[tables.RETUNED.name, protocol] == 100.0 * 20 / made_up.IMAGES
        assert by_row[tables.FAMILY.name, protocol] == 100.0 * 30 / made_up.IMAGES
        assert by_row[tables.FAMILY_DUAL.name, protocol] == 100.0 * 30 / made_up.IMAGES


def test_gaussian_radii_are_where_the_normal_law_puts_them():
    """Table 2's baseline: sure images are certified while Phi(r / sigma) stays below what their votes show."""
    chosen = made_up.profile()
    frame = table2.compute(chosen, made_up.votes(chosen, ALL_SURE))
    row = frame[(frame["row"] == tables.BASELINE.name) & (frame["protocol"] == BEST) & (frame["dataset"] == CIFAR10)]
    required = stats.norm.cdf(row["radius"] / 1.0)  # the larger of the two scales reaches farther
    assert (row["certified"] == np.where(required < LARGEST, 100.0, 0.0)).all()
    asked = tables.Asked.of("gaussian(sigma=0.25)", "L2", np.array([0.25, 0.5, 0.75, 1.0]), tables.EXACT, 3072, chosen)
    small = made_up.votes(chosen, ALL_SURE).query("model == 'small' and noise == 'gaussian(sigma=0.25)'")
    assert tables.certified(small, asked).all(axis=0).tolist() == [True, True, True, False]


def test_the_dual_leaves_the_votes_nine_tenths_of_alpha():
    """Votes that show a threshold with all of alpha, and not with what the dual leaves of it."""
    chosen = made_up.profile()
    exact, dual = (
        tables.Asked.of("l2_exponential(k=500, sigma=1)", "L2", np.array([0.5]), method, 3072, chosen)
        for method in (tables.EXACT, tables.DUAL)
    )
    assert exact.alpha == 1e-3
    assert dual.alpha == pytest.approx(0.9e-3)
    assert dual.required[0] > exact.required[0]

    def shown(threshold, alpha):
        return bool(exceeds(900, 1_000, threshold, alpha))

    low, high = 0.5, 0.9
    while high - low > 1e-9:  # the largest threshold that all of alpha shows
        middle = (low + high) / 2
        low, high = (middle, high) if shown(middle, 1e-3) else (low, middle)
    votes = pd.DataFrame({"label": [3], "selected": [3], "votes": [900], "draws": [1_000]})
    assert tables.certified(votes, tables.Asked(np.array([low]), exact.alpha)).all()
    assert not tables.certified(votes, tables.Asked(np.array([low]), dual.alpha)).any()


def test_what_is_out_of_reach_says_so(frames):
    """With 100 000 draws at sigma = 1.2 the Gaussian reaches 12/255; Phi(0.2 / 0.25) and the like are in reach too."""
    chosen = replace(made_up.profile(), n=200)  # 200 unanimous draws show 0.953 and no more
    frame = table2.compute(chosen, made_up.votes(chosen, {"trained": 10}))
    row = frame[(frame["row"] == tables.BASELINE.name) & (frame["protocol"] == BEST) & (frame["dataset"] == CIFAR10)]
    most = least_unanimous(200)
    beyond = stats.norm.cdf(row["radius"] / 1.0) > most
    assert beyond.any() and not beyond.all()
    assert (row.loc[beyond, "note"] == tables.OUT_OF_REACH).all()
    assert row.loc[beyond, ["low", "high"]].isna().all(axis=None)
    assert (row.loc[beyond, "chosen"] == "").all()
    assert (row.loc[~beyond, "note"] == "").all()
    shown = tables.by_radius(frame, CIFAR10, BEST)[tables.BASELINE.name]
    assert (shown == "0*").tolist() == beyond.tolist()


def least_unanimous(n):
    """Return what n unanimous votes show at alpha = 0.001: p* at which (1 - p*^(n+1)) / ((n+1) (1-p*) p*^n) is 1000."""
    return optimize.brentq(lambda p: (1 - p ** (n + 1)) / ((n + 1) * (1 - p) * p**n) - 1000, 0.5, 0.9999)


def test_wrong_images_are_never_certified():
    chosen = made_up.profile()
    votes = made_up.wrong(made_up.votes(chosen, ALL_SURE), 5)
    frame = table2.compute(chosen, votes)
    ours = frame[frame["row"].str.startswith("ours") & (frame["dataset"] == CIFAR10)]
    assert ours["certified"].max() == 100.0 * (made_up.IMAGES - 5) / made_up.IMAGES


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_dual_never_certifies_more_than_the_exact_certificate(number):
    chosen = made_up.profile()
    frame = TABLES[number].compute(chosen, made_up.votes(chosen, ALL_SURE))
    wide = frame[frame["dataset"] == CIFAR10].pivot(
        index=["radius", "protocol"], columns="row", values="certified"
    )  # fmt: skip
    both = wide[[tables.FAMILY_DUAL.name, tables.FAMILY.name]].dropna()
    assert len(both) > 0
    assert (both[tables.FAMILY_DUAL.name] <= both[tables.FAMILY.name]).all()


def test_cells_that_were_not_computed_say_so(frames):
    for number in (1, 2):
        frame = frames[number]
        ours = frame[(frame["dataset"] == IMAGENET) & frame["row"].str.startswith("ours")]
        assert ours["certified"].isna().all()
        assert set(ours["note"]) == {tables.NOT_COMPUTED}
        shown = tables.by_radius(frame, IMAGENET, CHOSEN)
        assert (shown[tables.FAMILY.name] == tables.NOT_COMPUTED).all()


def test_missing_votes_are_named_with_the_remedy():
    chosen = made_up.profile()
    votes = made_up.votes(chosen, ALL_SURE)
    with pytest.raises(rs.InputError, match=r"no votes of large under mixed_norm.*paper_figures\.votes"):
        table3.compute(chosen, votes[votes["noise"].str.startswith("gaussian")])


def test_the_printed_rows_are_the_papers(frames):
    shown = tables.by_radius(frames[3], CIFAR10, BEST)
    assert shown[tables.PAPER_FAMILY].tolist() == ["60", "47", "38", "32", "23", "17"]
    assert shown["radius"].tolist() == ["2/255", "4/255", "6/255", "8/255", "10/255", "12/255"]
    assert math.isnan(frames[3].query("row == @tables.PAPER_FAMILY")["low"].iloc[0])


def test_intervals_are_shown_on_demand(frames):
    with_them = tables.by_radius(frames[2], CIFAR10, CHOSEN)[tables.BASELINE.name].iloc[0]
    without = tables.by_radius(frames[2], CIFAR10, CHOSEN, intervals=False)[tables.BASELINE.name].iloc[0]
    assert without == "25.0"
    assert with_them == "25.0 [13–41]"  # Clopper-Pearson of 10 in 40: 0.127 to 0.412


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_picture_is_legible(frames, number):
    assert_legible(TABLES[number].draw(frames[number]))
