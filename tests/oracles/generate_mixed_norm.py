"""p* of MixedNorm, density ``||z||_inf^-k exp(-||z||_2^2 / (2 sigma^2))``, under Linf, shift (r, ..., r).

With ``b = max z_i``, ``a = min z_i`` and everything in units of sigma, ``m = max(|a|, |b|)`` and
``||z - delta||_inf = |c - r| + h`` for the centre ``c = (a + b) / 2`` and half width ``h = (b - a) / 2``;
``l = -k log(m' / m) + (2 r S - d r^2) / 2`` with ``S = sum z_i``. Given (a, b) the other n = d - 2 coordinates are
independent normals truncated to [a, b], and ``dz = d (d-1) (Phi(b) - Phi(a))^n phi(a) phi(b) da db`` up to the tilt
m^-k. With ``c = +-e``, ``e >= 0``, ``h = m - e`` (Jacobian 1) the weight is

    w(m, e) = phi(m) phi(2e - m) (Phi(m) - Phi(2e - m))^n m^-k

    c = -e: m' = m + r;      c = +e, e < r: m' = m - 2e + r;      c = +e, e > r: m' = m - r

so ``F(t)`` is a two-dimensional integral of the CDF of a sum of n truncated normals at
``s = (t + k log(m'/m)) / r + d r / 2``. That CDF is

    n = 1         the truncated normal's own;
    n = 3         one integral of the closed-form density of two against the CDF of the third, split at its kinks;
    n >= 18       a Fourier series on a period of 18 standard deviations with the exact characteristic function (its
                  n-th power; Gauss-Legendre for the single coordinate, which is spectrally exact).

The e integral is composite Gauss-Legendre split at e = r and across the step inside [0, r]; the m integral is adaptive
Gauss-Kronrod with panel edges at the step that the tilt makes in m. d = 2 goes by brute force over R^2 (cube rays).
Checks in this file: k = 0 must give Phi(sqrt(d) r / sigma); an Edgeworth expansion in place of the Fourier series.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from generate_low_dim import CubeRays
from oracle_common import KEYS, REFERENCE, adaptive, changes, merge, minus_median, name, upper
from scipy.special import erf, erfc, ndtr, ndtri

ROOT2, DROP = np.sqrt(2.0), 36.0
X48, W48 = np.polynomial.legendre.leggauss(48)
X16, W16 = np.polynomial.legendre.leggauss(16)


def phi(x):
    """Standard normal density."""
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def log_mass(a, b):
    """log(Phi(b) - Phi(a)) for a <= b, b > 0, without cancellation."""
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.log1p(-ndtr(-b) - ndtr(np.minimum(a, 0)))
        mid = np.log((erf(b / ROOT2) - erf(np.minimum(a, 0) / ROOT2)) / 2)
        lo = np.maximum(a, 0) / ROOT2
        right = np.log(np.where(b < 1, erf(b / ROOT2) - erf(lo), erfc(lo) - erfc(b / ROOT2)) / 2)
    return np.where(a > 0, right, np.where((b > 2) & (a < -1), wide, mid))


class Mixed:
    """Law of l; sigma = 1."""

    def __init__(self, k: float, d: int, tol: float = 2e-10, nodes: int = 12, edgeworth: bool = False) -> None:
        self.k, self.d, self.n, self.tol, self.edgeworth = k, d, d - 2, tol, edgeworth
        self.gx, self.gw = np.polynomial.legendre.leggauss(nodes)
        self._range()

    # -- the weight
    def log_w(self, m, e):
        """Log of the weight w(m, e)."""
        a = 2 * e - m
        out = -(m * m + a * a) / 2 - self.k * np.log(m) - self.shift
        return out + self.n * log_mass(a, m) if self.n else out

    def e_range(self, m):
        """Mode and effective range of e given m; w is log-concave in a = 2e - m."""
        lo, hi = np.zeros_like(m), m.copy()
        for _ in range(60):
            mid = (lo + hi) / 2
            a = 2 * mid - m
            slope = -a - (self.n * np.exp(-a * a / 2 - log_mass(a, m)) / np.sqrt(2 * np.pi) if self.n else 0.0)
            lo, hi = np.where(slope > 0, mid, lo), np.where(slope > 0, hi, mid)
        mode = (lo + hi) / 2
        top = self.log_w(m, mode)

        def cut(inside, outside):
            for _ in range(50):
                mid = (inside + outside) / 2
                keep = self.log_w(m, mid) > top - DROP
                inside, outside = np.where(keep, mid, inside), np.where(keep, outside, mid)
            return outside
        return cut(mode, np.zeros_like(m)), cut(mode, m), mode, top

    def _range(self):
        self.shift = 0.0
        g = np.linspace(np.log(14.0) - 4 - 60 / (self.d - self.k), np.log(14.0), 6000)  # the left tail is m^(d-k)
        m = np.exp(g)
        lo, hi, _, top = self.e_range(m)
        v = top + np.log(hi - lo) + g
        self.shift = float(v.max())
        keep = v > v.max() - DROP - 2
        self.lo, self.hi = float(g[keep][0]), float(g[keep][-1])
        self.base = list(np.linspace(self.lo, self.hi, 7))
        self.mass = 2 * adaptive(lambda x: self._inner(x, None, None), self.base, self.tol / 100)

    # -- the sum of n truncated normals on [2e - m, m]
    def cdf_sum(self, m, e, targets):
        """CDFs of the sum at each of ``targets`` (list of arrays like m)."""
        a = 2 * e - m
        h = m - e
        if self.n == 3:
            return [self._cdf3(a, m, s) for s in targets]
        x = e[:, None] + h[:, None] * X48
        w = W48 * np.exp(-x * x / 2 + (np.maximum(a, 0) ** 2 / 2)[:, None])
        w /= w.sum(1, keepdims=True)
        mu = (w * X48).sum(1)
        dev = X48 - mu[:, None]
        sd = np.sqrt((w * dev * dev).sum(1))
        root = np.sqrt(self.n) * sd * h
        ys = [np.clip((s - self.n * (e + mu * h)) / root, -8.9, 8.9) for s in targets]
        if self.edgeworth:
            z = dev / sd[:, None]
            k3, m4 = (w * z**3).sum(1), (w * z**4).sum(1)
            m5, m6 = (w * z**5).sum(1), (w * z**6).sum(1)
            k4, k5, k6, n = m4 - 3, m5 - 10 * k3, m6 - 15 * m4 - 10 * k3**2 + 30, self.n
            return [self._edgeworth(y, k3 / n**0.5, k4 / n, k5 / n**1.5, k6 / n**2) for y in ys]
        omega = 2 * np.pi / 18.0
        z = np.exp(1j * (omega / np.sqrt(self.n) / sd)[:, None] * dev)
        turn = [np.exp(-1j * omega * y) for y in ys]
        out = [0.5 + y / 18.0 for y in ys]
        zl, tl = np.ones_like(z), [np.ones_like(q) for q in turn]
        for j in range(1, 29):
            zl *= z
            f = np.einsum("ij,ij->i", w, zl) ** self.n
            for i, q in enumerate(turn):
                tl[i] = tl[i] * q
                out[i] = out[i] - (f * (tl[i] - (-1) ** j)).imag / (np.pi * j)
        return out

    @staticmethod
    def _edgeworth(y, k3, k4, k5, k6):
        he = [np.ones_like(y), y]
        for j in range(2, 12):
            he.append(y * he[-1] - (j - 1) * he[-2])
        c = k3 / 6 * he[2] + k4 / 24 * he[3] + k3**2 / 72 * he[5]
        c += k5 / 120 * he[4] + k3 * k4 / 144 * he[6] + k3**3 / 1296 * he[8]
        c += k6 / 720 * he[5] + (k4**2 / 1152 + k3 * k5 / 720) * he[7] + k3**2 * k4 / 1728 * he[9]
        c += k3**4 / 31104 * he[11]
        return ndtr(y) - phi(y) * c

    def _cdf3(self, a, b, s):
        mass = np.exp(log_mass(a, b))
        kinks = np.stack([2 * a, a + b, s - b, s - a, 2 * b], axis=1)
        kinks = np.sort(np.clip(kinks, (2 * a)[:, None], (2 * b)[:, None]), axis=1)
        mid, half = (kinks[:, 1:] + kinks[:, :-1]) / 2, (kinks[:, 1:] - kinks[:, :-1]) / 2
        y = (mid[:, :, None] + half[:, :, None] * X16).reshape(a.size, -1)
        w = (half[:, :, None] * W16).reshape(a.size, -1)
        A, B = a[:, None], b[:, None]
        f2 = phi(y / ROOT2) / ROOT2 * (ndtr(ROOT2 * (np.minimum(B, y - A) - y / 2))
                                       - ndtr(ROOT2 * (np.maximum(A, y - B) - y / 2)))
        f1 = ndtr(np.clip(s[:, None] - y, A, B)) - ndtr(A)
        return (w * f2 * f1).sum(1) / mass**3

    # -- the two-dimensional integral
    def _step_s(self, t, log_ratio):
        return (t + self.k * log_ratio) / self.r + self.d * self.r / 2

    def _inner(self, x, t, r):
        """Integral over e at m = exp(x), times dm/dx; t None: of the weight alone (one side)."""
        m = np.exp(x)
        lo, hi, mode, _ = self.e_range(m)
        frac = np.array([0, 0.03, 0.08, 0.16, 0.28, 0.45, 0.68, 1.0])
        edges = [lo + f * (hi - lo) for f in frac] + [mode]
        if t is not None:
            edges.append(np.full_like(m, r))
            if self.k and self.n > 1:
                sd = np.sqrt(self.n * np.minimum(m * m / 3, 1.0))
                for y in (-8.0, -4.0, -1.5, 0.0, 1.5, 4.0, 8.0):
                    arg = np.clip((r * (y * sd - self.d * r / 2) - t) / self.k, -300, 300)
                    edges.append(np.minimum((m + r - m * np.exp(arg)) / 2, r))
        edges = np.sort(np.clip(np.stack(edges, axis=1), lo[:, None], hi[:, None]), axis=1)
        mid, half = (edges[:, 1:] + edges[:, :-1]) / 2, (edges[:, 1:] - edges[:, :-1]) / 2
        e = (mid[:, :, None] + half[:, :, None] * self.gx).reshape(m.size, -1)
        wt = (half[:, :, None] * self.gw).reshape(m.size, -1)
        M = np.broadcast_to(m[:, None], e.shape)
        wt = wt * np.exp(self.log_w(M, e))
        if t is None:
            return wt.sum(1) * m
        out = np.zeros_like(wt)
        for part in np.array_split(np.arange(wt.size), wt.size // 6000 + 1):
            part = part[wt.ravel()[part] > 0]
            mm, ee = M.ravel()[part], e.ravel()[part]
            left, right = self._targets(mm, ee, t)
            p = self.cdf_sum(mm, ee, [-left - 2 * ee, right - 2 * ee])
            out.ravel()[part] = 1 - p[0] + p[1]
        return (wt * out).sum(1) * m

    def _targets(self, m, e, t):
        left = self._step_s(t, np.log1p(self.r / m))
        right = self._step_s(t, np.log(np.where(e < self.r, m - 2 * e + self.r, m - self.r) / m))
        return left, right

    def _inner3(self, x, t, r):
        """The same for n = 0 and 1, where the CDF jumps or has kinks: an adaptive integral over e for every m."""
        out = np.zeros(x.size)
        for i, m in enumerate(np.exp(x)):  # e = m y, so that the integrand m^2 w stays of order 1
            def parts(y, m=m):
                left, right = self._targets(np.full_like(y, m), m * y, t)
                return -left - 2 * m * y, right - 2 * m * y

            def sign(y, m=m):
                p = parts(y)
                if self.n == 0:
                    return (p[0] < 0) + 2 * (p[1] < 0)
                a = m * (2 * y - 1)
                return (p[0] < m) + 2 * (p[0] < a) + 4 * (p[1] < m) + 8 * (p[1] < a)

            def f(y, m=m):
                a, b = m * (2 * y - 1), np.full_like(y, m)
                if self.n == 0:
                    q = [(s >= 0).astype(float) for s in parts(y)]
                else:
                    q = [np.exp(np.minimum(log_mass(a, np.clip(s, a, b)) - log_mass(a, b), 0)) for s in parts(y)]
                return m * m * np.exp(self.log_w(b, m * y)) * (1 - q[0] + q[1])
            edges = [0.0, 1 - 1e-13] + ([r / m] if r < m else [])
            grid = np.unique(np.concatenate([np.linspace(0, edges[1], 60), edges, np.array(edges[2:]) * (1 + 1e-12)]))
            out[i] = adaptive(f, [*edges, *changes(sign, np.minimum(grid, edges[1]))], self.tol / 10, 30)
        return out

    def cdf(self, r: float):
        """``t -> F(t)``."""
        self.r = r

        def cdf(t: float) -> float:
            sd_y = np.array([-8.0, -3.0, 0.0, 3.0, 8.0])

            def sign(x):
                m = np.exp(x)
                root = np.sqrt(max(self.n, 1) * np.minimum(m * m / 3, 1.0))
                with np.errstate(divide="ignore", invalid="ignore"):
                    left = self._step_s(t, np.log1p(r / m)) / root
                    right = self._step_s(t, np.log(np.maximum(1 - r / m, 1e-300))) / root
                return (left[:, None] < sd_y).sum(1) + 10 * (right[:, None] < sd_y).sum(1)
            steps = changes(sign, np.linspace(self.lo, self.hi, 400)) if self.k else []
            kinks = np.log(r) + np.array([-9, -5, -3, -1.5, -0.7, 0, 0.7, 1.5, 3, 5, 9]) if self.n <= 1 else [np.log(r)]
            kinks = [x for x in kinks if self.lo < x < self.hi]
            inner = self._inner3 if self.n <= 1 else self._inner
            return adaptive(lambda x: inner(x, t, r), [*self.base, *steps, *kinks], self.tol) / self.mass
        return cdf


def solve(law, r: float, coarse: bool = False) -> tuple[float, float]:
    """``(p*, x)``: the optimum x from a coarse F (U is flat there), then U from the accurate one unless ``coarse``."""
    F = law.cdf(r)
    tol, gauss = law.tol, (law.gx, law.gw)
    law.tol, (law.gx, law.gw) = 2e-6, np.polynomial.legendre.leggauss(7)
    x = minus_median(F)
    value = upper(F, x)
    law.tol, (law.gx, law.gw) = tol, gauss
    return (value if coarse else upper(F, x)), x


class Brute2:
    """d = 2 by rays over the plane."""

    def __init__(self, k: float) -> None:
        self.k, self.tol, self.gx, self.gw = k, 1e-11, None, None

    def cdf(self, r: float):
        """``t -> F(t)``."""
        law = CubeRays("Linf", "L2", 2.0, self.k, 2.0, [r, r])

        def cdf(t: float) -> float:
            law.tol = self.tol
            return law.cdf(t)
        return cdf


def find_radius(law, d: int, k: float, p: float, steps: int = 4) -> float:
    """A radius, rounded to 4 digits, with p* near p: Phi^-1(p*) is nearly linear in r."""
    r = ndtri(p) / np.sqrt(d + (k / 2.0) ** 2)
    for _ in range(steps):
        q, _ = solve(law, r, True)
        r *= np.clip(ndtri(p) / ndtri(min(max(q, 0.5001), 0.99999)), 0.2, 5)
    return float(f"{r:.4g}")


def main(dims: list[int]) -> None:
    """Write the MixedNorm cases of ``p_star``."""
    done = {tuple(c[k] for k in KEYS["p_star"]) for c in json.loads(REFERENCE.read_text())["p_star"]}  # resume
    for d in dims:
        ks = {2: (0, 0.5, 1.8), 3: (0, 1, 2.2), 5: (0, 1, 2, 4.5)}.get(d, (0, 1, 0.1 * d, 0.4 * d, d - 12))
        todo = [(250, 0.5 * 0.95845 / np.sqrt(3072))] if d == 3072 else []
        for k in ks:
            k = int(k) if float(k).is_integer() else round(k, 2)
            law = Brute2(k) if d == 2 else Mixed(k, d, nodes=20 if d == 5 else 12, tol=2e-10 if d > 3 else 2e-9)
            base = find_radius(law, d, k, 0.7, 2)
            radii = [float(f"{base * ndtri(p) / ndtri(0.7):.4g}") for p in (0.55, 0.7, 0.85, 0.97)]
            todo += [(k, r) for r in radii]
            if d in (3, 5):
                todo.append((k, 2.5))  # beyond the typical norm
        cases = []
        for k, r in todo:
            start, noise = time.time(), name("mixed_norm", k=k, sigma=1.0)
            if (noise, "Linf", d, r) in done:
                continue
            law = Brute2(k) if d == 2 else Mixed(k, d, nodes=20 if d == 5 else 12, tol=2e-10 if d > 3 else 2e-9)
            if k == 0:
                value, tol = float(ndtr(np.sqrt(d) * r)), 1e-14
                gap = abs(value - solve(law, r)[0])
                method = f"closed form (Gaussian); the general route agrees to {max(gap, 1e-14):.0e}"
                assert gap < 1e-7, (d, r, gap)
            else:
                value, x = solve(law, r)
                tol = {2: 1e-9, 3: 2e-8, 5: 1e-7}.get(d, 1e-8)
                method = {2: "brute force over R^2 along rays", 3: "(m, e) integral, n = 1 closed form",
                          5: "(m, e) integral, n = 3 convolution"}.get(d, "(m, e) integral, Fourier series of the sum")
                if d == 2:
                    gap = abs(upper(Mixed(k, 2, tol=1e-9).cdf(r), x) - value)
                    tol = max(1e-9, 3 * gap)
                    method += f"; the (m, e) integral differs by {gap:.0e}"
                if d >= 64:
                    law.edgeworth = True
                    gap = abs(upper(law.cdf(r), x) - value)
                    method += f"; Edgeworth in its place differs by {gap:.0e}"
            print(noise, d, r, value, method, f"{time.time() - start:.1f}s", flush=True)
            if value < 1 - 1e-9:
                cases.append({"noise": noise, "threat": "Linf", "dim": d, "radius": float(r), "p_star": float(value),
                                  "tolerance": tol, "method": method})
                merge("p_star", cases)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]] or [3072, 784, 20, 64, 5, 2, 150528, 3])
