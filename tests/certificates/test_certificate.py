"""The contract of ``certificate`` and of the object it returns, whatever the noise."""

from __future__ import annotations

import math
import re
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
from rs_plugin.estimation.arguments import MAX_TRIALS, MIN_ALPHA

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
    # Each value is rounded up by its own error, twice 1e-9 (MixedNorm: 3e-7), and by what its τ costs, a third of that.
    assert (np.diff(value) >= (-7e-7 if isinstance(case.noise, MixedNorm) else -3e-9)).all()
    assert value[-1] > 1 - 1e-6


def test_required_probability_does_not_depend_on_its_neighbours(case: Certificate) -> None:
    radii = case.radius(0.9) * np.array([1.0, 2.0, 4.0])
    together = case.required_probability(np.concatenate([radii, case.radius(0.9) * np.geomspace(1e-9, 1e6, 40)]))[:3]
    # The errors of tails that are evaluated at different τ, as above.
    margin = 7e-7 if isinstance(case.noise, MixedNorm) else 3e-9
    np.testing.assert_allclose(together, case.required_probability(radii), rtol=0, atol=margin)


def test_radius_is_the_inverse(case: Certificate) -> None:
    p = np.array([0.5001, 0.52, 0.6, 0.75, 0.9, 0.99, 0.999, 1 - 1e-6])
    radius = case.radius(p)
    assert (np.diff(radius) >= 0).all()
    # Either was evaluated, safely, at a λ of its own. The search leaves room of half the tails' accuracy for that,
    # which is enough where that accuracy, 3e-7 for MixedNorm, is not what the tails are off by.
    mixed = isinstance(case.noise, MixedNorm)
    assert (case.required_probability(radius) < p + (7e-7 if mixed else 0.0)).all()
    # The search ends within 2e-6 of the largest radius, and keeps 1e-7 below its guess; beside p = 1/2 it is the error
    # of p* that decides.
    beyond = case.required_probability(radius * (1 + 2.2e-6) + 1e-6 * case.noise.length_scale / case.dim)
    assert (beyond >= p - (7e-7 if mixed else 1e-7)).all()


def test_lower_bound_and_required_probability_agree(case: Certificate) -> None:
    for p in (0.6, 0.9, 0.99):
        radius = case.radius(p)
        # At p*(r) the bound is 1/2, and it changes by λ <= 60 times what p* changes by: the error of two tails, 1e-9
        # each, more for MixedNorm. A radius lies within 2.2e-6 of the largest, or within those errors over p*'s slope.
        assert case.lower_bound(p, radius) >= 0.5 - (2e-5 if isinstance(case.noise, MixedNorm) else 2e-7)
        assert case.lower_bound(p, radius * (1 + 1e-5)) <= 0.5
    grid = case.lower_bound(
        np.array([[0.0, 0.01, 0.3, 0.6, 0.9, 0.99, 1.0]]), case.radius(0.9) * np.array([[0.1], [1.0], [3.0]])
    )
    assert (np.diff(grid, axis=1) >= -1e-15).all()  # values as small as 1e-64 are rounded down, each by itself
    assert (np.diff(grid, axis=0) <= 1e-9).all()  # the error of a tail; values that do not vanish lie far apart
    assert (grid <= [0.0, 0.01, 0.3, 0.6, 0.9, 0.99, 1.0]).all()


def test_discrepancy_bounds_the_lower_bound(case: Certificate) -> None:
    radius = case.radius(0.9)
    lam = np.geomspace(1e-3, 1e3, 41)
    value = case.discrepancy(lam, radius)
    assert (value >= np.maximum(lam - 1, 0)).all() and (value <= lam).all()
    # D(λ) = λ - 1 + λ D(1/λ) by the symmetry of the noise. Both sides are made of the same two tails but that 1/λ is
    # rounded, which moves the estimated error where kinks of the integrand coincide: by 1e-12 at most.
    mirrored = lam - 1 + lam * case.discrepancy(1 / lam, radius)
    assert (np.abs(value - mirrored) <= 1e-12 * (1 + lam)).all()
    for p in (0.3, 0.9, 0.99):
        # L is the supremum: λ p - D of any λ is no larger, but for what a rough λ costs, a third of the tails' error.
        margin = 1e-7 if isinstance(case.noise, MixedNorm) else 1e-9
        assert (lam * p - value).max() <= case.lower_bound(p, radius) + margin


def test_two_sided(case: Certificate) -> None:
    # 1 - p_lower for the others is the binary rule, up to the last step of the search for two-sided radii, 1e-6.
    assert case.radius(0.7, 0.3) == pytest.approx(case.radius(0.7), rel=1e-6)
    assert case.radius(0.6, 0.39) >= case.radius(0.6) == case.radius(0.6, 0.5)  # a larger bound adds nothing,
    assert case.radius(0.7, 0.9) == case.radius(0.6, 0.7) == 0.0  # but for one that is not exceeded
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


@pytest.mark.parametrize(
    ("noise", "threat", "dim", "vanishes"),
    [
        (L1Exponential(2.9, 0.5), "L1", 3, False),
        (L1Exponential(2.999, 0.5), "L1", 3, True),
        (L2Exponential(63.999, 0.5), "L2", 64, True),
    ],
    ids=str,
)
def test_noise_that_collapses(noise: SmoothingDistribution, threat: str, dim: int, vanishes: bool) -> None:
    """As ``k`` nears ``d`` radii leave the range of a float, without a warning, which would be an error here."""
    collapsed = certificate(noise, threat, dim)
    p = np.array([0.51, 0.6, 0.9, 0.999])
    radius = collapsed.radius(p)
    assert (radius == 0.0).all() if vanishes else (radius > 0.0).all()
    assert (np.diff(radius) >= 0.0).all() and (collapsed.required_probability(radius) < p).all()
    assert (collapsed.radius(0.7, 0.1) == 0.0) == vanishes


def test_small_radii_are_found_above_what_the_law_resolves() -> None:
    """In one dimension, power 0.7, k = 1/2: at p = 0.5001 a radius of 1.7e-8, where p* moves by 1e-4 over decades."""
    found = certificate(NormExponential(2, 0.7, 0.5, 1.0), "L2", 1)
    radius = found.radius(0.5001)
    assert found.required_probability(radius) < 0.5001 < found.required_probability(radius * 1.001)


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
    for method in ("auto", "exact", "closed_form"):
        with pytest.raises(UnsupportedThreatError, match=r"no deterministic certificate .*monte_carlo.*dual") as raised:
            certificate(MaxTiltedExponential(1.5, 2, 0.7), threat, D, method)
        assert threat in str(raised.value) and "Linf" in str(raised.value)


@pytest.mark.parametrize(
    ("noise", "threat"), [(L2Exponential(3, 0.5), "L2"), (MixedNorm(3, 0.5), "L2"), (L1Exponential(3, 0.5), "Linf")]
)
def test_no_closed_form_but_an_exact_one(noise: SmoothingDistribution, threat: str) -> None:
    with pytest.raises(UnsupportedThreatError, match=r"closed_form .* use method='auto' or method='exact'"):
        certificate(noise, threat, D, "closed_form")


def test_shift_and_numbers_of_one_norm_noise_under_linf() -> None:
    """As ``worst_shift`` and ``discrepancy`` say: the cube's own shift, and the numbers of the ball around the cube."""
    noise, r = L1Exponential(3, 0.5), 0.01
    cube, ball = certificate(noise, "Linf", D), certificate(noise, "L1", D)
    np.testing.assert_array_equal(cube.worst_shift(r), np.full(D, r))
    np.testing.assert_array_equal(ball.worst_shift(D * r), np.eye(D)[0] * (D * r))
    # One integral at two lengths that differ by rounding.
    assert cube.discrepancy(1.3, r) == pytest.approx(ball.discrepancy(1.3, D * r), rel=1e-12)


class _Fixed(L2Exponential):
    """A named case with a constructor of its own."""

    def __init__(self) -> None:
        super().__init__(3, 0.5)


def test_a_named_case_that_fixes_its_parameters() -> None:
    assert certificate(_Fixed(), "L2", D).radius(0.9) == certificate(L2Exponential(3, 0.5), "L2", D).radius(0.9)


def test_reductions_take_the_closed_form() -> None:
    for noise, threat in ((L2Exponential(0, 0.5), "L2"), (L1Exponential(0, 0.5), "L1"), (MixedNorm(0, 0.5), "L2")):
        assert certificate(noise, threat, D).method == "closed_form"
    assert certificate(MixedNorm(0, 0.5), "Linf", D).radius(0.9) == certificate(Gaussian(0.5), "Linf", D).radius(0.9)


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> Certificate:
    return certificate(Gaussian(0.5), "L2", D)


#: What stands for no numbers at all.
NO_NUMBERS = ["a", b"a", None, [0.6, None], [[0.6, 0.7], [0.8]], 0.6j, True, {}, torch.ones(2, requires_grad=True)]


@pytest.mark.parametrize("bad", [-1.0, -1e-300, math.nan, [0.1, -0.1], -INF, *NO_NUMBERS], ids=repr)
def test_bad_radius(plain: Certificate, bad: object) -> None:
    for call in (plain.required_probability, lambda r: plain.lower_bound(0.7, r), lambda r: plain.discrepancy(1.0, r)):
        with pytest.raises(ParameterError, match="radius"):
            call(bad)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, INF, [0.7, 2.0], *NO_NUMBERS], ids=repr)
def test_bad_probability(plain: Certificate, bad: object) -> None:
    with pytest.raises(ParameterError, match="p_lower"):
        plain.radius(bad)
    if bad is not None:  # which says that nothing is known of the others
        with pytest.raises(ParameterError, match="p_upper"):
            plain.radius(0.7, bad)
    with pytest.raises(ParameterError, match="p must"):
        plain.lower_bound(bad, 0.1)


@pytest.mark.parametrize("bad", [-1.0, math.nan, *NO_NUMBERS], ids=repr)
def test_bad_lambda(plain: Certificate, bad: object) -> None:
    with pytest.raises(ParameterError, match="lam"):
        plain.discrepancy(bad, 0.1)


def test_refusals_are_one_line_with_the_value(plain: Certificate) -> None:
    for value in ("some text", np.array([["a"], ["b"]]), {"radius": 1}):
        with pytest.raises(ParameterError, match=r"^radius must be numbers of 0 or more, not ") as caught:
            plain.required_probability(value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="not 'some text'"):
        plain.required_probability("some text")


def test_shapes_that_do_not_broadcast(plain: Certificate) -> None:
    for call, names in (
        (plain.radius, "p_lower (2,), p_upper (3,)"),
        (plain.lower_bound, "p (2,), radius (3,)"),
        (plain.discrepancy, "lam (2,), radius (3,)"),
    ):
        with pytest.raises(ParameterError, match=re.escape(f"shapes do not broadcast: {names}")):
            call([0.6, 0.7], [0.1, 0.2, 0.3])


def test_tensors_are_arrays(plain: Certificate) -> None:
    np.testing.assert_array_equal(plain.radius(torch.tensor([0.6, 0.75])), plain.radius(np.float32([0.6, 0.75])))


@pytest.mark.parametrize("bad", [-1.0, math.nan, INF, [0.1], [0.1, 0.2], *NO_NUMBERS], ids=repr)
def test_bad_shift(plain: Certificate, bad: object) -> None:
    with pytest.raises(ParameterError, match="radius"):
        plain.worst_shift(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [3, 2, 1])
def test_k_below_dim(dim: int) -> None:
    with pytest.raises(ParameterError, match=r"k = 3 .*d = "):
        certificate(L2Exponential(3, 0.5), "L2", dim)


@pytest.mark.parametrize(
    "dim", [0, -1, 2.5, math.nan, INF, "10", b"10", None, True, 1j, {}, np.array([5]), torch.ones(2)], ids=repr
)
def test_bad_dim(dim: object) -> None:
    for method in ("auto", "dual"):
        with pytest.raises(ParameterError, match="dim must be a positive integer, not "):
            certificate(Gaussian(0.5), "L2", dim, method)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 32, 32), [3, 32, 32], torch.Size([3, 32, 32]), (np.int64(3), 32, 32)])
def test_a_shape_is_not_a_dim(shape: object) -> None:
    with pytest.raises(ParameterError, match=r"dim must be one number, .*; give the product, 3072"):
        certificate(Gaussian(0.5), "L2", shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [12, 12.0, np.int32(12), np.float64(12), torch.tensor(12), np.array(12)], ids=repr)
def test_dims_of_other_types(dim: int) -> None:
    assert repr(certificate(Gaussian(0.5), "L2", dim)) == repr(certificate(Gaussian(0.5), "L2", D))


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
    "bad",
    [
        *({"n": n} for n in (0, 10, 2000.5, math.nan, INF, "abc", "2000", [2000], True, MAX_TRIALS + 1)),
        *({"alpha": alpha} for alpha in (0.0, 1.0, -0.1, math.nan, "x", "0.1", [0.1], True, MIN_ALPHA / 2)),
        *({"generator": generator} for generator in (5, "cpu", np.random.default_rng(0))),
    ],
    ids=lambda bad: str(bad).partition(" at ")[0],
)
def test_bad_monte_carlo_arguments(bad: dict[str, object]) -> None:
    for method in ("dual", "monte_carlo"):
        with pytest.raises(ParameterError, match=f"^{next(iter(bad))} "):
            certificate(Gaussian(0.5), "L2", D, method, **bad)  # type: ignore[arg-type]


def test_repr_names_everything(plain: Certificate, tmp_path: Path) -> None:
    assert repr(plain) == "Certificate(gaussian(sigma=0.5), L2, dim=12, method='closed_form')"
