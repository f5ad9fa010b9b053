"""Lower bounds L(p; r): closed forms for Laplace (L1) and Gaussian (L2), the one-dimensional law of l for the rest.

Laplace: ``l = (|z_1| - |z_1 - r|) / b`` lives on one coordinate, and the worst event of probability p under the noise
is the half-line ``z_1 <= q`` (mapped to ``z_1 <= q - r``); the three pieces of the closed form are the signs of q and
q - r. The closed forms are also compared here with the numerical route that the other families use.
"""

from __future__ import annotations

import numpy as np
from check_radius_first import law as radius_first
from generate_high_dim import from_text
from oracle_common import lower_bound, merge
from scipy.special import ndtr, ndtri

PS = [1e-4, 0.01, 0.1, 0.3, 0.49, 0.5, 0.51, 0.6, 0.75, 0.9, 0.99, 0.999, 0.9999]


def laplace(p: float, r: float, b: float) -> float:
    """P(z_1 <= q - r) at the quantile q of level p."""
    e = np.exp(-r / b)
    if p <= 0.5:
        return float(e * p)
    if p <= 1 - e / 2:
        return float(e / (4 * (1 - p)))
    return float(1 - (1 - p) / e)


def main() -> None:
    """Write the section ``lower_bound``."""
    cases = []

    def add(noise, threat, d, r, p, value, tol, method):
        cases.append({"noise": noise, "threat": threat, "dim": d,
                      "radius": r, "p": p, "L": float(value), "tolerance": tol,
                          "method": method})

    for b in (1.0, 0.35):
        for d in (1, 2, 5, 3072):
            for r in (0.05, 0.5, 1.3, 3.0):
                noise, law = from_text("laplace", 0, b, d, "L1")
                for p in PS:
                    value = laplace(p, r, b)
                    if b == 1.0 and d == 5 and r == 0.5 and p in (0.3, 0.6, 0.9):
                        numeric = lower_bound(law.cdf(r), p)
                        assert abs(numeric - value) < 1e-10, (r, p, numeric, value)
                    add(noise, "L1", d, r, p, value, 1e-14, "closed form")
    for s in (1.0, 0.25):
        for d in (1, 2, 5, 3072):
            for r in (0.05, 0.25, 1.0, 2.5):
                noise, law = from_text("gaussian", 0, s, d, "L2")
                for p in PS:
                    value = ndtr(ndtri(p) - r / s)
                    if s == 1.0 and d in (2, 3072) and r == 1.0 and p in (0.1, 0.9, 0.999):
                        numeric = lower_bound(law.cdf(r), p)
                        assert abs(numeric - value) < 1e-10, (d, p, numeric, value)
                    add(noise, "L2", d, r, p, value, 1e-14, "closed form")
    print("closed forms agree with the numerical route")
    merge("lower_bound", cases)
    rest = [
        ("l2_exponential", 0.7, 1.0, 2, "L2", (0.3, 1.5)), ("l2_exponential", 250, 1.043355, 3072, "L2", (0.5, 1.5)),
        ("l1_exponential", 1, 1.0, 3, "L1", (0.3, 2.0)), ("l1_exponential", 250, 1.0885897, 3072, "L1", (0.5,)),
        ("linf_exponential", 1, 1.0, 5, "Linf", (0.3, 0.8)), ("linf_exponential", 1, 1.0, 5, "L1", (0.3, 2.0)),
        ("linf_exponential", 32, 1.0, 784, "Linf", (0.002,)), ("linf_exponential", 0, 1.0, 3, "L1", (0.5,)),
    ]
    for family, k, s, d, threat, radii in rest:
        noise, law = from_text(family, k, s, d, threat)
        for r in radii:
            F = law.cdf(r)
            other = radius_first(law.norm, law.power, law.k, law.scale, d, threat, r)
            for p in (1e-4, 0.05, 0.3, 0.5, 0.7, 0.95, 0.9999):
                value = lower_bound(F, p)
                gap = abs(value - lower_bound(other, p))
                if gap > 1e-9:
                    print("  DISAGREE", noise, d, r, p, value, gap)
                add(noise, threat, d, r, p, value, max(1e-9, 3 * gap), "agreeing: angle first, radius first")
            merge("lower_bound", cases)
            print(noise, threat, d, r, [round(c["L"], 6) for c in cases[-7:]], flush=True)
    merge("lower_bound", cases)


if __name__ == "__main__":
    main()
