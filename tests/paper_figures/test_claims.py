"""What a row says about agreement."""

from __future__ import annotations

import pandas as pd
import pytest

from paper_figures.theory.claims import Relation, row, summary


@pytest.mark.parametrize(
    ("relation", "computed", "independent", "difference", "agrees"),
    [
        ("=", 1.0005, 0.9995, 0.0005, True),
        ("=", 1.0, 0.99, -0.01, False),
        ("=", 1.01, 1.0, 0.01, False),
        ("<=", 0.3, 1.0009, 0.0009, True),
        ("<=", 1.1, 0.3, 0.1, False),
        (">=", 3.0, 0.9995, -0.0005, True),
        (">=", 0.5, 3.0, -0.5, False),
        ("=", float("nan"), 1.0, float("nan"), False),
        ("<=", 0.5, float("nan"), float("nan"), False),
        ("=", 1.0005, None, 0.0005, True),
        (">=", 0.5, None, -0.5, False),
    ],
)
def test_agreement(
    relation: Relation, computed: float, independent: float | None, difference: float, agrees: bool
) -> None:
    found = row("s", claimed=1.0, computed=computed, independent=independent, error=1e-3, relation=relation, dim=2)
    assert found["agrees"] is agrees
    assert found["difference"] == pytest.approx(difference, nan_ok=True)
    assert found["dim"] == 2


def test_summary() -> None:
    both = {"claimed": 1.0, "independent": 1.0}
    first = pd.DataFrame(
        [
            row("exact", **both, computed=0.7, error=0.5),
            row("exact", **both, computed=1.1, error=0.01),
            row("at most", **both, computed=0.2, error=0.0, relation="<="),
        ]
    )
    second = pd.DataFrame(
        [
            row("at least", claimed=1.0, computed=3.0, independent=1.25, error=1e-3, relation=">="),
            row("unknown", **both, computed=float("nan"), error=1.0),
        ]
    )
    found = summary(first, second).set_index("statement")
    assert list(found.index) == ["exact", "at most", "at least", "unknown"]
    assert found["cases"].tolist() == [2, 1, 1, 1]
    assert found["agree"].tolist() == [1, 1, 1, 0]
    assert found["verdict"].tolist() == ["in part", "holds", "holds", "fails"]
    assert found["worst"].tolist() == pytest.approx([0.3, 0.0, -0.25, float("nan")], nan_ok=True)
    assert found["error"].tolist() == [0.5, 0.0, 1e-3, 1.0]
