"""MixedNorm as ``k`` nears ``d``: the noise collapses, its maximum spans thousands of decades and underflows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special

from rs_plugin import MixedNorm, certificate
from rs_plugin.distributions.laws.max_tilted import MaxTiltedLaw

CASES = [
    (1.99, 2), (1.999, 2), (2.9, 3), (2.99, 3), (2.999, 3), (9.99, 10), (15.9, 16), (15.99, 16), (63.99, 64),
    (3071.9, 3072), (3071.999, 3072),
]  # fmt: skip


def tail(k: float, dim: int, t: float, radius: float) -> tuple[float, float]:
    law = MaxTiltedLaw(k, dim)
    tails = law.tails(np.array([t]), np.array([radius]), law.accuracy)
    return float(tails.above[0]), float(tails.error[0])


@pytest.mark.parametrize(("k", "dim"), [*CASES, (2 - 1e-9, 2), (3 - 1e-15, 3), (64 - 1e-9, 64), (3072 - 1e-12, 3072)])
def test_every_value_is_one_and_nothing_warns(k: float, dim: int) -> None:
    bounds = certificate(MixedNorm(k, 0.5), "Linf", dim)
    radii = np.array([1e-300, 1e-40, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 1e6, 1e200])
    value = bounds.required_probability(radii)
    # Each is rounded up by an error of its own, up to twice the law's accuracy.
    assert ((value >= 0.5) & (value <= 1.0)).all() and (np.diff(value) >= -1e-6).all() and value[-1] == 1.0
    lower = bounds.lower_bound(np.array([[0.01], [0.6], [0.99]]), radii)
    assert ((lower >= 0.0) & (lower <= [[0.01], [0.6], [0.99]])).all()
    # At a visible radius next to all of the noise is far nearer to its centre than the shift.
    assert value[4] > 0.998


@pytest.mark.parametrize(("k", "dim"), [(1.99, 2), (2.9, 3), (63.99, 64), (3071.9, 3072), (3071.999, 3072)])
def test_radii(k: float, dim: int) -> None:
    bounds = certificate(MixedNorm(k, 1.0), "Linf", dim)
    p = np.array([0.51, 0.9])
    radius = bounds.radius(p)
    assert (np.diff(radius) >= 0.0).all() and (radius < 1e-3).all()
    # At 3071.999 the required probability is 1 at the smallest float already.
    assert (radius > 0.0).tolist() == [k != 3071.999] * 2
    positive = radius > 0.0
    assert (bounds.required_probability(radius[positive]) <= p[positive] + 1e-12).all()
    # And no smaller than it need be: at a radius larger by a thousandth it no longer certifies.
    assert (bounds.required_probability(radius[positive] * 1.001 ** (1 / (dim - k))) > p[positive]).all()


def by_grid(k: float, t: float, radius: float) -> float:
    """Return ``P(ℓ > t)`` in two dimensions from its definition: the extreme is ``±m`` and the other coordinate ``c``.

    In ``x = log m`` the density is ``m^{2-k} h(m)`` with ``h = e^{-m²} erf(m) / m``; by parts its integral is that of
    ``-m^{2-k} h'(m) / (2 - k)``, which is not singular. Below ``log r - 6`` every ``c`` gives the same ``ℓ`` to 1%,
    and there ``h`` is constant.
    """
    start, middle, end = math.log(radius) - 6.0, math.log(radius) + 6.0, 1.8
    assert end > middle

    def slope(m: float) -> float:
        gauss = math.exp(-m * m)
        return -2.0 * gauss * math.erf(m) + gauss * (2 / math.sqrt(math.pi) * gauss * m - math.erf(m)) / (m * m)

    total = -integrate.quad(lambda m: m ** (2.0 - k) * slope(m), 1e-6, 8.0, epsabs=1e-13)[0] / (2.0 - k)
    c = (np.arange(4000) + 0.5) / 2000 - 1.0

    def share(x: np.ndarray) -> np.ndarray:
        m = np.exp(x)[:, None]
        other = m * c
        weight = np.exp(-other * other)
        value = np.zeros(len(x))
        for extreme in (-m, m):
            shifted = np.maximum(np.abs(extreme - radius), np.abs(other - radius))
            ratio = -k * np.log(shifted / m) + 2.0 * radius * (extreme + other) - 2.0 * radius**2
            value += 0.5 * ((ratio > t) * weight).sum(1) / weight.sum(1)
        return value

    # Deep in the tail ℓ = k (x - log r), up to terms of the order of m / r.
    step = math.log(radius) + (t + 2.0 * radius**2) / k
    deep = max(0.0, math.exp((2 - k) * start) - math.exp((2 - k) * step)) if step < start else 0.0
    value = 2 / math.sqrt(math.pi) * deep / ((2 - k) * total)
    for a, b, count in ((start, middle, 6000), (middle, end, 2000)):
        x = a + (b - a) * (np.arange(count) + 0.5) / count
        m = np.exp(x)
        value += (b - a) / count * float((m ** (2 - k) * np.exp(-m * m) * special.erf(m) / m * share(x)).sum() / total)
    return value


@pytest.mark.parametrize("k", [1.9, 1.99, 1.999])
@pytest.mark.parametrize("radius", [1e-9, 1e-3])
@pytest.mark.parametrize("t", [-300.0, -25.0, -1.0, -0.1, 0.1, 1.0, 4.0])
def test_two_dimensions_by_a_grid(k: float, radius: float, t: float) -> None:
    value, error = tail(k, 2, t, radius)
    # The grid has cells of 1/2000 in c and 1/500 in x, where the mass per unit of x is about 2 - k.
    assert value == pytest.approx(by_grid(k, t, radius), abs=2e-3 * (2 - k)) and error < 1e-6


@pytest.mark.parametrize(("k", "dim"), CASES)
@pytest.mark.parametrize("t", [-500.0, -3.0, -0.3])
def test_scales(k: float, dim: int, t: float) -> None:
    """Where ``m`` and ``r`` are small only their ratio counts, and ``P(m <= x)`` is a multiple of ``x^{d-k}``."""
    small, large = 1e-280, 1e-15
    (near, near_error), (far, far_error) = tail(k, dim, t, small), tail(k, dim, t, large)
    ratio = (small / large) ** (dim - k)
    assert 1.0 - near == pytest.approx(ratio * (1.0 - far), abs=near_error + far_error + 1e-12)


@pytest.mark.parametrize("t", [-2000.0, -40.0])
@pytest.mark.parametrize(("k", "dim"), CASES)
def test_the_left_tail(k: float, dim: int, t: float) -> None:
    """For ``t`` far below 0, ``ℓ <= t`` if ``log m <= log r + t / k``, but for terms of the order of ``m / r``."""
    law, radius = MaxTiltedLaw(k, dim), 1e-9
    turn = math.log(radius) + t / k
    if turn > math.log(radius) - 0.1 or turn < law._maximum.low:
        pytest.skip("not far in the tail")
    value, _ = tail(k, dim, t, radius)
    slope = float(np.exp(law._maximum.log_density(np.array([turn])))[0])  # of the law of log m, e^{(d-k) x} there
    # The ratio of m and r moves the turn by at most that much, and by log 2 at worst.
    ratio = 2.0 * min(math.exp(t / k), 0.5)
    assert 1.0 - value == pytest.approx(slope / (dim - k), abs=slope * ratio + 1e-9)


@pytest.mark.parametrize("dim", [2, 3, 16, 3072])
def test_the_noise_collapses(dim: int) -> None:
    gaps = np.array([0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-6, 1e-9])
    for radius in (1e-12, 1e-4, 0.1):
        value = [certificate(MixedNorm(dim - gap, 1.0), "Linf", dim).required_probability(radius) for gap in gaps]
        assert (np.diff(value) >= -1e-6).all() and value[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("k", "dim"), [(2.99, 3), (15.99, 16)])
def test_continuity(k: float, dim: int) -> None:
    near = certificate(MixedNorm(k * (1 + 1e-10), 1.0), "Linf", dim).required_probability([1e-80, 1e-40])
    here = certificate(MixedNorm(k, 1.0), "Linf", dim).required_probability([1e-80, 1e-40])
    assert near == pytest.approx(here, abs=2e-6)


@pytest.mark.parametrize(
    ("k", "dim", "radius"),
    [(2.9, 3, 1e-6), (2.99, 3, 1e-60), (15.9, 16, 1e-9), (15.99, 16, 1e-200), (63.99, 64, 1e-100), (1.9, 2, 1e-5)],
)
def test_symmetry(k: float, dim: int, radius: float) -> None:
    """``dF(-t) = e^t dF(t)``, as in ``test_laws``; the mass between is of the order of ``d - k``."""
    law = MaxTiltedLaw(k, dim)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    a, b = 0.4, 0.9
    t = a + (b - a) * (nodes + 1) / 2
    at = np.concatenate([[a, b, -a, -b], t])
    tails = law.tails(at, np.full(len(at), radius), law.accuracy)
    assert (tails.error < 1e-6).all()
    above_a, above_b, above_less_a, above_less_b = tails.at_least[:4]
    mirrored = math.exp(a) * above_a - math.exp(b) * above_b + (b - a) / 2 * weights @ (np.exp(t) * tails.at_least[4:])
    assert above_less_b - above_less_a == pytest.approx(mirrored, abs=1e-6)
    assert mirrored > 1e-3 * (dim - k)  # there is something to compare


@pytest.mark.parametrize(
    ("k", "dim", "radius", "t"),
    [(11.8, 12, 0.0779987611036351, -9.738537324749245), (11.8, 12, 0.014138691355993613, -3.0734259372426522),
     (7.8, 8, 0.06565480327742737, -5.57997769210029)],
)  # fmt: skip
def test_a_narrow_step_beside_a_panels_end_is_seen(k: float, dim: int, radius: float, t: float) -> None:
    """Given ``m``, the tail rises within a thousandth of the range, which the outermost node of a rule can miss."""
    law = MaxTiltedLaw(k, dim)
    tails = law.tails(np.array([t]), np.array([radius]), law.accuracy)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(law._maximum.low, law._maximum.high, 641)
    edges = np.unique(np.concatenate([edges, np.linspace(math.log(radius) - 3.0, math.log(radius) + 3.0, 3001)]))
    widths = np.diff(edges)[:, None]
    x = edges[:-1, None] + widths * (nodes + 1) / 2
    given, _ = law._given_maximum(np.exp(x.ravel()), t, radius, 1e-9, quick=False)
    fine = float((widths * weights / 2 * np.exp(law._maximum.log_density(x)) * given.reshape(x.shape)).sum())
    assert tails.above[0] == pytest.approx(fine, rel=0, abs=float(tails.error[0]) + 3e-8)
