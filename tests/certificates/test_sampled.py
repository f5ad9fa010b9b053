"""Monte-Carlo certificates: valid with the stated probability, and never better than what is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rs_plugin import SmoothingDistribution, certificate
from rs_plugin.distributions import Gaussian, Laplace, LinfExponential, MixedNorm
from rs_plugin.errors import UnsupportedThreatError

METHODS = ("dual", "monte_carlo")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("noise", "threat"), [(Gaussian(0.5), "L2"), (Laplace(0.5), "L1")], ids=str)
def test_coverage_of_the_table(method: str, noise: SmoothingDistribution, threat: str) -> None:
    """Of 40 tables at alpha = 0.2, at most 18 have a cell below the truth: P(Bin(40, 0.2) > 18) = 1e-4."""
    tables, alpha = 40, 0.2
    law = certificate(noise, threat, 2, "closed_form")
    failures = 0
    for seed in range(tables):
        bounds = certificate(noise, threat, 2, method, n=2000, alpha=alpha, generator=seeded(seed))._sources[0].bounds
        truth = law.discrepancy(bounds._lambdas, bounds._radii[:, None] * noise.length_scale)  # type: ignore[attr-defined]
        # The truth is rounded up by 1e-13 and more.
        failures += bool((bounds._table < truth - 1e-9 * (1 + bounds._lambdas)).any())  # type: ignore[attr-defined]
    assert failures <= stats.binom.isf(1e-4, tables, alpha)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("noise", "threat", "dim"),
    [
        (Gaussian(0.5), "L2", 3072),
        (Laplace(0.3), "L1", 20),
        (LinfExponential(1, 1.0), "L1", 5),
        (MixedNorm(3, 0.5), "Linf", 20),
    ],
    ids=str,
)
def test_sandwich(method: str, noise: SmoothingDistribution, threat: str, dim: int) -> None:
    """Fails by chance with probability 1e-4 at most, the default alpha, were the seed another."""
    exact = certificate(noise, threat, dim)
    draws = 4000 if dim > 1000 else 20_000
    sampled = certificate(noise, threat, dim, method, n=draws, generator=seeded(1))
    p = np.array([0.6, 0.75, 0.9, 0.97])
    radius = exact.radius(p)
    assert (sampled.required_probability(radius) >= exact.required_probability(radius) - 1e-7).all()
    assert (sampled.radius(p) <= radius * (1 + 1e-5)).all()
    assert (sampled.lower_bound(p, radius) <= exact.lower_bound(p, radius) + 1e-7).all()
    lam = np.array([0.3, 1.0, 3.0])
    assert (sampled.discrepancy(lam, radius[1]) >= exact.discrepancy(lam, radius[1]) - 1e-6).all()
    # Cells carry about 5 deviations of 1/(2 √n), and radii are a grid of 64.
    assert sampled.required_probability(radius[1]) <= p[1] + 8 / math.sqrt(draws) + 0.05
    assert sampled.radius(1.0) < math.inf


@pytest.mark.parametrize("method", METHODS)
def test_arguments_and_determinism(method: str) -> None:
    def required(**arguments: object) -> float:
        return float(certificate(Gaussian(0.5), "L2", 3, method, **arguments).required_probability(0.3))  # type: ignore[arg-type]

    assert required(n=5000) == required(n=5000, generator=seeded(0))
    assert required(n=5000, generator=seeded(1)) != required(n=5000, generator=seeded(2))
    assert required(n=5000, alpha=0.5) < required(n=5000, alpha=1e-9)
    assert required(n=40_000) < required(n=1000)
    assert certificate(Gaussian(0.5), "L2", 3, method, n=1000, alpha=0.01).failure_probability == 0.01


class Logistic(SmoothingDistribution):
    """Independent logistic coordinates: log-concave and symmetric, so the rules of L1 and Linf hold."""

    name = "logistic_of_a_user"
    worst_shift_rules = frozenset({"L1", "Linf"})

    def _sample(self, out: torch.Tensor, generator: torch.Generator) -> None:
        u = torch.rand(out.shape, generator=generator, dtype=torch.float64).clamp_(1e-15, 1 - 1e-15)
        out.copy_(torch.logit(u))

    def _log_prob(self, z: torch.Tensor) -> torch.Tensor:
        return (-z - 2 * torch.nn.functional.softplus(-z)).sum(1)


class Undeclared(Logistic):
    """The same, without a rule."""

    name = "undeclared_of_a_user"
    worst_shift_rules = frozenset()


@pytest.mark.parametrize("method", METHODS)
def test_a_distribution_of_a_user(method: str) -> None:
    found = certificate(Logistic(), "L1", 4, method, n=20_000, generator=seeded(3))
    # Under L1 one coordinate decides; there e^ℓ increases in z₁ alone, so p*(r) is the logistic function at r.
    truth = 1 / (1 + math.exp(-1.0))
    assert truth <= found.required_probability(1.0) <= truth + 0.08
    assert 0 < found.radius(0.8) <= math.log(4.0)
    assert found.radius(0.4, 0.1) > 0
    # L2 comes from L1 through √d or from Linf.
    assert certificate(Logistic(), "L2", 4, method, n=2000).radius(0.9) > 0


def test_a_user_without_rules_is_refused() -> None:
    for method in ("auto", *METHODS):
        with pytest.raises(UnsupportedThreatError, match="worst_shift_rules"):
            certificate(Undeclared(), "L1", 4, method)
    with pytest.raises(UnsupportedThreatError, match="monte_carlo"):
        certificate(Logistic(), "L1", 4)


@pytest.mark.parametrize("seed", range(4))
def test_an_atom_inside_the_law_is_counted_whole(seed: int) -> None:
    """Laplace noise under Linf in the plane has an atom at ``ℓ = 0``; at this radius p* is 0.6110310 by convolution."""
    generator = torch.Generator().manual_seed(seed)
    table = certificate(Laplace(1.0), "Linf", 2, "monte_carlo", n=100_000, alpha=1e-4, generator=generator)
    assert table.required_probability(0.22373300498480606 * (1 - 1e-12)) > 0.6110309
