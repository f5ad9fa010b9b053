"""Monte Carlo sanity check of reference.json, d <= 64: sampling from the definition, no formula for the law of l.

The noise is drawn by a radius and a direction (or, MixedNorm, by a tabulated law of the maximum), l is evaluated from
the density's definition at the worst shift, and p* = min over lambda of (1/2 + E(lambda - e^l)_+) / lambda is
minimised over the sample. Prints the difference in standard errors and fails beyond 5.
"""

from __future__ import annotations

import json
import re
import sys

import numpy as np
from oracle_common import REFERENCE
from scipy.special import erf, ndtr, ndtri

RNG = np.random.default_rng(20240)
BLOCK = 200_000


def parse(noise: str) -> tuple[str, dict[str, object]]:
    """Family and parameters of a name."""
    family, inside = re.fullmatch(r"(\w+)\((.*)\)", noise).groups()
    pairs = (p.split("=") for p in inside.split(", "))
    return family, {a: (b if a == "norm" else float(b)) for a, b in pairs}


def canonical(noise: str) -> tuple[str, str, float, float, float]:
    """(norm of the singularity, norm of the exponential, power, k, scale)."""
    family, q = parse(noise)
    if family in ("laplace", "l1_exponential"):
        return "L1", "L1", 1.0, q.get("k", 0.0), q["b"]
    if family == "norm_exponential":
        return q["norm"], q["norm"], q["power"], q["k"], q["scale"]
    n1, n2 = {"gaussian": ("L2", "L2"), "l2_exponential": ("L2", "L2"), "linf_exponential": ("Linf", "Linf"),
              "mixed_norm": ("Linf", "L2")}[family]
    return n1, n2, 2.0, q.get("k", 0.0), 2 * q["sigma"] ** 2


def norm(z: np.ndarray, which: str) -> np.ndarray:
    """Row norms."""
    return np.linalg.norm(z, {"L1": 1, "L2": 2, "Linf": np.inf}[which], axis=1)


def sample(spec: tuple[str, str, float, float, float], d: int, n: int) -> np.ndarray:
    """Draws of the noise."""
    n1, n2, power, k, scale = spec
    if n1 != n2:
        x = np.linspace(-4 - 40 / (d - k), 3, 200_001)  # log m; the left tail is m^(d-k)
        m = np.exp(x)
        lw = -k * x + x - m * m / 2 + (d - 1) * np.log(erf(m / np.sqrt(2)))
        c = np.concatenate([[0], np.cumsum((np.exp(lw - lw.max())[1:] + np.exp(lw - lw.max())[:-1]) / 2)])
        m = np.exp(np.interp(RNG.random(n) * c[-1], c, x))
        u = RNG.random((n, d))
        z = np.where(m[:, None] < 1e-6, m[:, None] * (2 * u - 1), 0.0)
        wide = m >= 1e-6
        z[wide] = ndtri(ndtr(-m[wide])[:, None] + u[wide] * erf(m[wide] / np.sqrt(2))[:, None])
        z[np.arange(n), RNG.integers(d, size=n)] = m * RNG.choice([-1.0, 1.0], n)
        return z * np.sqrt(scale / 2)
    u = {"L1": lambda: RNG.laplace(size=(n, d)), "L2": lambda: RNG.normal(size=(n, d)),
         "Linf": lambda: RNG.uniform(-1, 1, (n, d))}[n1]()
    if n1 == "Linf":
        u[np.arange(n), RNG.integers(d, size=n)] = RNG.choice([-1.0, 1.0], n)
    u /= norm(u, n1)[:, None]
    return u * ((RNG.gamma((d - k) / power, size=n) * scale) ** (1 / power))[:, None]


def log_ratio(spec: tuple[str, str, float, float, float], z: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """L from the definition."""
    n1, n2, power, k, scale = spec

    def log_density(x):
        return -k * np.log(norm(x, n1)) - norm(x, n2) ** power / scale
    return log_density(z - delta) - log_density(z)


def main(total: int, every: int) -> None:
    """Check every ``every``-th eligible case with ``total`` draws."""
    cases = [c for c in json.loads(REFERENCE.read_text())["p_star"] if c["dim"] <= 64]
    worst, beyond = 0.0, 0
    for c in cases[::every]:
        spec, d = canonical(c["noise"]), c["dim"]
        delta = np.zeros(d)
        delta[: d if c["threat"] == "Linf" else 1] = c["radius"]
        ell = np.concatenate([log_ratio(spec, sample(spec, d, BLOCK), delta) for _ in range(total // BLOCK)])
        ell = np.sort(ell)
        lam = np.exp(-ell[:: max(1, ell.size // 4000)])  # the optimum is exp(-median)
        head = np.concatenate([[0.0], np.cumsum(np.exp(np.minimum(ell, 700)))])
        i = np.searchsorted(ell, np.log(lam), side="right")
        values = (0.5 + lam * i / ell.size - head[i] / ell.size) / lam
        best = int(np.argmin(values))
        spread = np.std(np.maximum(1 - np.exp(np.minimum(ell, 700)) / lam[best], 0)) / np.sqrt(ell.size)
        z = (values[best] - c["p_star"]) / max(spread, 5 / ell.size)
        worst = max(worst, abs(z))
        beyond += abs(z) > 5
        print(f"{z:+.2f} {values[best]:.6f} {c['p_star']:.6f} {c['noise']} {c['threat']} {d} {c['radius']}", flush=True)
    print(f"worst {worst:.2f} standard errors, {beyond} beyond 5")


if __name__ == "__main__":
    main(int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
