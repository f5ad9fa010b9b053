"""p* in d = 1, 2, 3 by brute force over R^d, from the definition of the density alone.

``z = x u`` with ``u`` on the surface of the cube ``||u||_inf = 1`` (2d faces, Cartesian coordinates y on each), so
``dz = x^(d-1) dx dy``. Along a ray the density is ``||u||_n^-k x^(d-1-k) exp(-c(u) x^power)``: a gamma law in
``c(u) x^power`` times the face density ``||u||_n^-k c(u)^(-(d-k)/power)``. The set ``{x : l(x u) <= t}`` is found by
scanning, golden section and bisection of ``l`` as defined, which needs no theory of the norm, and the singularity at 0
is integrated out exactly. d = 2 is one adaptive integral per edge of the square; d = 3 two nested ones.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from check_radius_first import law as radius_first
from generate_high_dim import SingleNorm
from oracle_common import (
    KEYS,
    REFERENCE,
    Ray,
    adaptive,
    changes,
    graded,
    merge,
    minus_median,
    name,
    ray_probability,
    upper,
    upper_beside,
)
from scipy import special
from scipy.special import ndtr

ORDER = {"L1": 1, "L2": 2, "Linf": np.inf}


def norm_of(v: list[np.ndarray], order: float) -> np.ndarray:
    """Norm over the list of coordinates."""
    a = [np.abs(x) for x in v]
    if order == 1:
        return sum(a)
    if order == 2:
        return np.sqrt(sum(x * x for x in a))
    return np.maximum.reduce(a)


class CubeRays:
    """Brute-force law of l for ``||z||_n1^-k exp(-||z||_n2^power / scale)`` at shift ``delta``."""

    def __init__(self, n1: str, n2: str, power: float, k: float, scale: float, delta: list[float],
                 points: int = 160, tol: float = 1e-10) -> None:
        self.o1, self.o2, self.power, self.k, self.scale = ORDER[n1], ORDER[n2], power, k, scale
        self.delta, self.d, self.tol = delta, len(delta), tol
        self.ray = Ray((self.d - k) / power, power, points)
        self.mass = self._over_faces(None)

    def _rate(self, u):
        return norm_of(u, self.o2) ** self.power / self.scale

    def _weight(self, u):
        return norm_of(u, self.o1) ** -self.k * self._rate(u) ** (-(self.d - self.k) / self.power)

    def _ell(self, x, *u):
        z = [x * v for v in u]
        w = [a - b for a, b in zip(z, self.delta, strict=True)]
        out = -(norm_of(w, self.o2) ** self.power - norm_of(z, self.o2) ** self.power) / self.scale
        if self.k:
            out = out - self.k * np.log(norm_of(w, self.o1) / norm_of(z, self.o1))
        return out

    def _prob(self, u, t, count=False):
        return ray_probability(self._ell, tuple(u), t, self.ray, self._rate(u),
                               self._special(u), count, max(self.delta))

    def _special(self, u):
        """Where the ray passes near delta, and where single coordinates of z - delta vanish or tie."""
        r = max(self.delta)
        c = [np.full_like(u[0], r)] + [r / np.maximum(np.abs(v), 1e-200) for v in u]
        for i in range(self.d):
            for j in range(i):
                c += [(self.delta[i] + self.delta[j]) / np.maximum(np.abs(u[i] + u[j]), 1e-200)]
        dot = sum(v * b for v, b in zip(u, self.delta, strict=True))
        c.append(np.abs(dot) / sum(v * v for v in u))
        return np.stack(c, axis=1)

    def _line(self, make, t, base):
        """Integral over y in [-1, 1] of the face line ``make(y)``; t None: of the weight alone."""
        if t is None:
            return adaptive(lambda y: self._weight(make(y)), base, self.tol)
        q = special.ndtr(np.array([-5.0, -2, -0.7, 0, 0.7, 2, 5]))
        quantiles = special.gammaincinv(self.ray.alpha, q)[:, None]

        def at_quantiles(y):
            u = make(y)
            with np.errstate(divide="ignore", invalid="ignore"):
                below = self._ell((quantiles / self._rate(u)) ** (1 / self.power), *u) <= t
            return (below * (2 ** np.arange(q.size))[:, None]).sum(0)

        grid = np.unique(np.concatenate([np.linspace(-1, 1, 161 if self.d < 3 else 41), base]))
        edges = np.unique(np.concatenate([base, changes(at_quantiles, grid)]))
        fine = np.concatenate([grid, edges * (1 - 1e-9), edges * (1 + 1e-9), (edges[1:] + edges[:-1]) / 2])
        fine = np.unique(np.clip(fine, -1, 1))
        edges = np.concatenate([edges, graded(changes(lambda y: self._prob(make(y), t, True), fine), -1.0, 1.0)])
        return adaptive(lambda y: self._weight(make(y)) * self._prob(make(y), t), list(edges), self.tol)

    def _over_faces(self, t):
        base = [-1.0, -0.5, 0.0, 0.5, 1.0]
        total = 0.0
        for face in range(self.d):
            for s in (1.0, -1.0):
                def insert(rest, face=face, s=s):
                    rest = list(rest)
                    rest.insert(face, np.full_like(rest[0], s) if rest else np.array([s]))
                    return rest
                if self.d == 1:
                    u = insert([])
                    total += float((self._weight(u) * (1.0 if t is None else self._prob(u, t)))[0])
                elif self.d == 2:
                    total += self._line(lambda y, g=insert: g([y]), t, base)
                else:
                    def line(y1, g=insert):
                        return self._line(lambda y: g([np.full_like(y, y1), y]), t, sorted({*base, y1, -y1}))
                    total += adaptive(lambda ys, h=line: np.array([h(y) for y in ys]), [-1.0, 0.0, 1.0], 4 * self.tol)
        return total

    def cdf(self, t: float) -> float:
        """F(t)."""
        return self._over_faces(t) / self.mass


def shift(norm: str, threat: str, r: float, d: int) -> list[float]:
    """The worst shift."""
    return [r] * d if (norm, threat) == ("Linf", "Linf") else [r] + [0.0] * (d - 1)


FAMILY = {("L1", 1.0): "l1_exponential", ("L2", 2.0): "l2_exponential", ("Linf", 2.0): "linf_exponential"}


def label(norm: str, power: float, k: float, scale: float) -> tuple[str, float]:
    """Name in reference.json, and the scale of exp(-||z||^power / scale)."""
    fam = FAMILY.get((norm, power))
    if fam == "l1_exponential":
        return name(fam, k=k, b=scale), scale
    if fam:
        return name(fam, k=k, sigma=scale), 2 * scale**2
    return name("norm_exponential", norm=norm, power=power, k=k, scale=scale), scale


def main(dims: list[int]) -> None:
    """Write the low-dimensional single-norm cases of ``p_star``."""
    done = {tuple(c[k] for k in KEYS["p_star"]) for c in json.loads(REFERENCE.read_text())["p_star"]}  # resume
    for d in dims:
        ks = {1: (0, 0.3, 0.9), 2: (0, 0.5, 1.8), 3: (0, 1, 2.7)}[d]
        for norm, threat in (("L1", "L1"), ("L2", "L2"), ("Linf", "Linf"), ("Linf", "L1")):
            if d == 1 and norm != "L2":
                continue
            for power in (2.0, 1.0, 0.7, 3.0):
                cases, worst = [], 0.0
                for k in ks:
                    radii = (0.05, 0.4, 1.2, 4.0 if power < 2 and k < 1 else 2.0)
                    for r in radii if power in (1.0, 2.0) else radii[1:3]:
                        noise, scale = label(norm, power, k, 1.0 if k != ks[1] else 0.6)
                        if (noise, threat, d, r) in done:
                            continue
                        F = SingleNorm(norm, power, k, scale, d, threat).cdf(r)
                        x = minus_median(F)
                        value, gap, routes = upper_beside(F, x), 0.0, ["angle first"]
                        if value > 1 - 1e-9:
                            continue
                        if d > 1:
                            routes.append("radius first")
                            gap = abs(value - upper_beside(radius_first(norm, power, k, scale, d, threat, r), x))
                        if d == 1 or (d == 2 and r == 0.4):
                            routes.append("brute force along rays of the cube")
                            cube = CubeRays(norm, norm, power, k, scale, shift(norm, threat, r, d))
                            gap = max(gap, abs(value - upper_beside(cube.cdf, x)))
                        elif d == 3 and power == 2.0 and k == 1 and r == 0.4 and norm == "L1":
                            cube = CubeRays(norm, norm, power, k, scale, shift(norm, threat, r, d), 60, 1e-6)
                            print("  d = 3, nested", noise, threat, value, upper(cube.cdf, x), flush=True)
                        worst = max(worst, gap)
                        if gap > 1e-9:
                            print("  DISAGREE", noise, threat, d, r, value, gap, flush=True)
                        tol, method = max(1e-9, 3 * gap), "agreeing: " + ", ".join(routes)
                        if k == 0 and (norm, power) in (("L2", 2.0), ("L1", 1.0)):
                            exact = float(ndtr(r)) if norm == "L2" else 1 - 0.5 * float(np.exp(-r))
                            assert abs(exact - value) < 5e-9, (noise, r, exact, value)
                            value, tol, method = exact, 1e-14, "closed form"
                        cases.append({"noise": noise, "threat": threat, "dim": d,
                                      "radius": r, "p_star": value, "tolerance": tol,
                                          "method": method})
                merge("p_star", cases)
                print(d, norm, threat, power, len(cases), f"worst gap {worst:.1e}", flush=True)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [1, 2, 3])
