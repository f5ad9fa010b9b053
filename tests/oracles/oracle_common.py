"""Shared numerics of the reference-value generators; uses numpy and scipy only, nothing of the package under test.

Everything starts from the definition ``l(z) = log pi0(z - delta) - log pi0(z)``, ``z ~ pi0``, and ``F(t) = P(l <= t)``.
Away from atoms ``P(l >= t) = 1 - F(t)``, hence for every real ``x = log(lambda)``::

    (1/2 + D(lambda)) / lambda = U(x) = F(x) + (F(-x) - 1/2) exp(-x),      p* = min_x U(x),  at F(-x) = 1/2
    lambda p - D(lambda) = lambda (p - F(x)) + 1 - F(-x),                  L(p) = max_x of it,  at F(x) = p

Both are flat at the optimum, so an error of ``x`` counts only by its square; atoms are avoided by evaluating a hair
beside them.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import special
from scipy.optimize import brentq

REFERENCE = Path(__file__).with_name("reference.json")

# ------------------------------------------------------------------------------------------------- quadrature

_GL7 = np.polynomial.legendre.leggauss(7)


def _kronrod15() -> tuple[np.ndarray, np.ndarray]:
    x = np.array([0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
                  0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
                  0.586087235467691130294144691693013, 0.405845151377397166906606412076961,
                  0.207784955007898467600689403773245, 0.0])
    w = np.array([0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
                  0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
                  0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
                  0.204432940075298892414161999234649, 0.209482141084727828012999174891714])
    return np.concatenate([-x[:-1], x[::-1]]), np.concatenate([w[:-1], w[::-1]])


_K15_X, _K15_W = _kronrod15()


def adaptive(f: Callable[[np.ndarray], np.ndarray], edges: list[float], tol: float, rounds: int = 45) -> float:
    """Integrate ``f`` (vectorised) over consecutive ``edges`` by batched adaptive Gauss-Kronrod 7-15.

    The plain difference of the two rules is the error estimate, which is on the safe side.
    """

    def rule(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mid, half = (a + b) / 2, (b - a) / 2
        y = f((mid[:, None] + half[:, None] * _K15_X).ravel()).reshape(a.size, 15)
        k = half * (y @ _K15_W)
        return k, np.abs(k - half * (y[:, 1::2] @ _GL7[1]))

    e = np.unique(np.asarray(edges, float))
    a, b = e[:-1], e[1:]
    k, err = rule(a, b)
    for _ in range(rounds):
        bad = err > tol / 8
        if not bad.any() or bad.sum() > 3000:  # nothing left, or rounding noise at an atom
            break
        mid = (a[bad] + b[bad]) / 2
        na, nb = np.concatenate([a[bad], mid]), np.concatenate([mid, b[bad]])
        nk, ne = rule(na, nb)
        a, b = np.concatenate([a[~bad], na]), np.concatenate([b[~bad], nb])
        k, err = np.concatenate([k[~bad], nk]), np.concatenate([err[~bad], ne])
    return float(k.sum())


# ------------------------------------------------------------------------------------------- law along a ray


class Ray:
    """Law of ``X > 0`` with ``rate X^power ~ Gamma(alpha)``; the grid on which ``l`` is scanned for crossings."""

    def __init__(self, alpha: float, power: float, points: int = 160) -> None:
        self.alpha, self.power = alpha, power
        z = np.linspace(-8.0, 8.0, points)
        lower, upper = special.ndtr(z), special.ndtr(-z)
        y = np.where(z < 0, special.gammaincinv(alpha, lower), special.gammainccinv(alpha, upper))
        self.grid = np.unique(y[y > 1e-290]) ** (1 / power)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """P(X <= x) at rate 1."""
        return special.gammainc(self.alpha, x**self.power)


def ray_probability(
    ell: Callable[..., np.ndarray], params: tuple[np.ndarray, ...], t: float, ray: Ray,
    rate: np.ndarray, special_points: np.ndarray | None = None, count: bool = False,
    shift: float = 0.0,
) -> np.ndarray:
    """For each row i: ``P(ell(X, params_i) <= t)``, ``rate_i X^power ~ Gamma(alpha)``.

    ``ell`` is scanned on the quantiles of X (and at ``special_points``), every local extremum that could hide a pair of
    crossings is refined by golden section, every crossing by bisection; the probability is a sum of gamma CDFs. With
    ``count`` the number of crossings is returned instead, coded with the side of t on which each special point lies.
    """
    n = rate.size
    unit = rate ** (-1 / ray.power)
    x = unit[:, None] * ray.grid
    if shift and ray.alpha < 5:  # the quantiles of a law that is nearly singular at 0 are sparse at the shift's scale
        x = np.concatenate([x, np.tile(shift * np.logspace(-2, 2, 121), (n, 1))], axis=1)
        x = np.sort(np.clip(x, unit[:, None] * ray.grid[0], unit[:, None] * ray.grid[-1]), axis=1)
    if special_points is not None:
        # Close companions show the slopes on both sides of a kink, so that an extremum beside it is not hidden.
        lo, hi = x[:, :1], x[:, -1:]
        near = [np.clip(special_points * f, lo, hi) for f in (0.97, 1 - 1e-7, 1.0, 1 + 1e-7, 1.03)]
        x = np.sort(np.concatenate([x, *near], axis=1), axis=1)
    cols = tuple(p[:, None] for p in params)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = ell(x, *cols)
        below = values <= t
        prob = below[:, -1].astype(float)

        rows, j = np.nonzero(below[:, 1:] != below[:, :-1])
        sign = np.where(below[rows, j], 1.0, -1.0)
        left, right, left_below = x[rows, j], x[rows, j + 1], below[rows, j]

        centre, lft, rgt = values[:, 1:-1], values[:, :-2], values[:, 2:]
        same = (below[:, 1:-1] == below[:, :-2]) & (below[:, 1:-1] == below[:, 2:])
        top = same & below[:, 1:-1] & (centre >= lft) & (centre >= rgt)
        bottom = same & ~below[:, 1:-1] & (centre <= lft) & (centre <= rgt)
        er, ej = np.nonzero(top | bottom)
        if er.size:
            up = np.where(top[er, ej], 1.0, -1.0)
            par = tuple(p[er] for p in params)
            a, b = x[er, ej], x[er, ej + 2]
            g = (np.sqrt(5) - 1) / 2
            c, e = b - g * (b - a), a + g * (b - a)
            fc, fe = up * ell(c, *par), up * ell(e, *par)
            for _ in range(40):
                take = fc > fe
                a, b = np.where(take, a, c), np.where(take, e, b)
                c, e = b - g * (b - a), a + g * (b - a)
                fc, fe = up * ell(c, *par), up * ell(e, *par)
            best = (a + b) / 2
            crosses = (ell(best, *par) <= t) != below[er, ej + 1]
            er, ej, best, up = er[crosses], ej[crosses], best[crosses], up[crosses]
            rows = np.concatenate([rows, er, er])
            sign = np.concatenate([sign, up, -up])
            left = np.concatenate([left, x[er, ej], best])
            right = np.concatenate([right, best, x[er, ej + 2]])
            left_below = np.concatenate([left_below, up > 0, up < 0])
        if count:
            code = np.bincount(rows, minlength=n) * 2 + below[:, -1]
            if special_points is not None:
                kink = ell(np.clip(special_points, lo, hi), *cols) <= t
                code = code + (kink * 2 ** np.arange(20, 20 + kink.shape[1])).sum(1)
            return code
        if rows.size:
            par = tuple(p[rows] for p in params)
            for _ in range(64):
                mid = np.where(right > 4 * left, np.sqrt(left * right), (left + right) / 2)
                is_left = (ell(mid, *par) <= t) == left_below
                left, right = np.where(is_left, mid, left), np.where(is_left, right, mid)
            np.add.at(prob, rows, sign * ray.cdf((left + right) / 2 / unit[rows]))
    assert prob.shape == (n,)
    return prob


def graded(points: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """``points`` and edges that close in on each from both sides.

    A second kink may lie just beside a change of the number of crossings; hidden between the last node of a wide panel
    and its end it would go unseen (it cost 2e-8 to 4e-6 of F at k = 1.8, d = 2).
    """
    step = (hi - lo) * np.array([0, 1e-9, 2e-8, 4e-7, 8e-6, 1.6e-4, 3e-3])
    return np.clip(np.concatenate([(points[:, None] + step).ravel(), (points[:, None] - step).ravel()]), lo, hi)


def changes(signature: Callable[[np.ndarray], np.ndarray], grid: np.ndarray) -> np.ndarray:
    """Bisected positions where an integer ``signature`` changes along ``grid``: panel edges of the outer integral.

    The outer integrand is smooth while the number of crossings is constant and has a square-root onset or a step where
    it changes; adaptive quadrature that is not told these places may miss them.
    """
    s = signature(grid)
    j = np.nonzero(s[1:] != s[:-1])[0]
    a, b, left = grid[j], grid[j + 1], s[j]
    for _ in range(38):
        if a.size == 0:
            break
        mid = (a + b) / 2
        same = signature(mid) == left
        a, b = np.where(same, mid, a), np.where(same, b, mid)
    return (a + b) / 2


# ------------------------------------------------------------------------------------ optimum over the dual

Cdf = Callable[[float], float]


def upper(F: Cdf, x: float) -> float:
    """U(x) = (1/2 + D(lambda)) / lambda at lambda = exp(x)."""
    return F(x) + (F(-x) - 0.5) * np.exp(-x)


def _solve(g: Callable[[float], float], start: float, step: float) -> float:
    """Zero of an increasing, perhaps discontinuous, ``g``."""
    lo = hi = start
    glo = ghi = g(start)
    while glo > 0:
        lo, step = lo - step, step * 2
        glo = g(lo)
    step = max(step, 1e-3)
    while ghi < 0:
        hi, step = hi + step, step * 2
        ghi = g(hi)
    if glo == 0:
        return lo
    if ghi == 0:
        return hi
    x = float(brentq(g, lo, hi, xtol=5e-7, rtol=1e-14))
    w = 2e-6
    if g(x + w) - g(x - w) > 1e-4:  # an atom: pin it down
        lo, hi = x - w, x + w
        for _ in range(18):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if g(mid) < 0 else (lo, mid)
        x = (lo + hi) / 2
    return x


def minus_median(F: Cdf, guess: float = 0.0, step: float = 0.25) -> float:
    """The optimal ``x``; ``guess`` is a first idea of it."""
    return -_solve(lambda t: F(t) - 0.5, -guess, step)


def upper_beside(F: Cdf, x: float) -> float:
    """U a hair beside x, where an atom at x does no harm."""
    eps = 4e-11 * max(1.0, abs(x))
    return float(min(upper(F, x - eps), upper(F, x + eps)))


def p_star(F: Cdf, guess: float = 0.0, step: float = 0.25) -> float:
    """``p*`` from the CDF of ``l``."""
    return upper_beside(F, minus_median(F, guess, step))


def lower_bound(F: Cdf, p: float, guess: float = 0.0) -> float:
    """``L(p) = sup_x e^x (p - F(x)) + 1 - F(-x)``."""
    x = _solve(lambda t: F(t) - p, guess, 0.25)
    eps = 4e-11 * max(1.0, abs(x))
    return max(0.0, *(np.exp(y) * (p - F(y)) + 1 - F(-y) for y in (x - eps, x + eps)))


# --------------------------------------------------------------------------------------------------- output

KEYS = {
    "p_star": ("noise", "threat", "dim", "radius"),
    "lower_bound": ("noise", "threat", "dim", "radius", "p"),
    "moments": ("noise", "dim"),
    "log_normaliser": ("noise", "dim"),
}


def name(family: str, **parameters: object) -> str:
    """``l2_exponential(k=250, sigma=1.0433550)``."""
    return f"{family}({', '.join(f'{k}={v}' for k, v in parameters.items())})"


def _locked(write: Callable[..., None]) -> Callable[..., None]:
    """Generators may run side by side."""
    def wrapper(*args: object) -> None:
        with (Path(tempfile.gettempdir()) / "oracle-reference.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            write(*args)
    return wrapper


@_locked
def merge(section: str, cases: list[dict[str, object]]) -> None:
    """Add or replace cases of one section of reference.json, atomically."""
    data = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    by_key = {tuple(c[k] for k in KEYS[section]): c for c in data.get(section, [])}
    by_key.update({tuple(c[k] for k in KEYS[section]): c for c in cases})
    data[section] = list(by_key.values())
    lines = []
    for sec in KEYS:
        if sec in data:
            lines.append(f'"{sec}": [\n' + ",\n".join("  " + json.dumps(c) for c in data[sec]) + "\n]")
    tmp = REFERENCE.with_suffix(".tmp")
    tmp.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    tmp.replace(REFERENCE)
