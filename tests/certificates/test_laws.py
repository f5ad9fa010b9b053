"""An identity that every law of the log likelihood ratio obeys, whatever the family: ``dF(-t) = e^t dF(t)``.

For symmetric noise the law of ``ℓ`` under the shifted noise is that of ``-ℓ`` under the noise itself, and the ratio of
the two at ``t`` is ``e^t``. So ``P(-b <= ℓ < -a) = ∫_a^b e^t dF(t)``, which by parts needs tails alone.
"""

from __future__ import annotations

import numpy as np
import pytest

from rs_plugin import L1Exponential, L2Exponential, LinfExponential, MixedNorm, SmoothingDistribution


@pytest.mark.parametrize(
    ("noise", "threat", "dim", "radius", "deviation"),
    [
        (MixedNorm(2.2, 1.0), "Linf", 3, 0.01434, 0.04),
        (MixedNorm(2.2, 1.0), "Linf", 3, 0.2147, 0.9),
        (MixedNorm(1.0, 1.0), "Linf", 4, 0.1, 0.2),
        (MixedNorm(20.0, 1.0), "Linf", 64, 0.05, 0.4),
        (MixedNorm(250.0, 1.0), "Linf", 3072, 0.0086, 0.5),
        (MixedNorm(3060.0, 1.0), "Linf", 3072, 2e-5, 0.4),
        (L2Exponential(250.0, 1.0), "L2", 3072, 1.0, 1.0),
        (L2Exponential(1.5, 1.0), "L2", 2, 0.5, 0.5),
        (L1Exponential(250.0, 1.0), "L1", 3072, 0.5, 0.3),
        (LinfExponential(1.0, 1.0), "Linf", 5, 0.3, 0.5),
    ],
    ids=str,
)
def test_symmetry(noise: SmoothingDistribution, threat: str, dim: int, radius: float, deviation: float) -> None:
    law = noise.log_ratio_law(threat, dim)  # type: ignore[arg-type]
    assert law is not None
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def tail(t: float | np.ndarray) -> np.ndarray:
        at = np.atleast_1d(np.asarray(t, dtype=np.float64))
        values = law.tails(at, np.full(len(at), radius / noise.length_scale), law.accuracy)
        assert (values.error < 1e-5).all()
        return values.at_least

    a, b = 0.5 * deviation, 0.8 * deviation
    t = a + (b - a) * (nodes + 1) / 2
    mirrored = np.exp(a) * tail(a) - np.exp(b) * tail(b) + (b - a) / 2 * weights @ (np.exp(t) * tail(t))
    # The tails are right to 3e-7 at worst (few summands); the rule of 40 nodes meets kinks at worst.
    assert (tail(-b) - tail(-a))[0] == pytest.approx(mirrored[0], abs=2e-6)
    assert mirrored[0] > 1e-4  # there is something to compare
