"""The contract of ``certificate`` and of the object it returns, whatever the noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rs_plugin import Certificate, certificate
from rs_plugin.distributions import (
    Gaussian,
    L1Exponential,
    L2Exponential,
    Laplace,
    LinfExponential,
    MaxTiltedExponential,
    MixedNorm,
    NormExponential,
    SmoothingDistribution,
)
from rs_plugin.errors import ParameterError, UnknownNameError, UnsupportedThreatError

INF = math.inf

#: One of every kind of law: closed form, smooth, with atoms, small shape, one dimension, of every norm.
DETERMINISTIC = [
    (Gaussian(0.5), "L2", 3072),
    (Laplace(0.3), "L1", 3072),
    (L2Exponential(250, 0.5), "L2", 3072),
    (L2Exponential(0.7, 0.5), "L2", 2),
    (L1Exponential(250, 0.5), "L1", 3072),
    (L1Exponential(1.5, 0.5), "L1", 3),
    (LinfExponential(1, 0.5), "Linf", 5),
    (LinfExponential(1, 0.5), "L1", 5),
    (LinfExponential(100, 2.0), "Linf", 784),
    (NormExponential(1, 2, 3, 0.7), "L1", 10),
    (NormExponential(2, 1, 0, 0.7), "L2", 10),
    (NormExponential(INF, 1, 0, 0.7), "Linf", 10),
    (NormExponential(INF, 3, 2, 0.7), "L1", 4),
    (NormExponential(2, 0.7, 0.5, 1.0), "L2", 1),
    (MixedNorm(1, 0.5), "Linf", 2),
    (L1Exponential(250, 0.5), "L2", 3072),
    (LinfExponential(250, 0.5), "L2", 3072),
]


def name(case: object) -> str:
    return "-".join(map(str, case)) if isinstance(case, tuple) else str(case)


@pytest.fixture(scope="module", params=DETERMINISTIC, ids=name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RS_PLUGIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        built = certificate(*request.param)
        built.radius(0.7)  # computes the curve, in a cache of its own
    return built


def test_numbers_give_numbers_and_arrays_arrays(case: Certificate) -> None:
    r = case.radius(0.7)
    assert isinstance(r, float) and r > 0
    assert isinstance(case.required_probability(r), float)
    assert isinstance(case.lower_bound(0.7, r), float)
    assert isinstance(case.discrepancy(1.0, r), float)
    assert case.radius(np.full((2, 3), 0.7)).shape == (2, 3)
    assert case.required_probability([r, 2 * r]).shape == (2,)
    assert case.lower_bound(np.full((2, 1), 0.7), np.full(3, r)).shape == (2, 3)
    assert case.discrepancy(np.ones((2, 1)), np.full(3, r)).shape == (2, 3)
    assert case.radius(np.full((2, 1), 0.7), np.full(3, 0.2)).shape == (2, 3)
    assert case.radius(np.array([])).shape == (0,)
    assert case.required_probability(np.array([])).shape == (0,)


def test_ends(case: Certificate) -> None:
    assert case.required_probability(0.0) == 0.5
    assert case.required_probability(INF) == 1.0
    assert case.radius(1.0) == INF
    assert (case.radius([0.0, 0.3, 0.5]) == 0.0).all()
    assert case.lower_bound(0.7, 0.0) == 0.7
    assert case.lower_bound(0.7, INF) == 0.0
    assert case.discrepancy(0.0, 1.0) == 0.0
    assert case.discrepancy(2.5, 0.0) == 1.5
    assert case.discrepancy(2.5, INF) == 2.5
    assert case.failure_probability == 0.0
    assert case.method in ("closed_form", "exact")


def test_required_probability_does_not_fall(case: Certificate) -> None:
    radii = case.radius(0.9) * np.concatenate([np.geomspace(1e-9, 1.0, 25), [1.5, 2, 4, 10, 1e3, 1e6]])
    value = case.required_probability(radii)
    assert not np.isnan(value).any()
    # Each value is rounded up by its own error bound, 1e-10 to 1e-7 for MixedNorm, and by what its τ costs.
    assert (np.diff(value) >= -3e-7).all()
    assert value[-1] > 1 - 1e-6


def test_required_probability_does_not_depend_on_its_neighbours(case: Certificate) -> None:
    radii = case.radius(0.9) * np.array([1.0, 2.0, 4.0])
    together = case.required_probability(np.concatenate([radii, case.radius(0.9) * np.geomspace(1e-9, 1e6, 40)]))[:3]
    # What a rough λ costs, as above; more for MixedNorm's tails.
    np.testing.assert_allclose(together, case.required_probability(radii), rtol=0, atol=3e-7)


def test_radius_is_the_inverse(case: Certificate) -> None:
    p = np.array([0.5001, 0.52, 0.6, 0.75, 0.9, 0.99, 0.999, 1 - 1e-6])
    radius = case.radius(p)
    assert (np.diff(radius) >= 0).all()
    # Either was evaluated, safely, at a λ of its own; what a rough λ costs is 3e-9, of MixedNorm's tails 1e-8.
    assert (case.required_probability(radius) < p + (0.0 if case.method == "closed_form" else 2e-8)).all()
    # A relative margin of 1e-5 pays for the last step of the search; beside p = 1/2 it is the error of p* that decides.
    beyond = case.required_probability(radius * (1 + 1e-5) + 1e-6 * case.noise.length_scale / case.dim)
    assert (beyond >= p - 1e-7).all()


def test_lower_bound_and_required_probability_agree(case: Certificate) -> None:
    for p in (0.6, 0.9, 0.99):
        radius = case.radius(p)
        # At p*(r) the bound is 1/2. Both are safe, so it is 1/2 at most but for the margin of the radius.
        assert case.lower_bound(p, radius) >= 0.5 - 2e-5
        assert case.lower_bound(p, radius * 1.001) <= 0.5
    grid = case.lower_bound(
        np.array([[0.0, 0.01, 0.3, 0.6, 0.9, 0.99, 1.0]]), case.radius(0.9) * np.array([[0.1], [1.0], [3.0]])
    )
    assert (np.diff(grid, axis=1) >= -1e-15).all()  # values as small as 1e-64 are rounded down, each by itself
    assert (np.diff(grid, axis=0) <= 1e-7).all()
    assert (grid <= [0.0, 0.01, 0.3, 0.6, 0.9, 0.99, 1.0]).all()


def test_discrepancy_bounds_the_lower_bound(case: Certificate) -> None:
    radius = case.radius(0.9)
    lam = np.geomspace(1e-3, 1e3, 41)
    value = case.discrepancy(lam, radius)
    assert (value >= np.maximum(lam - 1, 0)).all() and (value <= lam).all()
    # D(λ) = λ - 1 + λ D(1/λ) by the symmetry of the noise, to the error of the tails, which λ multiplies.
    mirrored = lam - 1 + lam * case.discrepancy(1 / lam, radius)
    assert (np.abs(value - mirrored) <= 1e-6 * (1 + lam)).all()
    for p in (0.3, 0.9, 0.99):
        # L is the supremum: λ p - D of any λ is no larger, but for what a rough λ costs.
        assert (lam * p - value).max() <= case.lower_bound(p, radius) + 1e-6


def test_two_sided(case: Certificate) -> None:
    # 1 - p_lower for the others is the binary rule, up to the search's 1e-5.
    assert case.radius(0.7, 0.3) == pytest.approx(case.radius(0.7), rel=1e-5)
    assert case.radius(0.7, 0.9) == 0.0
    assert case.radius(0.3, 0.3) == 0.0
    wide = case.radius(0.4, 0.2)
    assert wide > 0
    total = case.lower_bound(0.4, wide) + case.lower_bound(0.8, wide)
    assert total > 1
    assert case.radius(0.7, 0.1) > case.radius(0.7)


def test_worst_shift(case: Certificate) -> None:
    shift = case.worst_shift(0.25)
    assert shift.shape == (case.dim,)
    norm = {"L1": 1, "L2": 2, "Linf": INF}[case.threat_model]
    assert np.linalg.norm(shift, norm) >= 0.25 * (1 - 1e-12)


# Between norms ---------------------------------------------------------------------------------------------------

D = 12
SPHERICAL = [Gaussian(0.5), L2Exponential(3, 0.5), NormExponential(2, 1, 2, 0.7)]
ONE_NORM = [Laplace(0.3), L1Exponential(3, 0.3), NormExponential(1, 2, 2, 0.7)]
MAXIMUM = [LinfExponential(3, 0.5), NormExponential(INF, 1, 2, 0.7)]
EQUAL = {"rel": 1e-9}  # the same curve, multiplied; only rounding differs


def radius(noise: SmoothingDistribution, threat: str) -> float:
    return float(certificate(noise, threat, D).radius(0.9))


@pytest.mark.parametrize("noise", SPHERICAL, ids=str)
def test_spherical(noise: SmoothingDistribution) -> None:
    assert radius(noise, "L1") == pytest.approx(radius(noise, "L2"), **EQUAL)
    assert radius(noise, "Linf") == pytest.approx(radius(noise, "L2") / math.sqrt(D), **EQUAL)


@pytest.mark.parametrize("noise", ONE_NORM, ids=str)
def test_one_norm(noise: SmoothingDistribution) -> None:
    assert radius(noise, "L2") == pytest.approx(radius(noise, "L1") / math.sqrt(D), **EQUAL)
    assert radius(noise, "Linf") == pytest.approx(radius(noise, "L1") / D, **EQUAL)


@pytest.mark.parametrize("noise", MAXIMUM, ids=str)
def test_maximum_norm(noise: SmoothingDistribution) -> None:
    best = max(radius(noise, "Linf"), radius(noise, "L1") / math.sqrt(D))
    assert radius(noise, "L2") == pytest.approx(best, **EQUAL)
    assert radius(noise, "L1") >= radius(noise, "Linf")


def test_mixed_norm() -> None:
    noise = MixedNorm(3, 0.5)
    for threat in ("L1", "L2"):
        assert radius(noise, threat) == pytest.approx(radius(noise, "Linf"), **EQUAL)


@pytest.mark.parametrize("method", ["dual", "monte_carlo"])
def test_sampled_pairs(method: str) -> None:
    for noise in (MaxTiltedExponential(1.5, 2, 0.7), L1Exponential(3, 0.3)):
        found = certificate(noise, "Linf", D, method, n=2000)
        assert found.method == method
        assert found.failure_probability == 1e-4
        assert found.radius(0.95) > 0


@pytest.mark.parametrize("threat", ["L1", "L2", "Linf"])
def test_what_no_deterministic_method_covers(threat: str) -> None:
    with pytest.raises(UnsupportedThreatError, match=r"monte_carlo.*dual") as caught:
        certificate(MaxTiltedExponential(1.5, 2, 0.7), threat, D)
    assert threat in str(caught.value) and "Linf" in str(caught.value)


@pytest.mark.parametrize("noise", [L2Exponential(3, 0.5), MixedNorm(3, 0.5)], ids=str)
def test_no_closed_form(noise: SmoothingDistribution) -> None:
    with pytest.raises(UnsupportedThreatError, match="closed_form"):
        certificate(noise, "L2", D, "closed_form")


def test_reductions_take_the_closed_form() -> None:
    for noise, threat in ((L2Exponential(0, 0.5), "L2"), (L1Exponential(0, 0.5), "L1"), (MixedNorm(0, 0.5), "L2")):
        assert certificate(noise, threat, D).method == "closed_form"
    assert certificate(MixedNorm(0, 0.5), "Linf", D).radius(0.9) == certificate(Gaussian(0.5), "Linf", D).radius(0.9)


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> Certificate:
    return certificate(Gaussian(0.5), "L2", D)


@pytest.mark.parametrize("bad", [-1.0, -1e-300, math.nan, [0.1, -0.1], -INF])
def test_bad_radius(plain: Certificate, bad: object) -> None:
    for call in (plain.required_probability, lambda r: plain.lower_bound(0.7, r), lambda r: plain.discrepancy(1.0, r)):
        with pytest.raises(ParameterError, match="radius"):
            call(bad)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, INF, [0.7, 2.0]])
def test_bad_probability(plain: Certificate, bad: object) -> None:
    with pytest.raises(ParameterError, match="p_lower"):
        plain.radius(bad)
    with pytest.raises(ParameterError, match="p_upper"):
        plain.radius(0.7, bad)
    with pytest.raises(ParameterError, match="p must"):
        plain.lower_bound(bad, 0.1)


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_bad_lambda(plain: Certificate, bad: float) -> None:
    with pytest.raises(ParameterError, match="lam"):
        plain.discrepancy(bad, 0.1)


@pytest.mark.parametrize("bad", [-1.0, math.nan, INF])
def test_bad_shift(plain: Certificate, bad: float) -> None:
    with pytest.raises(ParameterError, match="radius"):
        plain.worst_shift(bad)


@pytest.mark.parametrize("dim", [3, 2, 1])
def test_k_below_dim(dim: int) -> None:
    with pytest.raises(ParameterError, match=r"k = 3 .*d = "):
        certificate(L2Exponential(3, 0.5), "L2", dim)


@pytest.mark.parametrize("dim", [0, -1, 2.5])
def test_bad_dim(dim: float) -> None:
    with pytest.raises(ParameterError, match="dim"):
        certificate(Gaussian(0.5), "L2", dim)  # type: ignore[arg-type]


@pytest.mark.parametrize(("typed", "meant"), [("l2", "L2"), ("linf", "Linf"), ("L_1", "L1"), ("l_inf", "Linf")])
def test_unknown_threat(typed: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        certificate(Gaussian(0.5), typed, D)


def test_unknown_method() -> None:
    with pytest.raises(UnknownNameError, match="monte_carlo"):
        certificate(Gaussian(0.5), "L2", D, "montecarlo")


def test_noise_as_text() -> None:
    with pytest.raises(ParameterError, match="parse_noise"):
        certificate("gaussian(sigma=0.5)", "L2", D)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["auto", "closed_form", "exact"])
@pytest.mark.parametrize(
    "argument", [{"n": 1000}, {"alpha": 0.1}, {"generator": torch.Generator()}], ids=lambda a: next(iter(a))
)
def test_arguments_of_the_other_methods(method: str, argument: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(argument))):
        certificate(Gaussian(0.5), "L2", D, method, **argument)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"n": 10}, {"n": 2000.5}, {"alpha": 0.0}, {"alpha": 1.0}, {"alpha": -0.1}, {"alpha": math.nan}], ids=str
)
def test_bad_monte_carlo_arguments(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        certificate(Gaussian(0.5), "L2", D, "dual", **bad)  # type: ignore[arg-type]


def test_repr_names_everything(plain: Certificate, tmp_path: Path) -> None:
    assert repr(plain) == "Certificate(gaussian(sigma=0.5), L2, dim=12, method='closed_form')"
