"""Stable numerical helpers, each with its formula and source: quadrature, logarithmic forms and safe rounding."""

from __future__ import annotations

import math
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array: TypeAlias = NDArray[np.float64]

# Positive nodes of the 21-point Kronrod extension of the 10-point Gauss rule, largest first, with their weights
# (Piessens et al., QUADPACK, 1983, routine QK21). Every second node belongs to the Gauss rule.
_KRONROD_NODES: Final = (
    0.995657163025808080735527280689003,
    0.973906528517171720077964012084452,
    0.930157491355708226001207180059508,
    0.865063366688984510732096688423493,
    0.780817726586416897063717578345042,
    0.679409568299024406234327365114874,
    0.562757134668604683339000099272694,
    0.433395394129247190799265943165784,
    0.294392862701460198131126603103866,
    0.148874338981631210884826001129720,
    0.0,
)
_KRONROD_WEIGHTS: Final = (
    0.011694638867371874278064396062192,
    0.032558162307964727478818972459390,
    0.054755896574351996031381300244580,
    0.075039674810919952767043140916190,
    0.093125454583697605535065465083366,
    0.109387158802297641899210590325805,
    0.123491976262065851077958109585166,
    0.134709217311473325928054001771707,
    0.142775938577060080797094273138717,
    0.147739104901338491374841515972068,
    0.149445554002916905664936468389821,
)


@cache
def gauss_kronrod() -> tuple[Array, Array, Array]:
    """Return nodes (21,), Kronrod weights (21,) and Gauss weights (21,) on [0, 1].

    The Gauss weights are 0 at the nodes that only the Kronrod rule has, so one set of values serves both rules and
    their difference bounds the error of the better one generously for a smooth integrand.
    """
    half = np.array(_KRONROD_NODES)
    nodes = np.concatenate([-half, half[-2::-1]])
    weights = np.concatenate([np.array(_KRONROD_WEIGHTS), np.array(_KRONROD_WEIGHTS)[-2::-1]])
    gauss = np.zeros_like(weights)
    gauss[1::2] = np.polynomial.legendre.leggauss(10)[1]
    return (nodes + 1.0) / 2.0, weights / 2.0, gauss / 2.0


@cache
def gauss_legendre(order: int) -> tuple[Array, Array]:
    """Return nodes and weights, each (order,), of the Gauss-Legendre rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return (nodes + 1.0) / 2.0, weights / 2.0


def log_gammainc(shape: float, log_x: ArrayLike) -> Array:
    """Return ``log P(shape, x)`` of the regularised lower incomplete gamma function, from ``log x``.

    Below ``x = 1e-8`` two terms of the series ``P(a, x) = x^a (1 - a x / (a + 1) + …) / Γ(a + 1)`` are exact to
    double precision and do not underflow; above the median the complement is used (DLMF 8.7.1, 8.2.5).
    """
    log_x = np.asarray(log_x, dtype=np.float64)
    x = np.exp(np.minimum(log_x, 700.0))
    series = shape * log_x - special.gammaln(shape + 1.0) + np.log1p(-np.minimum(x, 0.5) * shape / (shape + 1.0))
    # Where P underflows, x lies far below the shape, and Kummer's form x^a e^{-x} M(1; a + 1; x) / Γ(a + 1) is tame.
    kummer = (
        shape * log_x
        - x
        - special.gammaln(shape + 1.0)
        + np.log(special.hyp1f1(1.0, shape + 1.0, np.minimum(x, shape)))
    )
    with np.errstate(divide="ignore"):
        direct = np.where(special.gammainc(shape, x) > 1e-290, np.log(special.gammainc(shape, x)), kummer)
    upper = np.log1p(-np.minimum(special.gammaincc(shape, x), 0.75))
    result: Array = np.where(x < 1e-8, series, np.where(x < shape, direct, upper))
    return result


def log_gammainc_at(shape: float, log_x: float) -> float:
    """Return ``log_gammainc`` of one number, without the cost of arrays where ``P`` does not underflow."""
    x = math.exp(min(log_x, 700.0))
    if x >= shape:
        return math.log1p(-float(special.gammaincc(shape, x)))
    direct = float(special.gammainc(shape, x))
    return math.log(direct) if x >= 1e-8 and direct > 1e-290 else float(log_gammainc(shape, log_x))


def log_gammaincinv(shape: float, log_p: float) -> float:
    """Return ``log x`` with ``P(shape, x) = exp(log_p)``, also where ``x`` underflows.

    For small ``x`` the leading term of the series gives ``log x = (log p + log Γ(shape + 1)) / shape``.
    """
    small = (log_p + float(special.gammaln(shape + 1.0))) / shape
    if small < -30.0:
        return small
    return float(np.log(special.gammaincinv(shape, np.exp(log_p))))


def step_up(value: ArrayLike, ulps: float) -> Array:
    """Return ``value`` moved up by ``ulps`` units in the last place."""
    value = np.asarray(value, dtype=np.float64)
    return np.asarray(value + ulps * np.spacing(np.abs(value)))


def step_down(value: ArrayLike, ulps: float) -> Array:
    """Return ``value`` moved down by ``ulps`` units in the last place."""
    value = np.asarray(value, dtype=np.float64)
    return np.asarray(value - ulps * np.spacing(np.abs(value)))
