import itertools

import numpy as np
import pandas as pd
import pytest

import rs_plugin as rs
from paper_figures import artefacts, screen, tables, verdict
from paper_figures.accuracy import BEST, CHOSEN
from paper_figures.scales import of_scale
from paper_figures.theory.statements import OWN
from tests.paper_figures import made_up


def screened(change):
    """Screened images of every family: the probability of the label is 0.6, and ``change`` more under k > 0."""
    rows = []
    families = (("l1_exponential", (0, 500)), ("l2_exponential", (0, 500)), ("mixed_norm", (25,)))
    for model, (family, ks) in itertools.product("mn", families):
        for k in ks:
            noise = str(of_scale(family, k, 0.25, 3072))
            for i in range(100):
                count = round(screen.N * (0.6 + (change if k else 0.0))) + (7 * i) % 5
                rows.append((model, family, k, 1.0, noise, 40 * i + 10, 3, 3, count, count))
    columns = ["model", "family", "k", "factor", "noise", "index", "label", "selected", "votes", "label_votes"]
    return pd.DataFrame(rows, columns=columns)


def judged(sure, change=0.0, statements=None):
    chosen = made_up.profile()
    found = verdict.evidence(chosen, made_up.votes(chosen, sure), screened(change), statements)
    rows = verdict.compute(found)
    return found, rows.set_index(["topic", "question"])


@pytest.fixture(scope="module")
def equal():
    return judged({"trained": 20, "retuned": 20, "family": 20})


@pytest.fixture(scope="module")
def better():
    return judged({"trained": 5, "retuned": 5, "family": 35}, change=0.05)


def answers(rows, question):
    part = rows[rows.index.get_level_values("question").str.startswith(question)]
    return part["answer"].tolist()


def test_equal_rows_are_not_told_apart(equal):
    _, rows = equal
    assert answers(rows, "Does the family certify") == ["Not shown."] * 3
    assert answers(rows, "Does it certify") == ["Not shown."] * 3
    assert answers(rows, "Does k > 0") == ["No more than chance would show."] * 3


def test_a_large_gain_is_found(better):
    _, rows = better
    assert all(answer.startswith("Yes, at") for answer in answers(rows, "Does the family certify"))
    assert all(answer.startswith("Yes, at") for answer in answers(rows, "Does it certify"))
    assert answers(rows, "Does k > 0") == ["Shown in 2 of 2 pairs, more than chance would."] * 3


def test_a_loss_is_called_a_loss():
    _, rows = judged({"trained": 35, "retuned": 35, "family": 5})
    assert all(answer.startswith("No: less at") for answer in answers(rows, "Does the family certify"))


def test_numbers_in_sentences_are_those_of_the_frames(better):
    found, rows = better
    part = found.comparisons.query("table == 2 and row == @tables.FAMILY.name and against == @tables.BASELINE.name")
    question = "Does the family certify more than the paper's baseline?"
    sentence = rows.loc[(f"{verdict.NAMES[2]}, CIFAR-10", question), "figures"]
    assert f"mean {part['difference'].mean():+.1f}" in sentence
    assert "[Z] prints +1.0 to +3.0" in sentence  # Table 2's printed gains: 1 3 3 2 2 2 2 1 1


def test_statements_of_the_theory_are_listed():
    frame = pd.DataFrame(
        [
            {"statement": "Theorem 1", "cases": 4, "agree": 4, "verdict": "holds"},
            {"statement": "Eq. 7", "cases": 4, "agree": 1, "verdict": "in part"},
            {"statement": "Section 4", "cases": 2, "agree": 0, "verdict": "fails"},
            {"statement": "Corollary 1, with e^(-r/b) p below 1/2", "cases": 3, "agree": 3, "verdict": "holds"},
        ]
    )
    _, rows = judged({"trained": 5}, statements=frame)
    assert rows.loc[verdict.OWN_STATEMENTS]["figures"].tolist() == ["3 of 3 cases."]
    part = rows.loc[verdict.STATEMENTS]
    assert part["answer"].tolist() == ["Agrees.", "Agrees in part.", "Does not agree."]
    assert part["figures"].tolist() == ["4 of 4 cases.", "1 of 4 cases.", "0 of 2 cases."]


def test_the_page_shows_every_answer_and_every_row(equal):
    found, rows = equal
    text = verdict.page(rows.reset_index(), found)
    for line in rows.reset_index().to_dict("records"):
        assert f"**{line['question']}** {line['answer']} {line['figures']}" in text
    for row in tables.ROWS:
        assert text.count(f"| {row.name} |") == 6  # three tables, two protocols; in each once, as a heading
    assert f"{made_up.IMAGES} images" in text
    assert "certify more against the paper's baseline at 0 of " in text
    assert "the exponent k is not found to change" in text
    assert "nan" not in text


def test_no_difference_of_zero_is_shown_with_a_sign():
    assert verdict._range(pd.Series([-0.04, 0.0, np.nan])) == "+0.0 to +0.0"


def test_evidence_needs_votes(tmp_path, monkeypatch):
    from dataclasses import replace

    with pytest.raises(rs.InputError, match="no votes"):
        verdict.evidence(replace(made_up.profile(), votes=tmp_path / "none.csv.gz"))


def compared(**columns):
    """Comparisons of the family with the baseline, one row per radius."""
    frame = pd.DataFrame(columns).assign(row=tables.FAMILY.name, against=tables.BASELINE.name)
    return frame.assign(of_against=frame.get("of_against", 50.0), printed_share=frame.get("printed_share", 2.0))


def test_only_what_holm_leaves_is_found():
    part = compared(
        in_reach=[True] * 3, difference=[3.0, -2.0, 1.0], low=[0.5, -4.0, 0.1], high=[5.0, -0.1, 2.0],
        p_value=[0.001, 0.03, 0.02], p_holm=[0.003, 0.18, 0.12], printed=[2.0] * 3,
    )  # fmt: skip
    row = verdict._against("t", part, tables.BASELINE.name, "q")
    assert row["answer"] == "Yes, at 1 of 3 radii."
    assert "found to be more at 1, less at 0 of them" in row["figures"]
    assert "mean +0.7" in row["figures"]
    assert "The intervals span -4.0 to +5.0." in row["figures"]


def test_a_printed_gain_is_excluded_by_the_upper_end_alone():
    """[Z] gains 2 points of 50, 4 %. Upper ends of 5, 1.5, 1.9 and 3 points; of baselines of 50, 50, 10 and 90."""
    part = compared(
        in_reach=[True] * 4, difference=[1.0] * 4, low=[-1.0] * 4, high=[5.0, 1.5, 1.9, 3.0], p_holm=[1.0] * 4,
        printed=[2.0] * 4, printed_share=[4.0] * 4, of_against=[50.0, 50.0, 10.0, 90.0],
    )  # fmt: skip
    figures = verdict._against("t", part, tables.BASELINE.name, "q")["figures"]
    assert "a gain of as many points is excluded at 2 of them, one of as large a share of the baseline at 2." in figures


def test_radii_out_of_reach_count_for_nothing():
    part = compared(
        in_reach=[True, False], difference=[1.0, -9.0], low=[-1.0, -9.0], high=[3.0, -8.0], p_holm=[1.0, 1e-9],
        printed=[2.0, 2.0],
    )  # fmt: skip
    row = verdict._against("t", part, tables.BASELINE.name, "q")
    assert row["answer"] == "Not shown."
    assert "over 1 radii, 1 more are out of reach" in row["figures"]
    assert "excluded at 0 of them" in row["figures"]


def test_what_certificates_and_choosing_do_is_told_with_their_numbers():
    part = pd.DataFrame({"exact": [50.0, 40.0, 30.0], "single": [49.0, 37.0, 30.0], "dual": [48.0, 34.0, 30.0]})
    row = verdict._certifying("t", part.assign(gain=part["exact"] - part["dual"]))
    assert row["answer"] == "Yes."
    said = "Of 3 cells of one noise and radius, 2 gain; 2.7 points on average, 6.0 at most, and 0 lose."
    assert said in row["figures"]
    assert "In the 3 cells in which the dual certifies anything, it is 2.7 points on average." in row["figures"]
    assert "Of the whole, 1.3 on average and 3.0 at most is what Hoeffding's" in row["figures"]
    same = part.assign(dual=part["exact"], single=part["exact"], gain=0.0)
    assert verdict._certifying("t", same)["answer"] == "Nothing here."
    rows = [
        {"table": 1, "dataset": "d", "row": row.name, "radius": radius, "protocol": protocol, "certified": value}
        for row, gain in ((tables.BASELINE, 0.0), (tables.RETUNED, 1.0), (tables.FAMILY, 2.0))
        for radius, more in ((1.0, gain), (2.0, 0.0))
        for protocol, value in ((BEST, 50.0 + more), (CHOSEN, 50.0))
    ]
    figures = verdict._selecting("t", pd.DataFrame(rows))["figures"]
    assert "re-tuned +0.5 on average, +1.0 at most; the family +1.0 on average, +2.0 at most." in figures


def test_changes_of_probability_are_counted_in_both_directions():
    part = pd.DataFrame(
        {"k": [25, 100, 250], "change": [-0.5, 0.01, 0.4], "low": [-0.9, -0.2, 0.1], "high": [-0.1, 0.2, 0.7],
         "required": [90.0, 91.0, 92.0]}
    )  # fmt: skip
    chance = pd.Series({"expected": 0.15, "p_value": 0.02})
    row = verdict._exponent("t", part, chance)
    assert row["answer"] == "Shown in 2 of 3 pairs, more than chance would."
    assert "shown upwards in 1, downwards in 1; by chance 0.1 would be shown (p = 0.020)" in row["figures"]
    chance["p_value"] = 0.06
    assert verdict._exponent("t", part, chance)["answer"] == "No more than chance would show."


def test_own_statements_are_among_those_tried():
    assert set(artefacts.published("statements")["statement"]) >= OWN
