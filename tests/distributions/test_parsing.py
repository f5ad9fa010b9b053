"""From text to noise and back, and what is refused with which words."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rs_plugin.registry
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
    distributions,
    parse_noise,
)
from rs_plugin.errors import ParameterError, UnknownNameError
from tests.cases import CASES, each

# Scales whose squares, and whose roots of order 1/power, are floats.
SCALES = st.floats(min_value=1e-60, max_value=1e60) | st.integers(1, 10**6)
EXPONENTS = st.just(0.0) | st.floats(1e-4, 60) | st.integers(0, 60)
POWERS = st.floats(0.5, 0.999) | st.floats(1.001, 100) | st.integers(1, 10)
NORMS = st.sampled_from([1, 2, 1.0, 2.0, math.inf])

NOISES = st.one_of(
    st.builds(Gaussian, SCALES),
    st.builds(Laplace, SCALES),
    st.builds(L1Exponential, EXPONENTS, SCALES),
    st.builds(L2Exponential, EXPONENTS, SCALES),
    st.builds(LinfExponential, EXPONENTS, SCALES),
    st.builds(MixedNorm, EXPONENTS, SCALES),
    st.builds(NormExponential, NORMS, POWERS, EXPONENTS, SCALES),
    st.builds(MaxTiltedExponential, POWERS, EXPONENTS, SCALES),
)

SCALED: list[tuple[Callable[[float], SmoothingDistribution], str]] = [
    (Gaussian, "sigma"),
    (Laplace, "b"),
    (lambda x: L1Exponential(1, x), "b"),
    (lambda x: L2Exponential(1, x), "sigma"),
    (lambda x: LinfExponential(1, x), "sigma"),
    (lambda x: MixedNorm(1, x), "sigma"),
    (lambda x: NormExponential(2, 2, 1, x), "scale"),
    (lambda x: NormExponential(2, x, 1, 1), "power"),
    (lambda x: MaxTiltedExponential(2, 1, x), "scale"),
    (lambda x: MaxTiltedExponential(x, 1, 1), "power"),
]

TILTED: list[Callable[[float], SmoothingDistribution]] = [
    lambda k: L1Exponential(k, 1),
    lambda k: L2Exponential(k, 1),
    lambda k: LinfExponential(k, 1),
    lambda k: MixedNorm(k, 1),
    lambda k: NormExponential(2, 2, k, 1),
    lambda k: MaxTiltedExponential(2, k, 1),
]


FAMILIES = sorted({case.noise.name for case in CASES})


class Wobble(SmoothingDistribution):
    """A family from outside the package."""

    name = "wobble"
    arg_constraints = {"width": "positive"}  # noqa: RUF012
    worst_shift_rules = frozenset({"Linf"})

    def __init__(self, width: float, tilt: float = 0.0) -> None:
        super().__init__(width=width, tilt=tilt)

    def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
        out.normal_(generator=generator).mul_(self.parameters["width"])

    def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return -(z**2).sum(1)


class Point:
    """An entry point as importlib.metadata returns it."""

    def __init__(self, name: str, target: object) -> None:
        self.name, self.target = name, target

    def load(self) -> object:
        """Return the target."""
        return self.target


# Round trips ---------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=300)
@given(NOISES)
def test_text_reads_back_as_an_equal_noise(noise: SmoothingDistribution) -> None:
    again = parse_noise(str(noise))
    assert again == noise
    assert type(again) is type(noise)
    assert hash(again) == hash(noise)
    assert str(again) == str(noise)
    assert again.parameters == noise.parameters
    assert again.length_scale == noise.length_scale


@each(CASES)
def test_every_case_reads_back(noise: SmoothingDistribution, dim: int) -> None:
    assert parse_noise(str(noise)) == noise
    assert parse_noise(f"  {noise}\n") == noise
    assert eval(repr(noise), {c.__name__: c for c in type(noise).mro()} | {"inf": math.inf}) == noise
    assert copy.deepcopy(noise) == noise
    assert pickle.loads(pickle.dumps(noise)) == noise


def test_spellings() -> None:
    noise = MixedNorm(k=50, sigma=0.5)
    assert str(noise) == "mixed_norm(k=50, sigma=0.5)"
    assert repr(noise) == "MixedNorm(k=50, sigma=0.5)"
    for text in (
        "mixed_norm(50, 0.5)",
        "mixed_norm(50, sigma=.5)",
        "mixed_norm(sigma=5e-1, k=50.0)",
        " mixed_norm( k = 50,sigma=0.5 ) ",
        "mixed_norm(k=50,\nsigma=0.5)",
        "mixed_norm(k=50, sigma=0.5,)",
    ):
        assert parse_noise(text) == noise
    assert parse_noise("norm_exponential(norm=inf, power=2, k=0, scale=1)") == NormExponential(math.inf, 2, 0, 1)
    assert str(NormExponential(math.inf, 2, 0, 1)) == "norm_exponential(norm=inf, power=2, k=0, scale=1)"
    assert str(Gaussian(1e-7)) == "gaussian(sigma=1e-07)"


def test_equality_and_hash() -> None:
    assert L1Exponential(1, 0.5) == L1Exponential(1.0, 0.5)
    assert hash(L1Exponential(1, 0.5)) == hash(L1Exponential(1.0, 0.5))
    assert L1Exponential(1, 0.5) != L1Exponential(1.5, 0.5)
    assert L2Exponential(1, 0.5) != LinfExponential(1, 0.5)
    assert Gaussian(0.5) != L2Exponential(0, 0.5)  # the same law under another name: str would differ
    assert Gaussian(0.5) != "gaussian(sigma=0.5)"
    assert Gaussian(0.5) != 0.5
    assert len({Gaussian(0.5), Gaussian(sigma=0.5), parse_noise("gaussian(0.5)"), Gaussian(0.25)}) == 2


def test_numbers_of_other_libraries() -> None:
    for number in (np.float64(0.5), np.float32(0.5), torch.tensor(0.5), np.array(0.5)):
        assert Gaussian(number) == Gaussian(0.5)
        assert str(Gaussian(number)) == "gaussian(sigma=0.5)"
    for norm in (np.float64(2), torch.tensor(2), np.array(2.0)):
        assert NormExponential(norm, 2, 0, 1) == NormExponential(2, 2, 0, 1)
    assert L1Exponential(np.int64(3), 0.5) == L1Exponential(3, 0.5)
    assert str(L1Exponential(3, 0.5)) == "l1_exponential(k=3, b=0.5)"


def test_parameters_are_a_copy() -> None:
    noise = MixedNorm(2, 0.5)
    noise.parameters["k"] = -7.0
    assert noise.parameters == {"k": 2, "sigma": 0.5}


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, math.inf, -math.inf, math.nan])
def test_scales_and_powers_are_positive_and_finite(value: float) -> None:
    for make, name in SCALED:
        with pytest.raises(ParameterError, match=f"{name} must be positive and finite, not {value!r}"):
            make(value)
    with pytest.raises(ValueError, match="sigma"):
        Gaussian(value)


@pytest.mark.parametrize("k", [-1, -1e-12, -math.inf, math.inf, math.nan])
def test_exponents_are_not_negative(k: float) -> None:
    for make in TILTED:
        with pytest.raises(ParameterError, match=f"k must be 0 or more and finite, not {k!r}.*negative exponent"):
            make(k)


@pytest.mark.parametrize("norm", [0, 3, 1.5, -1, -math.inf, math.nan])
def test_other_norms(norm: float) -> None:
    with pytest.raises(ParameterError, match=f"norm must be 1, 2 or inf, not {norm!r}"):
        NormExponential(norm, 2, 0, 1)


@pytest.mark.parametrize("value", ["0.5", "big", None, [1.0], torch.ones(2), 1j])
def test_what_is_no_number(value: object) -> None:
    for make, name in SCALED:
        with pytest.raises(ParameterError, match=f"{name} must be a number"):
            make(value)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="norm must be"):
        NormExponential(value, 2, 0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "gaussian(sigma=1e-200)",
        "laplace(b=1.7e+308)",
        "laplace(b=1e-301)",
        "gaussian(sigma=1e-162)",  # 2 sigma² is denormal: it has one digit
        "gaussian(sigma=1e+200)",
        "mixed_norm(k=1, sigma=1e-200)",
        "mixed_norm(k=1, sigma=1e+200)",
        "norm_exponential(norm=2, power=0.001, k=0, scale=10)",
        "norm_exponential(norm=2, power=0.001, k=0, scale=0.1)",
        "max_tilted_exponential(power=0.001, k=0, scale=10)",
        "max_tilted_exponential(power=0.001, k=0, scale=0.1)",
    ],
)
def test_scales_whose_powers_are_no_floats(text: str) -> None:
    with pytest.raises(ParameterError, match=f"{re.escape(text)} leaves the range of a float"):
        parse_noise(text)


@pytest.mark.parametrize("k", [5e-324, 1e-307, 9e-5])
def test_exponents_whose_inverse_is_no_float(k: float) -> None:
    for make in TILTED:
        with pytest.raises(ParameterError, match=re.escape(f"k must be 0 or at least 0.0001, not {k!r}; choose 0")):
            make(k)
        make(1e-4).check_dim(2)


@pytest.mark.parametrize("power", [1 - 9e-5, 1 + 1e-12])
def test_powers_that_nearly_have_atoms(power: float) -> None:
    with pytest.raises(ParameterError, match=r"power must be 1 or differ from it by 0\.0001 or more.*choose 1"):
        NormExponential(1, power, 0, 1)


def test_k_at_or_above_the_dimension_names_all_three() -> None:
    """At use, since the dimension is the input's: ``k``, ``d`` and what to do."""
    for make in TILTED:
        noise = make(12.5)
        noise.check_dim(13)
        for dim in (12, 1):
            words = rf"k = 12\.5 .* d = {dim}: .*not integrable.*choose 0 <= k < {dim}"
            with pytest.raises(ParameterError, match=words):
                noise.check_dim(dim)
        with pytest.raises(ParameterError, match=r"k = 3 .* d = 3: "):
            make(3).check_dim(3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gaussian", "form name(parameter=number"),
        ("", "form name(parameter=number"),
        ("   ", "form name(parameter=number"),
        ("gaussian(", "form name(parameter=number"),
        ("gaussian(sigma=0.5) + 1", "form name(parameter=number"),
        ("gaussian(sigma=0.5); 1", "form name(parameter=number"),
        ("gaussian(sigma=0.5)(1)", "form name(parameter=number"),
        ("gaussian(sigma=0.5)\ngaussian(sigma=0.5)", "form name(parameter=number"),
        ("0.5", "form name(parameter=number"),
        ("gaussian(**{'sigma': 1})", "form name(parameter=number"),
        ("gaussian(sigma=\x00)", "form name(parameter=number"),
        ("gaussian()", "lacks 'sigma'"),
        ("mixed_norm()", "lacks 'k' and 'sigma'"),
        ("mixed_norm(sigma=1)", "lacks 'k'"),
        ("mixed_norm(1)", "lacks 'sigma'"),
        ("gaussian(sgma=0.5)", "gives the unknown parameter 'sgma'; it is written gaussian(sigma=...)"),
        ("mixed_norm(k=1, sigma=1, p=2)", "unknown parameter 'p'"),
        ("gaussian(0.5, 0.5)", "too many positional arguments"),
        ("gaussian(b=0.5)", "it is written gaussian(sigma=...)"),
        ("gaussian(0.5, sigma=0.5)", "multiple values"),
        ("gaussian(sigma=0.5, sigma=0.7)", "twice"),
        ("mixed_norm(k=1)", "it is written mixed_norm(k=..., sigma=...)"),
        ("norm_exponential(2, 2, 0)", "norm_exponential(norm=..., power=..., k=..., scale=...)"),
        ("gaussian(sigma=half)", "'half' is not a number"),
        ("gaussian(sigma='0.5')", "is not a number"),
        ("gaussian(sigma=True)", "'True' is not a number"),
        ("gaussian(sigma=None)", "'None' is not a number"),
        ("gaussian(sigma=1j)", "'1j' is not a number"),
        ("gaussian(sigma=1/2)", "'1 / 2' is not a number"),
        ("gaussian(sigma=[0.5])", "'[0.5]' is not a number"),
        ("gaussian(*[0.5])", "is not a number"),
        ("gaussian(sigma=-0.5)", "sigma must be positive"),
        ("gaussian(sigma=inf)", "sigma must be positive"),
        ("gaussian(sigma=nan)", "sigma must be positive"),
        ("gaussian(sigma=1e999)", "sigma must be positive"),
        ("mixed_norm(k=-1, sigma=1)", "k must be 0 or more and finite, not -1"),
        ("norm_exponential(norm=3, power=2, k=0, scale=1)", "norm must be 1, 2 or inf"),
    ],
)
def test_refused_texts(text: str, words: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(words)):
        parse_noise(text)


@pytest.mark.parametrize("value", [5, None, b"gaussian(sigma=1)", ["gaussian(sigma=1)"], Gaussian(1)], ids=repr)
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(ParameterError, match=f"noise must be text .*, not {re.escape(repr(value))}"):
        parse_noise(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "gaussian(sigma=" + "9" * 400 + ")",
        "gaussian(sigma=" + "9" * 5000 + ")",
        "gaussian(sigma=" + "-" * 20_000 + "1)",
        "gaussian(sigma=" + "(" * 3000 + "1" + ")" * 3000 + ")",
        "gaussian(" * 3000 + "1" + ")" * 3000,
        "gaussian(sigma=" + "1+" * 50_000 + "1)",
    ],
    ids=["beyond a float", "beyond a literal", "minus signs", "parentheses", "calls", "sums"],
)
def test_monstrous_texts(text: str) -> None:
    with pytest.raises(ParameterError):
        parse_noise(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "__import__('os')",
        "gaussian(sigma=__import__('os').getpid())",
        "gaussian(sigma=(lambda: 0.5)())",
        "gaussian(sigma=[x for x in (0.5,)][0])",
        "gaussian(sigma=exec('raise SystemExit'))",
        "gaussian.__class__(0.5)",
        "(lambda: 0)()",
        "gaussian(sigma=(x := 0.5))",
        "gaussian(sigma=f'{1}')",
        "print(1)",
        "exec('raise SystemExit')",
    ],
)
def test_nothing_is_evaluated(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ParameterError, UnknownNameError)):
        parse_noise(text)
    assert capsys.readouterr().out == ""


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.text(max_size=40)
    | st.builds("{}({})".format, st.sampled_from(FAMILIES), st.text("0123456789.,=-+e kbsigma()*", max_size=24))
)
def test_any_text_is_a_noise_or_an_error_of_ours(text: str) -> None:
    try:
        noise = parse_noise(text)
    except (ParameterError, UnknownNameError):
        return
    assert parse_noise(str(noise)) == noise


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gausian", "gaussian"),
        ("Gaussian", "gaussian"),
        ("mixednorm", "mixed_norm"),
        ("l2exponential", "l2_exponential"),
        ("linf_exponental", "linf_exponential"),
        ("laplacian", "laplace"),
        ("quux", None),
    ],
)
def test_did_you_mean(name: str, meant: str | None) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_noise(f"{name}(k=1, sigma=1)")
    assert f"unknown noise {name!r}" in str(caught.value)
    assert "max_tilted_exponential" in str(caught.value)
    if meant:
        assert f"Did you mean {meant!r}?" in str(caught.value)


# Families from outside -----------------------------------------------------------------------------------------------


def test_a_registered_family_is_parsed_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "_targets", dict(distributions._targets))
    distributions.register("wobble", Wobble)
    distributions.register("wobble", Wobble)
    noise = parse_noise("wobble(width=2)")
    assert noise == Wobble(2)
    assert str(noise) == "wobble(width=2, tilt=0.0)"
    assert parse_noise(str(noise)) == noise
    assert "wobble" in distributions.names()
    assert noise.sample((3, 4), generator=torch.Generator().manual_seed(0)).shape == (3, 4)
    with pytest.raises(ParameterError, match=re.escape("it is written wobble(width=..., tilt=...)")):
        parse_noise("wobble(height=2)")
    with pytest.raises(ParameterError, match="width must be positive"):
        parse_noise("wobble(width=-2)")
    with pytest.raises(ParameterError, match="'gaussian' is already taken"):
        distributions.register("gaussian", Wobble)
    with pytest.raises(UnknownNameError, match="Did you mean 'wobble'"):
        parse_noise("woble(width=2)")


def test_an_entry_point_is_found_without_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(*, group: str) -> list[Point]:
        asked.append(group)
        return [Point("wobble", Wobble), Point("broken", int)]

    monkeypatch.setattr(rs_plugin.registry, "entry_points", entry_points)
    assert parse_noise("wobble(width=2)") == Wobble(2)
    assert set(asked) == {"rs_plugin.distributions"}
    assert {"wobble", "gaussian"} <= set(distributions.names())
    assert parse_noise("gaussian(sigma=1)") == Gaussian(1)
    with pytest.raises(ParameterError, match=r"'broken' points to .*int.*not a noise"):
        parse_noise("broken(1)")


def test_without_registration_it_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match="wobble"):
        parse_noise("wobble(width=2)")


def test_the_names_are_those_of_the_families() -> None:
    assert set(distributions.names()) >= {
        "gaussian", "laplace", "l1_exponential", "l2_exponential", "linf_exponential", "mixed_norm", "norm_exponential",
        "max_tilted_exponential",
    }  # fmt: skip
    for case in CASES[:40]:
        assert distributions.get(case.noise.name) is type(case.noise)
