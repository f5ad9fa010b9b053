from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from paper_figures import comparison, tables
from paper_figures.printed import CIFAR10
from tests.paper_figures import made_up


def pair(both, only_first, only_second, neither):
    """Two rows over so many images."""
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_a_published_table_of_matched_pairs():
    """Agresti, Categorical Data Analysis (2nd ed.), Section 10.1: approval fell by 0.04, interval (0.02, 0.06)."""
    found = comparison.paired(*pair(794, 150, 86, 570))
    assert found["difference"] == pytest.approx(4.0)
    assert found["low"] == pytest.approx(2.0, abs=0.5)  # printed to one digit of a percent of a percent
    assert found["high"] == pytest.approx(6.0, abs=0.5)
    assert found["p_value"] < 1e-4


def test_an_interval_by_hand():
    """Half an image more in each cell: b = 3.5, c = 1.5, n = 46 + 2; (2 ± 1.959964 sqrt(5 - 4 / 48)) / 48."""
    found = comparison.paired(*pair(20, 3, 1, 22))
    assert found["low"] == pytest.approx(100 * (2 - 1.959964 * np.sqrt(5 - 4 / 48)) / 48, abs=1e-4)
    assert found["high"] == pytest.approx(100 * (2 + 1.959964 * np.sqrt(5 - 4 / 48)) / 48, abs=1e-4)
    assert found["certified"] == pytest.approx(100 * 23 / 46)
    assert found["of_against"] == pytest.approx(100 * 21 / 46)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 1), (10, 2), (2, 10)])
def test_p_values_are_those_of_a_fair_coin_on_discordant_images(b, c):
    p_value = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert comparison.paired(*pair(20, b, c, 20))["p_value"] == pytest.approx(p_value)


def test_intervals_cover_the_true_difference():
    """Rows of 100 images that differ by 10 points: the interval misses as often as it may, and a little slack."""
    generator = np.random.default_rng(0)
    shares, runs, missed = [0.4, 0.15, 0.05, 0.4], 2000, 0
    for counts in generator.multinomial(100, shares, runs):
        found = comparison.paired(*pair(*counts))
        missed += not found["low"] <= 10.0 <= found["high"]
    # Agresti & Min report coverage near 0.95, at worst about 0.93: 7 in 100 may be missed. One test in 1e6 errs.
    assert missed / runs < stats.binom.ppf(1 - 1e-6, runs, 0.07) / runs


def test_family_against_both_baselines():
    chosen = made_up.profile()
    votes = made_up.votes(chosen, {"trained": 10, "retuned": 20, "family": 30})
    frame = comparison.compute(2, chosen, votes)
    first = frame[frame["shown"] == "0.25"].set_index(["row", "against"])
    trained = first.loc[(tables.FAMILY.name, tables.BASELINE.name)]
    assert trained["difference"] == pytest.approx(100.0 * 20 / made_up.IMAGES)
    assert trained["only_row"] == 20
    assert trained["only_against"] == 0
    assert trained["printed"] == 61 - 60
    retuned = first.loc[(tables.FAMILY.name, tables.RETUNED.name)]
    assert retuned["difference"] == pytest.approx(100.0 * 10 / made_up.IMAGES)
    assert np.isnan(retuned["printed"])
    assert set(frame["dataset"]) == {CIFAR10}


def test_p_values_are_corrected_over_the_radii():
    chosen = made_up.profile()
    votes = made_up.votes(chosen, {"trained": 10, "retuned": 20, "family": 30})
    for _, group in comparison.compute(1, chosen, votes).groupby(["row", "against"]):
        assert group["in_reach"].any()
        assert (group["p_value"].notna() == group["in_reach"]).all()
        assert (group["p_holm"].notna() == group["in_reach"]).all()
        group = group[group["in_reach"]]
        least = group["p_value"].min()
        assert group["p_holm"].min() == pytest.approx(min(1.0, len(group) * least))
        assert (group["p_holm"] >= group["p_value"]).all()


def test_radii_out_of_reach_are_not_tested():
    """200 unanimous draws show 0.953: at sigma = 1.2, 1.75 asks for Phi(1.46) = 0.928, and 2 for Phi(1.67) = 0.952."""
    chosen = replace(made_up.profile(), n=200)
    frame = comparison.compute(2, chosen, made_up.votes(chosen, {"family": 30}))
    retuned = frame[(frame["row"] == tables.FAMILY.name) & (frame["against"] == tables.RETUNED.name)]
    assert retuned.set_index("shown")["in_reach"].to_dict() == {
        **dict.fromkeys(("0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2"), True), "2.25": False
    }  # fmt: skip


def test_rows_are_compared_as_chosen_on_other_images():
    """Each of two candidates certifies the images of one half, so that each half gets the wrong one."""
    chosen = made_up.profile()
    votes = made_up.votes(chosen, {"trained": 0, "retuned": 0})
    family = [c for c in chosen.menus[2, CIFAR10] if c.role == "family"]
    large = [c for c in family if c.model == "large"]
    for parity, candidate in enumerate(large):
        mine = (votes["model"] == candidate.model) & (votes["noise"] == candidate.noise)
        sure = mine & (votes["index"] // 20 % 2 == parity)
        votes.loc[sure, ["votes", "draws"]] = made_up.SURE
    frame = comparison.compute(2, chosen, votes)
    rows = frame[(frame["row"] == tables.FAMILY.name) & (frame["shown"] == "1.5")]
    assert (rows["certified"] == 0.0).all()
