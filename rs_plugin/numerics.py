"""Stable numerical helpers, each with its formula and source: quadrature, logarithmic forms and safe rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple, TypeAlias

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


_END: Final = 1e-8  # how far from its panel's ends the closed rule looks: at an end itself the integrand may jump
_NULL_RULES: Final = 8
_HALVINGS: Final = 40  # of a panel
_NARROWEST: Final = 1e-12  # a panel, relative to its place
_FEWEST: Final = 256  # panels that may be open at a time, beside as many as there were
_SHARE: Final = 1.0 / 16.0  # of the tolerance that one panel may leave


class KronrodRule(NamedTuple):
    """The 21-point Kronrod rule on [0, 1] with its Gauss rule and null rules that estimate its error.

    Two more nodes of weight 0 lie next to the ends. A null rule of degree ``n`` is a sum over the nodes that vanishes
    for every polynomial below that degree; scaled to the difference of the Kronrod and the Gauss rule, the highest
    eight of the 23 nodes, in pairs, and that difference itself estimate the error, which the largest of them covers
    for one step, kink, root or smooth rise anywhere in the panel, where the difference alone vanishes by chance, or
    near the ends always. A feature between two nodes that no node sees is not covered. Source: Berntsen & Espelid,
    *Error estimation in automatic quadrature routines*, ACM TOMS 17 (1991).
    """

    nodes: Array  # (23,)
    weights: Array  # (23,)
    difference: Array  # (23,) Kronrod minus Gauss
    null: Array  # (23, 8)

    def integrate(self, values: Array) -> tuple[Array, Array]:
        """Return the integrals of ``values``, shape (..., 23), and their estimated errors, shapes (...)."""
        pairs = (values @ self.null).reshape(*values.shape[:-1], _NULL_RULES // 2, 2)
        error = np.maximum(np.hypot(pairs[..., 0], pairs[..., 1]).max(-1), np.abs(values @ self.difference))
        return np.asarray(values @ self.weights), np.asarray(error)


@cache
def kronrod_rule() -> KronrodRule:
    """Return the rule, made once."""
    half = np.array(_KRONROD_NODES)
    inner = (np.concatenate([-half, half[-2::-1]]) + 1.0) / 2.0
    nodes = np.concatenate([[_END], inner, [1.0 - _END]])
    weights = np.pad(np.concatenate([np.array(_KRONROD_WEIGHTS), np.array(_KRONROD_WEIGHTS)[-2::-1]]) / 2.0, 1)
    gauss = np.zeros_like(weights)
    gauss[2:-1:2] = np.polynomial.legendre.leggauss(10)[1] / 2.0
    difference = weights - gauss
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(2.0 * nodes - 1.0, len(nodes) - 1))
    return KronrodRule(nodes, weights, difference, basis[:, -_NULL_RULES:] * np.linalg.norm(difference))


def integrate_panels(
    function: Callable[[Array, NDArray[np.intp]], tuple[Array, Array]],
    owner: NDArray[np.intp],
    left: Array,
    right: Array,
    shape: tuple[int, int],
    tolerance: float,
) -> tuple[Array, Array]:
    """Return integrals of one or more functions, each a sum over panels of its own, and their estimated errors.

    Panels are halved until an integral's estimated error is within the tolerance, or they are as narrow as rounding.

    Args:
        function: takes points, shape (n, 23), and the owner of each row, shape (n,); returns the values of the
            functions, shape (parts, n, 23), and an error of every value, shape (n, 23).
        owner: the integral, below ``count``, that each panel belongs to, shape (panels,).
        left: left ends, shape (panels,).
        right: right ends, shape (panels,).
        shape: of the result, (parts, count).
        tolerance: absolute error to aim at; where it cannot be reached the error says so.

    Returns:
        Values of shape (parts, count), and one error, of the worst part, of shape (count,).
    """
    rule = kronrod_rule()
    count = shape[1]
    values, errors = np.zeros(shape), np.zeros(count)
    most = _FEWEST + len(left)
    for round_ in range(_HALVINGS + 1):
        if len(left) == 0:
            break
        widths = right - left
        integrand, spread = function(left[:, None] + widths[:, None] * rule.nodes, owner)
        estimates, doubts = rule.integrate(integrand * widths[:, None])
        doubt = doubts.max(0)
        # Panels of an integral whose total error is within the tolerance need no halving, however it is spread.
        total = np.bincount(owner, doubt, count) + errors
        narrow = widths <= _NARROWEST * np.maximum(1.0, np.abs(left))
        open_ = (total[owner] > tolerance) & (doubt > _SHARE * tolerance) & ~narrow
        if round_ == _HALVINGS or np.count_nonzero(open_) > most:  # a function that is noise cannot be resolved
            open_[:] = False
        done = ~open_
        for row, estimate in zip(values, estimates, strict=True):
            row += np.bincount(owner[done], estimate[done], count)
        errors += np.bincount(owner[done], (doubt + widths * (spread @ rule.weights))[done], count)
        middle = 0.5 * (left[open_] + right[open_])
        left, right = np.concatenate([left[open_], middle]), np.concatenate([middle, right[open_]])
        owner = np.tile(owner[open_], 2)
    return values, errors


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
