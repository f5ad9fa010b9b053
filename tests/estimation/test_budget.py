"""The shares of an image's failure probability never exceed its total."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.budget import AlphaBudget


@settings(deadline=None, derandomize=True, max_examples=500)
@given(total=st.floats(1e-12, 0.999), share=st.floats(0, 1, exclude_max=True))
def test_shares_add_up_to_no_more_than_the_total(total: float, share: float) -> None:
    budget = AlphaBudget(total, share)
    assert Fraction(budget.votes) + Fraction(budget.certificate) <= Fraction(total)
    # Rounded down, so one spacing may be lost.
    assert budget.votes + budget.certificate == pytest.approx(total, rel=4e-16)


def test_split() -> None:
    assert AlphaBudget.split(0.001, deterministic=True) == AlphaBudget(0.001, 0.0)
    assert AlphaBudget.split(0.001, deterministic=True).votes == 0.001
    assert AlphaBudget.split(0.001, deterministic=True).certificate == 0.0
    estimated = AlphaBudget.split(0.001, deterministic=False)
    assert estimated == AlphaBudget(0.001)
    assert estimated.certificate == pytest.approx(0.0001, rel=1e-15)  # one product
    assert estimated.votes == pytest.approx(0.0009, rel=1e-15)
    assert AlphaBudget.split(0.01, deterministic=False, certificate_share=0.5).votes == 0.005


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, math.nan, "tenth", None])
def test_share_refusals(share: Any) -> None:
    with pytest.raises(ParameterError, match="certificate_share"):
        AlphaBudget(0.001, share)
    with pytest.raises(ParameterError, match="certificate_share"):
        AlphaBudget.split(0.001, deterministic=True, certificate_share=share)


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AlphaBudget(0.001).total = 0.5  # type: ignore[misc]
