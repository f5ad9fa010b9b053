"""Distributions that break their contract are refused before anything is built on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rs_plugin as rs
from rs_plugin.distributions.contract import probe
from rs_plugin.errors import ParameterError
from tests.cases import SAMPLED, each


class Plain(rs.SmoothingDistribution):
    """Standard normal noise, written as a user would."""

    name = "plain"
    worst_shift_rules = frozenset({"Linf"})

    def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
        out.normal_(generator=generator)

    def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return -0.5 * (z * z).sum(1)


def variant(**attributes: Any) -> rs.SmoothingDistribution:
    members = {name: vars(Plain)[name] for name in ("name", "worst_shift_rules", "_sample", "_log_prob")}
    family = type("Variant", (rs.SmoothingDistribution,), {**members, **attributes})
    return family()  # type: ignore[no-any-return]


@each(SAMPLED)
def test_every_family_keeps_it(noise: rs.SmoothingDistribution, dim: int) -> None:
    assert probe(noise, dim).shape == (4, dim)
    assert torch.equal(probe(noise, dim), probe(noise, dim))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"_sample": lambda self, out, generator: torch.randn(out.shape)}, "must fill all of 'out' in place"),
        ({"_sample": lambda self, out, generator: out[:, :-1].zero_()}, "must fill all of 'out' in place"),
        ({"_log_prob": lambda self, z: -0.5 * z * z}, r"is \(4, 7\);.*one number a row"),
        ({"_log_prob": lambda self, z: torch.full((len(z),), torch.nan)}, "one number a row"),
        ({"_log_prob": lambda self, z: 0.0}, "is float;.*one number a row"),
    ],
)
def test_broken_methods(attributes: dict[str, Any], message: str) -> None:
    noise = variant(**attributes)
    with pytest.raises(ParameterError, match=message):
        probe(noise, 7)
    base = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(7, 3))
    with pytest.raises(ParameterError, match=message):
        rs.SmoothedClassifier(base, noise, 3).certify(torch.rand(1, 1, 1, 7), "Linf", method="monte_carlo")
    with pytest.raises(ParameterError, match=message):
        rs.certificate(noise, "Linf", 7, method="monte_carlo").required_probability(0.1)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": None}, "Variant has no name"),
        ({"arg_constraints": {"s": "poz"}}, "arg_constraints has 'poz'; known: positive"),
        ({"worst_shift_rules": frozenset({"Linfty"})}, "worst_shift_rules has 'Linfty'; known: L1, L2, Linf"),
    ],
)
def test_broken_declarations(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        variant(**attributes)


@pytest.mark.parametrize("method", ["_sample", "_log_prob", "_finish"])
@pytest.mark.parametrize("parent", [rs.Gaussian, rs.MixedNorm, Plain])
def test_what_is_proven_for_a_parent_does_not_pass_to_other_noise(parent: type, method: str) -> None:
    with pytest.raises(ParameterError, match=f"Other draws or weighs .* proven for (NormE|MaxT|{parent.__name__})"):
        type("Other", (parent,), {method: lambda self, *arguments: None})


def test_a_parent_may_be_scaled_or_declared_anew() -> None:
    class Named(rs.Gaussian):
        name = "named"

    class Anew(Plain):
        worst_shift_rules = frozenset({"L2"})

        def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
            return -z.norm(dim=1)

    assert rs.certificate(Named(0.5), "L2", 3).method == "closed_form"
    assert Anew().worst_shift_rules == {"L2"}


def test_names_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rs.register_noise.__self__, "_targets", {})  # type: ignore[attr-defined]
    rs.register_noise("plain", Plain)
    assert type(rs.parse_noise("plain()")) is Plain
    with pytest.raises(ParameterError, match="would point to 3, which is not a noise"):
        rs.register_noise("three", 3)  # type: ignore[arg-type]
