"""Threat models and the balls inside balls that carry certificates between them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rs_plugin.errors import RSPluginError, UnknownNameError
from rs_plugin.threats import THREATS, Threat, parse_threat, radius_factor

ORDERS: dict[Threat, float] = {"L1": 1, "L2": 2, "Linf": math.inf}


def length(x: np.ndarray, threat: Threat) -> np.ndarray:
    return np.asarray(np.linalg.norm(x, ord=ORDERS[threat], axis=1))


def candidates(dim: int) -> np.ndarray:
    """Random points of all shapes, the axes, the diagonals, and points with few equal coordinates."""
    rng = np.random.default_rng(0)
    random = rng.normal(size=(300, dim)) * np.exp(3 * rng.normal(size=(300, dim)))
    few = rng.choice([-1.0, 0.0, 1.0], size=(100, dim))
    return np.concatenate([random, few[np.abs(few).sum(1) > 0], np.eye(dim)[:50], np.ones((1, dim))])


@pytest.mark.parametrize("dim", [1, 2, 3, 64, 3072])
@pytest.mark.parametrize("source", THREATS)
@pytest.mark.parametrize("threat", THREATS)
def test_radius_factor_is_the_largest_inclusion(threat: Threat, source: Threat, dim: int) -> None:
    """No point of the ball of ``threat`` leaves the ball of ``source``, and one touches its surface."""
    factor = radius_factor(threat, source, dim)
    x = candidates(dim)
    outermost = (length(x, source) / length(x, threat)).max() * factor
    assert outermost == pytest.approx(1.0, rel=1e-13)  # sums of up to 3072 numbers
    assert 0 < factor <= 1


def test_radius_factor_by_hand() -> None:
    assert radius_factor("Linf", "L2", 3072) == pytest.approx(1 / math.sqrt(3072), rel=1e-15)
    assert radius_factor("Linf", "L1", 3072) == pytest.approx(1 / 3072, rel=1e-15)
    assert radius_factor("L2", "L1", 4) == 0.5
    assert radius_factor("L1", "Linf", 4) == radius_factor("L1", "L2", 4) == radius_factor("L2", "Linf", 4) == 1.0


@pytest.mark.parametrize("threat", THREATS)
def test_parse_threat(threat: Threat) -> None:
    assert parse_threat(threat) == threat


@pytest.mark.parametrize(
    ("name", "meant"),
    [("l2", "L2"), ("LINF", "Linf"), ("linf", "Linf"), ("L_inf", "Linf"), ("l1", "L1"), ("inf", "Linf"), ("L-2", "L2")],
)
def test_misspelt_threats(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"{name!r}; known: L1, L2, Linf. Did you mean '{meant}'"):
        parse_threat(name)


@pytest.mark.parametrize("name", ["", "corruptions", 2, None, math.inf])
def test_what_is_no_threat(name: object) -> None:
    with pytest.raises(UnknownNameError, match="unknown threat model") as caught:
        parse_threat(name)  # type: ignore[arg-type]
    assert isinstance(caught.value, KeyError | RSPluginError)
    assert "known: L1, L2, Linf" in str(caught.value)
