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
    # Phi(0.75 / 0.25) = 0.9987 is beyond 199 / 200.
    assert np.isnan(over.loc[1.0, "0.75"]) and over.loc[2.0, "0.75"] == 0.0  # Phi(1.5) = 0.933
    linf = rows[rows["table"] == 3].pivot(index="factor", columns="shown", values="over")
    # sqrt(3072) * 2/255 = 0.435: Phi(1.74) = 0.959, none; Phi(0.87) = 0.808, two.
    assert linf["2/255"].tolist() == pytest.approx([0.0, 200 / 3])


def test_what_lies_between_the_certificates_is_theirs_to_tell():
    """At 0.5 and rms 1 the exact certificate asks for 0.6915, one λ for 0.6985, the dual for more: 0.71 or so."""
    chosen = made_up.profile()
    noise = next(c.noise for c in chosen.menus[2, CIFAR10] if c.role == "family" and c.model == "large")
    for share, held in ((0.68, (0, 0, 0)), (0.6965, (1, 0, 0)), (0.7045, (1, 1, 0)), (0.75, (1, 1, 1))):
        frame = made_up.votes(chosen, {})
        mine = (frame["model"] == "large") & (frame["noise"] == noise)
        frame.loc[mine, ["votes", "draws"]] = (round(share * 1_000_000), 1_000_000)
        found = ablation.certificate(2, chosen, frame)
        row = found[(found["candidate"] == f"large, {noise}") & (found["shown"] == "0.5")].iloc[0]
        assert row[["exact", "single", "dual"]].tolist() == [100.0 * value for value in held], share
        assert row["gain"] == 100.0 * (held[0] - held[2])
    assert set(found["dataset"]) == {CIFAR10}


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
    ours = found[found["row"].str.startswith("ours")]
    assert (ours["max"] == 0.0).all()  # the candidates of a role certify the same images


def pairs_of(changes, before):
    """Screened images of the mixed norm: ``before`` of 200 draws without k, and so many more, one array for each k."""
    noises = {(1.0, k): str(of_scale("mixed_norm", k, 0.25, 3072)) for k in (0, *changes)}
    counts = {(1.0, 0): before} | {(1.0, k): before + change for k, change in changes.items()}
    return screened("mixed_norm", noises, counts)


def test_chance_counts_the_intervals_that_exclude_zero():
    generator = np.random.default_rng(3)
    before = generator.integers(60, 140, 250)
    changes = {k: generator.integers(-9, 10, 250) + shift for k, shift in ((25, 0), (100, 2), (250, 4))}
    frame = pairs_of(changes, before)
    summary, found = ablation.exponent(frame), ablation.chance(frame).iloc[0]
    assert found["pairs"] == 3
    assert found["shown"] == ((summary["low"] > 0) | (summary["high"] < 0)).sum() >= 2
    assert found["p_value"] < 0.01


def test_chance_is_not_fooled_by_pairs_that_share_their_images():
    """Twenty pairs of the same changes, of mean 0: all or none are shown; the test errs one time in twenty."""
    generator = np.random.default_rng(4)
    errors, runs = 0, 60
    for _ in range(runs):
        change, before = generator.integers(-9, 10, 60), generator.integers(60, 140, 60)
        found = ablation.chance(pairs_of(dict.fromkeys(range(25, 45), change), before), flips=199).iloc[0]
        assert found["shown"] in (0, 20)
        errors += found["p_value"] < 0.05
    assert errors <= stats.binom.ppf(1 - 1e-6, runs, 0.05)


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
