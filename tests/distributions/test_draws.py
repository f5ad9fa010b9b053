"""The elementary draws that the samplers share.

Each of some 60 statistical checks fails by chance with probability 1e-8 on another stream of random numbers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from rs_plugin.distributions.draws import (
    log_gamma_draws,
    put_extreme_,
    symmetric_uniform_,
    to_laplace_,
    to_truncated_normal_,
    uniform_columns,
    wide_truncated_normal_,
)

FLOATS = (torch.float32, torch.float64)
FAILURE = 1e-8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def truncated_normal(out: torch.Tensor, bounds: torch.Tensor, source: torch.Generator, *, wide: bool) -> torch.Tensor:
    if wide:
        return wide_truncated_normal_(out, bounds, source)
    return to_truncated_normal_(symmetric_uniform_(out, source), bounds)


def check(values: np.ndarray) -> None:
    assert stats.kstest(values, "uniform").pvalue > FAILURE


@pytest.mark.parametrize("dtype", FLOATS)
def test_symmetric_uniform(dtype: torch.dtype) -> None:
    out = torch.empty(200_000, dtype=dtype)
    assert symmetric_uniform_(out, generator()) is out
    check((out.double().numpy() + 1) / 2)
    assert float(out.abs().min()) > 0
    assert float(out.abs().max()) < 1
    # Odd multiples of half the epsilon: their negatives are as likely, and 1 - |v| is exact.
    steps = out.double() / (torch.finfo(dtype).eps / 2)
    assert torch.equal(steps, steps.round())
    assert torch.all(steps.remainder(2) == 1)
    assert torch.equal((1 - out.abs()).double(), 1 - out.abs().double())


def test_symmetric_uniform_reaches_both_ends_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, generator: self.copy_(ends))
    low, high = symmetric_uniform_(torch.empty(2), generator()).tolist()
    assert low == -high == -(1 - 2.0**-24)


@pytest.mark.parametrize("dtype", FLOATS)
def test_laplace(dtype: torch.dtype) -> None:
    out = to_laplace_(symmetric_uniform_(torch.empty(200_000, dtype=dtype), generator(1))).double().numpy()
    check(stats.laplace.cdf(out))
    assert np.isfinite(out).all()
    assert (out != 0).all()


@pytest.mark.parametrize("shape", [1e-3, 0.1, 0.5, 1.0, 1.5, 30.0, 75264.0])
def test_log_gamma(shape: float) -> None:
    """Below ``x = 1e-280`` the probability is ``x^a / Γ(a + 1)``, whatever the float's range."""
    logs = log_gamma_draws(shape, 50_000, generator(2)).numpy()
    assert logs.dtype == np.float64
    assert np.isfinite(logs).all()
    tail = np.exp(np.minimum(shape * logs - special.gammaln(shape + 1), 0.0))
    check(np.where(logs < -640, tail, special.gammainc(shape, np.exp(np.maximum(logs, -640)))))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_put_extreme(dtype: torch.dtype, dim: int) -> None:
    count = 20_000
    out = symmetric_uniform_(torch.empty((count, dim), dtype=dtype), generator(3))
    before = out.clone()
    size = 1 + torch.arange(count, dtype=dtype)
    put_extreme_(out, uniform_columns(torch.rand(count, dtype=torch.float64, generator=generator(4)), dim), size)
    changed = out != before
    assert torch.all(changed.sum(1) == 1)
    assert torch.equal(out.abs().amax(1), size)
    assert torch.equal(out.sign(), before.sign())
    assert stats.chisquare(changed.sum(0).numpy()).pvalue > FAILURE or dim == 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bound", [1e-30, 0.01, 0.7, 2.4, 2.6, 4.0, 30.0])
@pytest.mark.parametrize("wide", [False, True])
def test_truncated_normal(dtype: torch.dtype, bound: float, wide: bool) -> None:
    """Both ways of drawing, with rows of wider bounds in the same block, never beyond any bound."""
    bounds = torch.full((20_000,), bound, dtype=torch.float64)
    bounds[::2] = 1.5 * bound
    out = truncated_normal(torch.empty((20_000, 3), dtype=dtype), bounds, generator(5), wide=wide)
    limit = bounds.to(dtype).view(-1, 1)
    assert torch.all(out.abs() <= limit)
    z = out.double().numpy()
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        b = float(bounds[rows][0])
        share = special.erf(z[rows] / math.sqrt(2)) / special.erf(b / math.sqrt(2))
        check((1 + share.ravel()) / 2)
        assert abs(np.corrcoef(z[rows].T)[0, 1]) < stats.norm.isf(FAILURE / 2) / math.sqrt(10_000)


@pytest.mark.parametrize("wide", [False, True])
def test_truncated_normal_of_no_width(wide: bool) -> None:
    """A bound that has underflowed leaves 0, not 0/0."""
    bounds = torch.tensor([0.0, 1e-320, 1.0, 5.0], dtype=torch.float64)
    out = truncated_normal(torch.empty((4, 3)), bounds, generator(), wide=wide)
    assert torch.isfinite(out).all()
    assert torch.equal(out[:2], torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_exact_tie_with_the_bound_is_kept_inside(dtype: torch.dtype) -> None:
    """Draws that are drawn again are rounded no further than to the bound itself."""
    bounds = torch.full((100_000,), 2.5000001, dtype=torch.float64)
    out = truncated_normal(torch.empty((100_000, 2), dtype=dtype), bounds, generator(6), wide=True)
    assert torch.all(out.abs() <= bounds.to(dtype).view(-1, 1))
    assert float(out.abs().max()) > 2.4999
