import itertools

import numpy as np
import pandas as pd
import pytest

import rs_plugin as rs
from paper_figures import screen, tables, verdict
from paper_figures.scales import of_scale
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
    sentence = rows.loc[(verdict.NAMES[2], "Does the family certify more than the paper's baseline?"), "figures"]
    assert f"mean {part['difference'].mean():+.1f}" in sentence
    assert "[Z] prints +1.0 to +3.0" in sentence  # Table 2's printed gains: 1 3 3 2 2 2 2 1 1


def test_statements_of_the_theory_are_listed():
    frame = pd.DataFrame(
        [
            {"statement": "Theorem 1", "cases": 4, "agree": 4, "verdict": "holds"},
            {"statement": "Eq. 7", "cases": 4, "agree": 1, "verdict": "in part"},
            {"statement": "Section 4", "cases": 2, "agree": 0, "verdict": "fails"},
        ]
    )
    _, rows = judged({"trained": 5}, statements=frame)
    part = rows.loc["Statements, tried by computation"]
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
    assert "nan" not in text


def test_no_difference_of_zero_is_shown_with_a_sign():
    assert verdict._range(pd.Series([-0.04, 0.0, np.nan])) == "+0.0 to +0.0"


def test_evidence_needs_votes(tmp_path, monkeypatch):
    from dataclasses import replace

    with pytest.raises(rs.InputError, match="no votes"):
        verdict.evidence(replace(made_up.profile(), votes=tmp_path / "none.csv.gz"))
