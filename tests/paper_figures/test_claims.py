"""What a row says about agreement."""

from __future__ import annotations

import pytest

from paper_figures.theory.claims import Relation, row


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
    ],
)
def test_agreement(relation: Relation, computed: float, independent: float, difference: float, agrees: bool) -> None:
    found = row("s", claimed=1.0, computed=computed, independent=independent, error=1e-3, relation=relation, dim=2)
    assert found["agrees"] is agrees
    assert found["difference"] == pytest.approx(difference, nan_ok=True)
    assert found["dim"] == 2
