"""The coverage study sees what it is for: certificates, bounds and stopping that claim a little too much."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rs_plugin.certificates import Certificate

PATH = Path(__file__).parents[1] / "benchmarks" / "coverage_study.py"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the study with four radii only."""
    spec = importlib.util.spec_from_file_location("coverage_study", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "coverage_study", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RADII", 4)
    return module


class Longer:
    """A certificate whose radii are too long by a factor."""

    def __init__(self, certificate: Certificate, factor: float) -> None:
        self._certificate, self._factor = certificate, factor

    def radius(self, p_lower: Any, p_upper: Any = None) -> Any:
        return self._factor * np.asarray(self._certificate.radius(p_lower, p_upper))

    def required_probability(self, radius: float) -> float:
        return self._certificate.required_probability(radius / self._factor)

    def lower_bound(self, p: Any, radius: float) -> Any:
        return self._certificate.lower_bound(p, radius / self._factor)


def rejected(study: ModuleType, number: int) -> set[tuple[str, bool]]:
    """Return the modes (stopping, second bound) in which a problem's rates are rejected, with its first method."""
    problem = study._problems()[number]
    rates = study._rates(problem, problem.methods[0], seed=5)
    return {(rate.stopping, rate.second) for rate in rates if rate.chance < study.LEVEL}


HALF_SPACES = [0, 2]  # of Gaussian and Laplace noise, for which certificates are tight


@pytest.mark.parametrize("number", HALF_SPACES)
def test_what_is_right_passes(study: ModuleType, number: int) -> None:
    assert rejected(study, number) == set()


@pytest.mark.parametrize("number", HALF_SPACES)
def test_radii_that_are_a_little_too_long_are_seen(
    study: ModuleType, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = study.rs.certificate
    monkeypatch.setattr(study.rs, "certificate", lambda *given, **how: Longer(plain(*given, **how), 1.1))
    assert {("fixed", False), ("anytime", False)} <= rejected(study, number)


def test_too_small_an_alpha_of_bounds_is_seen(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = study.clopper_pearson_lower
    monkeypatch.setattr(study, "clopper_pearson_lower", lambda s, n, alpha: plain(s, n, 2.0 * alpha))
    assert rejected(study, 0) == {("fixed", False)}


def test_looking_as_if_for_the_first_time_is_seen(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds for one look at fixed n, taken at every look of a run that stops early."""
    plain = study.clopper_pearson_lower
    monkeypatch.setattr(
        study, "exceeds", lambda s, n, required, alpha: np.asarray(plain(s, np.maximum(n, 1), alpha)) >= required
    )

    def stopped(votes: Any, required: float, alpha: float) -> Any:
        inside = np.cumsum(votes == 0, axis=1)
        return np.any([study.exceeds(inside[:, n - 1], n, required, alpha) for n in study.LOOKS], axis=0)

    monkeypatch.setattr(study, "_stopped", stopped)
    assert ("anytime", False) in rejected(study, 0)
