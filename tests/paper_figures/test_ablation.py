import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rs_plugin as rs
from paper_figures import ablation, screen, table2, tables
from paper_figures.accuracy import BEST, CHOSEN
from paper_figures.printed import CIFAR10
from paper_figures.scales import of_scale
from tests.paper_figures import made_up
from tests.paper_figures.seeing import assert_legible


def screened(family, noises, label_votes):
    """Rows as the screening writes them: a model at two factors, ``label_votes`` by (factor, k)."""
    rows = []
    for (factor, k), counts in label_votes.items():
        name = family if k else {"l1_exponential": "l1_exponential"}.get(family, "l2_exponential")
        for i, count in enumerate(counts):
            rows.append(("m", name, k, factor, noises[factor, k], 40 * i + 10, 3, 3, count, count))
    columns = ["model", "family", "k", "factor", "noise", "index", "label", "selected", "votes", "label_votes"]
    return pd.DataFrame(rows, columns=columns)


def test_a_change_of_probability_is_found_with_its_interval():
    generator = np.random.default_rng(0)
    before, after = (generator.binomial(screen.N, p, 250) for p in (0.7, 0.75))
    noises = {(1.0, k): str(of_scale("mixed_norm", k, 0.25, 3072)) for k in (0, 25)}
    frame = screened("mixed_norm", noises, {(1.0, 0): before, (1.0, 25): after})
    row = ablation.exponent(frame).iloc[0]
    test = stats.ttest_rel(after / screen.N, before / screen.N).confidence_interval(0.95)
    assert row["change"] == pytest.approx(100 * np.mean(after - before) / screen.N)
    assert row["low"] == pytest.approx(100 * test.low, abs=0.02)  # normal quantiles for those of 249 degrees
    assert row["high"] == pytest.approx(100 * test.high, abs=0.02)
    assert row["low"] < 5.0 < row["high"]


@pytest.mark.parametrize(("family", "k", "more"), [("l2_exponential", 500, 1e-4), ("l1_exponential", 500, 1e-4)])
def test_the_exponent_hardly_changes_what_a_radius_requires(family, k, more):
    """At one second moment, k = 500 of 3072: less than 5e-5 by the design's quadrature, 1e-4 to be safe."""
    noises = {(1.0, j): str(of_scale(family, j, 0.25, 3072)) for j in (0, k)}
    frame = screened(family, noises, {(1.0, 0): [100, 100], (1.0, k): [100, 90]})
    row = ablation.exponent(frame).iloc[0]
    assert abs(row["required"] - 90.0) < 100 * more


def test_the_mixed_norm_requires_more_at_one_second_moment():
    noises = {(1.0, k): str(of_scale("mixed_norm", k, 0.25, 3072)) for k in (0, 250)}
    frame = screened("mixed_norm", noises, {(1.0, 0): [100, 100], (1.0, 250): [100, 90]})
    assert ablation.exponent(frame)["required"].iloc[0] > 95.0


def test_scales_are_compared_with_that_of_the_training():
    noises = {(factor, 0): str(rs.Gaussian(0.25 * factor)) for factor in (1.0, 2.0)}
    frame = screened("l2_exponential", noises, {(1.0, 0): [190, 180, 100], (2.0, 0): [180, 170, 90]})
    rows = ablation.scale(frame)
    assert rows["table"].unique().tolist() == [2, 3]  # a Gaussian is the baseline of both
    change = rows.groupby("factor")["change"].unique()
    assert change.loc[1.0].tolist() == [0.0]
    assert change.loc[2.0].tolist() == pytest.approx([-5.0])
    over = rows[rows["table"] == 2].pivot(index="factor", columns="shown", values="over")
    # Phi(0.25 / 0.25) = 0.841: two of three images at factor 1; Phi(0.25 / 0.5) = 0.691: two of three at factor 2.
    assert over["0.25"].tolist() == pytest.approx([200 / 3, 200 / 3])
    # Phi(0.5 / 0.25) = 0.977: none; Phi(0.5 / 0.5) = 0.841: two.
    assert over["0.5"].tolist() == pytest.approx([0.0, 200 / 3])
    linf = rows[rows["table"] == 3].pivot(index="factor", columns="shown", values="over")
    # sqrt(3072) * 2/255 = 0.435: Phi(1.74) = 0.959, none; Phi(0.87) = 0.808, two.
    assert linf["2/255"].tolist() == pytest.approx([0.0, 200 / 3])


def test_the_dual_costs_something_and_never_gains():
    chosen = made_up.profile()
    frame = ablation.certificate(2, chosen, made_up.votes(chosen, {"family": made_up.IMAGES}))
    assert (frame["gain"] >= 0.0).all()
    assert set(frame["dataset"]) == {CIFAR10}


def test_selection_is_best_less_chosen():
    rows = [
        {"table": table, "dataset": "d", "row": "r", "radius": radius, "protocol": protocol, "certified": value}
        for table in (1, 2)
        for radius, best, other in ((1.0, 50.0, 48.0), (2.0, 40.0, 40.0))
        for protocol, value in ((BEST, best), (CHOSEN, other), ("as printed", 1.0))
    ]
    found = ablation.selection(pd.DataFrame(rows))
    assert found["table"].tolist() == [1, 2]
    assert found["mean"].tolist() == [1.0, 1.0]
    assert found["max"].tolist() == [2.0, 2.0]


def test_selection_of_a_table():
    chosen = made_up.profile()
    frame = table2.compute(chosen, made_up.votes(chosen, {"trained": 10}))
    found = ablation.selection(frame)
    assert tables.BASELINE.name in set(found["row"])
    assert (found["max"] >= 0.0).all()


def test_what_the_duals_ask_for():
    chosen = made_up.profile()
    frame = ablation.estimation(2, chosen)
    family = [c.noise for c in chosen.menus[2, CIFAR10] if c.role == "family"]
    assert set(frame["noise"]) == set(family)
    # Hoeffding: sqrt(log(2 / 1e-4) / 2e5) = 0.0070369, whatever the radius.
    assert (frame["single"] - frame["exact"]).to_numpy() == pytest.approx(0.70369, abs=1e-5)
    # At one second moment the family asks for what the Gaussian does, but for 5e-5 of probability.
    row = frame[(frame["shown"] == "0.5") & (frame["noise"] == family[2])].iloc[0]
    assert row["exact"] == pytest.approx(100 * stats.norm.cdf(0.5 / 1.0), abs=0.005)
    below = frame[frame["dual"] < 100.0]
    assert (below["dual"] > below["exact"]).all()
    assert not below.empty


def test_the_picture_of_the_exponent_is_legible():
    frames = []
    for family, k in (("l1_exponential", 500), ("l2_exponential", 500), ("mixed_norm", 25)):
        noises = {(1.0, j): str(of_scale(family, j, 0.25, 3072)) for j in (0, k)}
        frames.append(screened(family, noises, {(1.0, 0): [100, 120, 90], (1.0, k): [100, 90, 95]}))
    frame = ablation.exponent(pd.concat(frames))
    figure = ablation.draw(frame)
    assert_legible(figure)
    assert [axes.get_title() for axes in figure.axes] == ["Eq. 10", "Eq. 11", "Eq. 13"]
