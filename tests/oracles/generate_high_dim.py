"""p* of the single-norm families in any dimension: angle first, radius by root finding.

``z = R u`` with ``R^power / scale ~ Gamma((d - k) / power)`` and ``u`` uniform (cone measure) on the norm's unit
sphere. ``||z - delta||`` depends on ``u`` through one number (or a finite mixture of such cases), and for a fixed
``u`` the set ``{R : l <= t}`` is a union of intervals whose ends are found by bisection. So ``F(t)`` is a
one-dimensional integral, over ``u``, of sums of gamma CDFs, computed by adaptive Gauss-Kronrod to 1e-11. Every
difference of norms is formed without cancellation, so ``l`` keeps its relative accuracy at d = 150528.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from check_radius_first import law as radius_first
from oracle_common import Ray, adaptive, changes, graded, merge, name, p_star, ray_probability
from scipy import special
from scipy.special import ndtr, ndtri

TOL = 2e-11
EDGES = [0, 0.3, 1, 2, 4, 8, 14, 22, 34]


class SingleNorm:
    """Law of ``l`` for the density ``||z||^-k exp(-||z||^power / scale)`` and the worst shift of the threat."""

    def __init__(self, norm: str, power: float, k: float, scale: float, d: int, threat: str, points: int = 160) -> None:
        self.norm, self.power, self.k, self.scale, self.d, self.threat = norm, power, k, scale, d, threat
        self.ray = Ray((d - k) / power, power, points)

    def _ell(self, R: np.ndarray, rel: np.ndarray) -> np.ndarray:
        """``l`` from ``rel = (||z - delta|| - ||z||) / ||z||``."""
        rel = np.maximum(rel, -1.0)
        lg = np.log1p(rel)
        out = -(R**self.power) * np.expm1(self.power * lg) / self.scale
        return out - self.k * lg if self.k else out

    def _outer(self, rel, t: float, of_y, points, weight, base: list[float]) -> float:
        """Integral over y of ``weight(y) P(l <= t | u = of_y(y))``.

        Panel edges: ``base``, where ``l = t`` at some quantiles of R (in high dimension R is nearly constant and the
        integrand almost a step), and where the number of crossings along R changes.
        """
        q = special.ndtr(np.array([-7.0, -4, -2, -1, 0, 1, 2, 4, 7]))
        R = (special.gammaincinv(self.ray.alpha, q) * self.scale) ** (1 / self.power)

        def at_quantiles(y):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                below = self._ell(R[:, None], rel(R[:, None], of_y(y))) <= t
            return (below * (2 ** np.arange(9))[:, None]).sum(0)

        def prob(y, count=False):
            u = of_y(y)
            return self._prob(rel, t, u, points(u), count)

        grid = np.unique(np.concatenate([np.linspace(base[0], base[-1], 200), np.linspace(base[0], base[1], 30), base]))
        edges = np.unique(np.concatenate([base, changes(at_quantiles, grid)]))
        fine = np.concatenate([grid, edges * (1 - 1e-9), edges * (1 + 1e-9), (edges[1:] + edges[:-1]) / 2])
        fine = np.unique(np.clip(fine, base[0], base[-1]))
        edges = np.concatenate([edges, graded(changes(lambda y: prob(y, True), fine), base[0], base[-1])])
        return adaptive(lambda y: weight(y) * prob(y), list(edges), TOL)

    def _prob(self, rel, t: float, u: np.ndarray, points: np.ndarray | None,
              count: bool = False) -> np.ndarray:
        rate = np.full(u.size, 1 / self.scale)
        return ray_probability(lambda R, v: self._ell(R, rel(R, v)), (u,), t, self.ray, rate, points, count, self.r)

    def cdf(self, r: float):
        """``t -> F(t)`` at radius ``r``."""
        self.r = r
        if self.d == 1:
            return lambda t: self._cdf_line(t, r)
        return getattr(self, f"_cdf_{self.norm.lower()}_{self.threat.lower()}")(r)

    def _cdf_line(self, t: float, r: float) -> float:
        u = np.array([1.0, -1.0])
        return float(self._prob(lambda R, v: np.abs(1 - v * r / R) - 1, t, u, np.full((2, 1), r)).mean())

    def _cdf_l2_l2(self, r: float):
        d = self.d  # u_1 = sin(a), density of a proportional to cos(a)^(d-2)
        top = np.pi / 2 if d < 60 else min(np.pi / 2, 9.5 / np.sqrt(d - 2))

        def weight(a):
            return np.exp((d - 2) * np.log(np.maximum(np.cos(a), 1e-300)))

        mass = adaptive(weight, list(np.linspace(-top, top, 17)), 1e-16)

        def rel(R, s):
            x = (r / R) * (r / R - 2 * s)  # ||z-delta||^2 / R^2 - 1
            x = np.maximum(x, -1.0)
            return x / (np.sqrt(1 + x) + 1)

        def points(s):
            return np.stack([np.abs(r * s), r / np.maximum(np.abs(s), 1e-300)], axis=1)

        base = list(np.linspace(-top, top, 9))
        return lambda t: self._outer(rel, t, np.sin, points, weight, base) / mass

    def _cdf_l1_l1(self, r: float):
        d = self.d  # |u_1| ~ Beta(1, d-1): |u_1| = 1 - exp(-e / (d-1)), e ~ Exp(1)

        def rel(R, u):
            z = u * R
            return np.clip(r - 2 * z, -r, r) / R  # |z - r| - |z|

        def points(u):
            return np.stack([r / np.maximum(np.abs(u), 1e-300)], axis=1)

        def cdf(t: float) -> float:
            return sum(self._outer(rel, t, lambda e, s=sign: -s * np.expm1(-e / (d - 1)), points,
                                   lambda e: 0.5 * np.exp(-e), EDGES) for sign in (1.0, -1.0))
        return cdf

    def _cdf_linf_linf(self, r: float):
        d = self.d  # extreme at -m: m' = m + r. At +m: m' = max(|m - r|, |m v - r|), v = min_i z_i / m in [-1, 1]

        def rel(R, w):  # w = 1 + v = 2 - 2 exp(-e / (d-1)), P(V > v) by symmetry of the d-1 others
            near, far = -np.minimum(r / R, 2 - r / R), r / R - w
            return np.maximum(near, far)  # (|m - r| - m) / m and (r - m v - m) / m

        def points(w):
            return np.stack([np.full(w.shape, r), r / np.maximum(2 - w, 1e-300), 2 * r / np.maximum(w, 1e-300),
                             r / np.maximum(w, 1e-300)], axis=1)

        def cdf(t: float) -> float:
            minus = self._prob(lambda R, w: r / R + 0 * w, t, np.zeros(1), None)[0]

            plus = self._outer(rel, t, lambda e: -2 * np.expm1(-e / (d - 1)), points, lambda e: np.exp(-e), EDGES)
            return 0.5 * minus + 0.5 * plus
        return cdf

    def _cdf_linf_l1(self, r: float):
        d = self.d

        def rel_own(R, w):  # coordinate 1 is the extreme, at +m; the others reach m (1 - w)
            return np.maximum(-np.minimum(r / R, 2 - r / R), -w)

        def points_own(w):
            return np.stack([np.full(w.shape, r), np.full(w.shape, r / 2), r / np.maximum(w, 1e-300),
                             r / np.maximum(2 - w, 1e-300)], axis=1)

        tail = [-1, -0.999, -0.99, -0.9, -0.5, 0, 0.5, 1]

        def rel_other(R, v):  # another coordinate is the extreme; z_1 = m v
            return np.maximum(0.0, np.abs(v - r / R) - 1)

        def cdf(t: float) -> float:
            minus = self._prob(lambda R, w: r / R + 0 * w, t, np.zeros(1), None)[0]

            own = self._outer(rel_own, t, lambda e: -np.expm1(-e / (d - 1)), points_own, lambda e: np.exp(-e), EDGES)
            other = self._outer(rel_other, t, lambda v: v, lambda v: (r / np.maximum(1 + v, 1e-300))[:, None],
                                lambda v: np.full_like(v, 0.5), tail)
            return (minus + own) / (2 * d) + other * (d - 1) / d
        return cdf


def from_text(family: str, k: float, s: float, d: int, threat: str, norm: str = "", power: float = 0.0,
              points: int = 160) -> tuple[str, SingleNorm]:
    """Name of the noise in reference.json, and its law."""
    if family == "l1_exponential":
        return name(family, k=k, b=s), SingleNorm("L1", 1, k, s, d, threat, points)
    if family == "laplace":
        return name(family, b=s), SingleNorm("L1", 1, 0, s, d, threat, points)
    if family == "gaussian":
        return name(family, sigma=s), SingleNorm("L2", 2, 0, 2 * s * s, d, threat, points)
    if family in ("l2_exponential", "linf_exponential"):
        return name(family, k=k, sigma=s), SingleNorm(
            "L2" if family[1] == "2" else "Linf", 2, k, 2 * s * s, d, threat, points)
    return name("norm_exponential", norm=norm, power=power, k=k, scale=s), SingleNorm(
        norm, power, k, s, d, threat, points)


def guess_radius(norm: str, threat: str, d: int, k: float, p: float) -> float:
    """A radius at which p* is somewhere near p, for sigma = b = 1."""
    if norm == "L2":
        return float(ndtri(p)) * ((d - k) / d) ** 0.5
    exponential = -float(np.log(2 * (1 - p)))
    if norm == "L1":
        return exponential * (d - k) / d
    m = (d - k) ** 0.5
    return exponential * m / d if threat == "Linf" else min(4 * (p - 0.5), 1.95) * m


def main(dims: list[int]) -> None:
    """Write the high-dimensional single-norm cases of ``p_star``."""
    targets = (0.55, 0.7, 0.9, 0.99, 0.9999)
    table = [("l2_exponential", 250, 1.043355, 3072, "L2", 0.5), ("l1_exponential", 250, 1.0885897, 3072, "L1", 0.5),
             ("linf_exponential", 1, 1.0, 5, "Linf", 0.3), ("linf_exponential", 1, 1.0, 5, "L1", 0.3)]
    todo = [table]
    for d in dims:
        ks = dict.fromkeys(k for k in (0, 1, round(d / 12, 2), d / 2, d - 12) if 0 <= k < d)
        for i, k in enumerate(ks):
            group = []
            for j, p in enumerate(targets):
                if (i + j) % 2 and d != 3072:  # every other one
                    continue
                for family, norm, threat in (("l2_exponential", "L2", "L2"), ("l1_exponential", "L1", "L1"),
                                             ("linf_exponential", "Linf", "Linf"), ("linf_exponential", "Linf", "L1")):
                    k_ = int(k) if float(k).is_integer() else k
                    group.append((family, k_, 1.0, d, threat, float(f"{guess_radius(norm, threat, d, k, p):.4g}")))
            todo.append(group)
    for group in todo:
        cases = []
        for family, k, s, d, threat, r in group:
            noise, law = from_text(family, k, s, d, threat)
            start = time.time()
            value = float(p_star(law.cdf(r)))
            other = p_star(radius_first(law.norm, law.power, law.k, law.scale, d, threat, r))
            method, tol = "agreeing: angle first, radius first", max(2e-9, 3 * abs(value - other))
            if threat == "Linf" and abs(k - d / 2) < 1:  # the median sits on a square-root edge of F: U has a corner
                tol = max(1e-8, tol)
            if family == "l2_exponential" and k == 0:
                exact = float(ndtr(r / s))
                assert abs(exact - value) < 1e-9, (d, r, exact, value)
                value, tol, method = exact, 1e-14, "closed form (Gaussian); the quadrature agrees to 1e-9"
            if family == "l1_exponential" and k == 0:
                exact = 1 - 0.5 * float(np.exp(-r / s))
                assert abs(exact - value) < 1e-9, (d, r, exact, value)
                value, tol, method = exact, 1e-14, "closed form (Laplace); the quadrature agrees to 1e-9"
            print(noise, threat, d, r, value, f"{time.time() - start:.1f}s", flush=True)
            if value < 1 - 1e-9:
                cases.append({"noise": noise, "threat": threat, "dim": d,
                              "radius": r, "p_star": value, "tolerance": tol,
                                  "method": method})
        merge("p_star", cases)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [5, 3072, 784, 20, 150528, 64])
