"""The least ``E_{π_δ} f`` over ``f`` with values in [0, 1] and ``E_{π0} f = p``, on a division of the space.

On cells of exact mass, ``f`` constant on each, the minimum is that over fewer ``f``: it is never below the true one.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from paper_figures.families import Array, Family


def line_cells(family: Family, shift: float, count: int) -> tuple[Array, Array]:
    """Return the masses under ``π0`` and ``π_δ`` of ``2 count`` or so cells of the line, ``family.dim == 1``.

    The edges are quantiles of both laws.
    """

    def below(x: Array) -> Array:
        inside = special.gammainc(family.shape, np.abs(x) ** family.power / family.scale)
        return np.asarray(0.5 * (1.0 + np.sign(x) * inside))

    u = np.linspace(0.0, 1.0, count + 1)[1:-1]
    reach = (family.scale * special.gammaincinv(family.shape, np.abs(2.0 * u - 1.0))) ** (1.0 / family.power)
    own = np.sign(u - 0.5) * reach
    edges = np.unique(np.concatenate([own, own + shift, [0.0, 0.5 * shift, shift]]))
    own, moved = (np.diff(np.concatenate([[0.0], below(x), [1.0]])) for x in (edges, edges - shift))
    return own, moved


def plane_cells(family: Family, shift: Array, directions: int = 64, radii: int = 256) -> tuple[Array, Array]:
    """Return masses of points of the plane under ``π0`` and, by the likelihood ratio, under ``π_δ``.

    Where ``π_δ`` is infinite the points see too little of it; ``f`` is 0 there at the minimum.
    """
    z, mass = family.plane_nodes(directions, radii)
    return mass, np.asarray(mass * np.exp(family.log_ratio(z, shift)))


def sorted_minimum(mass: Array, shifted: Array, p: float) -> tuple[float, Array]:
    """Return the minimum and its ``f``, by filling cells in the order of ``π_δ / π0`` (Neyman & Pearson)."""
    order = np.argsort(shifted / np.maximum(mass, 1e-300), kind="stable")
    before = np.concatenate([[0.0], np.cumsum(mass[order])[:-1]])
    f = np.empty_like(mass)
    f[order] = np.clip((p - before) / np.maximum(mass[order], 1e-300), 0.0, 1.0)
    return float(f @ shifted), f


def linear_programme(mass: Array, shifted: Array, p: float) -> tuple[float, Array]:
    """Return the minimum and its ``f`` as scipy's linear programme finds them, told nothing of the likelihood ratio."""
    found = optimize.linprog(shifted, A_eq=mass[None], b_eq=[p], bounds=(0.0, 1.0), method="highs")
    if not found.success:
        raise RuntimeError(f"the linear programme failed: {found.message}")
    return float(found.fun), np.asarray(found.x)


def dual(mass: Array, shifted: Array, p: float) -> float:
    """Return ``sup_λ (λ p - Σ (λ π0 - π_δ)_+)``, [Z] Eq. 6: concave and piecewise linear in ``λ``, its corners tried.

    With ratios ``t_i`` in ascending order, the sum at ``λ = t_i`` is ``t_i`` times the mass before, less what ``π_δ``
    has there.
    """
    ratio = shifted / np.maximum(mass, 1e-300)
    order = np.argsort(ratio, kind="stable")
    corner = ratio[order]
    taken = np.concatenate([[0.0], np.cumsum(mass[order])[:-1]])
    held = np.concatenate([[0.0], np.cumsum(shifted[order])[:-1]])
    return float(max(0.0, np.max(corner * p - (corner * taken - held))))
