"""Moments, mean norms and log normalisers, from one-dimensional integrals and brute-force cubature.

``z = R u``: ``E R^j = scale^(j/p) Gamma((d-k+j)/p) / Gamma((d-k)/p)``. Means of ``||u||_2`` over the l1 sphere and the
cube surface, and of ``||z||_2`` for MixedNorm, come from ``E sqrt(X) = (1 / 2 sqrt(pi)) int (1 - E e^(-tX)) t^(-3/2)
dt``. Mean maxima come from ``E max = int P(max > x) dx``. Every number is checked by Monte Carlo for d <= 64.
Log normalisers (d <= 3): ``log int ||z||^-k exp(-...) dz`` with ``z = x (1, y)`` on the faces of the cube (Cartesian
y), the singularity removed by ``x = s^(1/(d-k))``; mpmath, 30 digits.
"""

from __future__ import annotations

import math
import sys

import mpmath as mp
import numpy as np
from check_monte_carlo import canonical, norm, sample
from generate_mixed_norm import log_mass
from oracle_common import merge, name
from scipy.integrate import quad
from scipy.special import erf, erfcx, gammaln, ndtr


def root_mean(laplace, scale: float) -> float:
    """E sqrt(X) from t -> log E exp(-t X); ``scale`` is about E X."""
    def f(y):  # t = e^y / scale
        return -np.expm1(laplace(np.exp(y) / scale)) * np.exp(-y / 2)
    parts = [quad(f, a, b, epsabs=1e-14, epsrel=1e-13, limit=400)[0]
             for a, b in zip((-72, -30, -8, 0, 8, 30), (-30, -8, 0, 8, 30, 80), strict=True)]
    return float(np.sqrt(scale) * sum(parts) / (2 * np.sqrt(np.pi)))


def mean_exp_square(t: float) -> float:
    """Log E exp(-t e^2), e ~ Exp(1)."""
    if t < 1e-3:  # asymptotic series of erfcx, moments (2j)!
        term, total = 1.0, 0.0
        for j in range(1, 12):
            term *= -t * (2 * j) * (2 * j - 1) / j
            total += term
            if abs(term) < 1e-18 * abs(total):
                break
        return float(np.log1p(total))
    return float(np.log(np.sqrt(np.pi / (4 * t)) * erfcx(1 / (2 * np.sqrt(t)))))


def mean_uniform_square(t: float) -> float:
    """Log E exp(-t u^2), u ~ U(0, 1)."""
    if t < 1e-3:
        return float(np.log1p(sum((-t) ** j / (math.factorial(j) * (2 * j + 1)) for j in range(1, 8))))
    return float(np.log(np.sqrt(np.pi / t) * erf(np.sqrt(t)) / 2))


def log_radius_moment(d: int, k: float, power: float, scale: float, j: float) -> float:
    """Log E R^j."""
    return j / power * np.log(scale) + gammaln((d - k + j) / power) - gammaln((d - k) / power)


def mean_max_normal(d: int) -> float:
    """E max |g_i|."""
    return quad(lambda x: -np.expm1(d * np.log1p(-2 * ndtr(-x))) if x > 0 else 1.0, 0, 40, points=[1, 2, 3, 4, 5, 6],
                epsabs=1e-13, limit=400)[0]


def single(n: str, d: int, k: float, power: float, scale: float) -> tuple[float, dict[str, float]]:
    """(E ||z||_2^2 / d, mean norms) of a single-norm family."""
    r1 = float(np.exp(log_radius_moment(d, k, power, scale, 1)))
    r2 = float(np.exp(log_radius_moment(d, k, power, scale, 2)))
    if n == "L2":
        mean_r = np.sqrt(2) * np.exp(gammaln((d + 1) / 2) - gammaln(d / 2))  # E ||g||_2
        u = {"L1": d * np.sqrt(2 / np.pi) / mean_r, "L2": 1.0, "Linf": mean_max_normal(d) / mean_r}
        second = 1.0
    elif n == "L1":
        u = {"L1": 1.0, "L2": root_mean(lambda t: d * mean_exp_square(t), 2 * d) / d,
             "Linf": float(np.sum(1 / np.arange(1, d + 1))) / d}
        second = 2 / (d + 1)
    else:
        u = {"L1": (d + 1) / 2, "Linf": 1.0, "L2": root_mean(
            lambda t: -t + (d - 1) * mean_uniform_square(t), (d + 2) / 3)}
        second = (d + 2) / 3
    return r2 * second / d, {a: float(r1 * b) for a, b in u.items()}


def mixed(d: int, k: float) -> tuple[float, dict[str, float]]:
    """The same for MixedNorm, sigma = 1: condition on m = ||z||_inf; the others are normals truncated to [-m, m]."""
    def lw(x):  # of log m
        m = np.exp(x)
        return (1 - k) * x - m * m / 2 + (d - 1) * (np.log(2) + log_mass(0.0 * m, m))
    g = np.linspace(-160 / (d - k), 3, 200_001)
    v = lw(g)
    g = g[v > v.max() - 40]
    x, w = np.polynomial.legendre.leggauss(24)
    edges = np.linspace(g[0], g[-1], 41)
    mid, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    t, w = (mid[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()
    w = w * np.exp(lw(t) - v.max())
    w /= w.sum()
    m = np.exp(t)
    gx, gw = np.polynomial.legendre.leggauss(60)
    y = m[:, None] * (gx + 1) / 2
    p = gw * np.exp(-y * y / 2)
    p /= p.sum(1, keepdims=True)
    second = float((w * (m**2 + (d - 1) * (p * y * y).sum(1))).sum() / d)
    l1 = float((w * (m + (d - 1) * (p * y).sum(1))).sum())
    y2 = y * y

    def laplace(i):
        def f(s):
            inner = (p[i] * np.expm1(-s * y2[i])).sum()
            return -s * m[i] ** 2 + (d - 1) * np.log1p(inner)
        return f
    u = np.linspace(-72, 72, 2881)  # the integrand is analytic and decays at both ends: trapezoidal rule

    def root(i):
        scale = m[i] ** 2 + (d - 1) * (p[i] * y2[i]).sum()
        s = np.exp(u) / scale
        inner = (p[i] * np.expm1(-s[:, None] * y2[i])).sum(1)
        f = -np.expm1(-s * m[i] ** 2 + (d - 1) * np.log1p(np.maximum(inner, -1 + 1e-15))) * np.exp(-u / 2)
        return np.sqrt(scale) * f.sum() * (u[1] - u[0]) / (2 * np.sqrt(np.pi))
    keep = np.nonzero(w > 1e-16)[0]
    l2 = float(sum(w[i] * root(i) for i in keep))
    return second, {"L1": l1, "L2": l2, "Linf": float((w * m).sum())}


def log_normaliser(spec, d: int) -> float:
    """Brute force over R^d."""
    n1, n2, power, k, scale = spec
    mp.mp.dps = 20

    def nrm(v, which):
        a = [abs(x) for x in v]
        return {"L1": lambda: sum(a), "L2": lambda: mp.sqrt(sum(x * x for x in a)), "Linf": lambda: max(a)}[which]()

    def face(*y):  # integral over x > 0 at the direction (1, y), by x = s^(1/(d-k))
        u = (mp.mpf(1), *y)
        c, q = nrm(u, n2) ** power / mp.mpf(scale), mp.mpf(power) / (d - mp.mpf(k))
        far = (50 / c) ** (1 / q)
        inner = mp.quad(lambda s: mp.exp(-c * s**q), [0, far / 1000, far / 100, far / 20, far / 5, far])
        return nrm(u, n1) ** (-mp.mpf(k)) * inner / (d - mp.mpf(k))
    if d == 1:
        return float(mp.log(2 * face()))
    if d == 2:
        return float(mp.log(8 * mp.quad(face, [0, 1], maxdegree=4)))
    x, w = np.polynomial.legendre.leggauss(12)
    x, w = (x + 1) / 2, w / 2
    total = sum(wa * wb * a * (face(a, a * b) + face(a * b, a))
                for a, wa in zip(x, w, strict=True) for b, wb in zip(x, w, strict=True))
    return float(mp.log(24 * total))


def main() -> None:
    """Write ``moments`` and ``log_normaliser``."""
    families = [
        ("l1_exponential", "L1", 1.0), ("l2_exponential", "L2", 2.0), ("linf_exponential", "Linf", 2.0),
        ("mixed_norm", "", 2.0), ("p3", "L2", 3.0), ("p07", "L1", 0.7), ("p15", "Linf", 1.5)]
    cases, worst = [], 0.0
    for d in (1, 2, 3, 5, 20, 64, 784, 3072, 150528):
        for k in dict.fromkeys((0, 0.5, 1, round(d / 12, 2), d / 2, d - 12)):
            if not 0 <= k < d or (d == 1 and k > 0.5):
                continue
            k = int(k) if float(k).is_integer() else k
            for fam, n, power in families:
                if fam == "mixed_norm":
                    noise = name(fam, k=k, sigma=1.0)
                    second, means = mixed(d, k)
                elif fam[0] == "p":
                    noise = name("norm_exponential", norm=n, power=power, k=k, scale=0.8)
                    second, means = single(n, d, k, power, 0.8)
                else:
                    s = 0.7
                    noise = name(fam, k=k, **({"b": s} if n == "L1" else {"sigma": s}))
                    second, means = single(n, d, k, power, s if n == "L1" else 2 * s * s)
                if d <= 64:
                    z = sample(canonical(noise), d, 100_000)
                    got = {a: norm(z, a) for a in means}
                    got["second"] = (z * z).mean(1)
                    for a, b in {**means, "second": second}.items():
                        dev = abs(got[a].mean() - b) / (got[a].std() / 316 + 1e-12)
                        worst = max(worst, dev)
                        if dev > 4.5:
                            print("MONTE CARLO", noise, d, a, b, got[a].mean(), dev, flush=True)
                cases.append({"noise": noise, "dim": d, "second_moment": second, "mean_norms": means,
                                  "relative_tolerance": 1e-9})
        merge("moments", cases)
        print(d, len(cases), f"worst {worst:.2f} standard errors", flush=True)
    cases = []
    for d in (1, 2, 3):
        for noise in (
            "l1_exponential(k=0.5, b=0.7)", "l2_exponential(k=0.5, sigma=0.7)", "linf_exponential(k=0.5, sigma=0.7)",
            "mixed_norm(k=0.5, sigma=0.7)", "norm_exponential(norm=L2, power=3.0, k=0.9, scale=0.8)",
            "norm_exponential(norm=L1, power=0.7, k=0.25, scale=0.8)", "l1_exponential(k=0, b=0.7)",
            "norm_exponential(norm=Linf, power=1.5, k=0, scale=0.8)", "mixed_norm(k=0, sigma=0.7)",
            *(() if d == 1 else ("l2_exponential(k=1.8, sigma=1.0)", "mixed_norm(k=1.8, sigma=1.0)",
                                 "l1_exponential(k=1.8, b=1.0)", "linf_exponential(k=1.8, sigma=1.0)")),
        ):
            value = log_normaliser(canonical(noise), d)
            cases.append({"noise": noise, "dim": d, "log_normaliser": value, "tolerance": 1e-9})
            print(d, noise, value, flush=True)
    merge("log_normaliser", cases)


if __name__ == "__main__":
    sys.exit(main())
