"""From text to noise: ``"mixed_norm(k=50, sigma=0.5)"``, as ``str(noise)`` writes it."""

from __future__ import annotations

import ast
import inspect
import math

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.errors import ParameterError
from rs_plugin.registry import Registry

_ROOM = "rs_plugin.distributions"
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_distribution(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, SmoothingDistribution)


#: Every family that a user can name; other packages add theirs under the entry-point group of the same name.
distributions: Registry[type[SmoothingDistribution]] = Registry("noise", _is_distribution, "rs_plugin.distributions")
distributions.register("gaussian", f"{_ROOM}.norm_exponential:Gaussian")
distributions.register("laplace", f"{_ROOM}.norm_exponential:Laplace")
distributions.register("l1_exponential", f"{_ROOM}.norm_exponential:L1Exponential")
distributions.register("l2_exponential", f"{_ROOM}.norm_exponential:L2Exponential")
distributions.register("linf_exponential", f"{_ROOM}.norm_exponential:LinfExponential")
distributions.register("norm_exponential", f"{_ROOM}.norm_exponential:NormExponential")
distributions.register("mixed_norm", f"{_ROOM}.max_tilted:MixedNorm")
distributions.register("max_tilted_exponential", f"{_ROOM}.max_tilted:MaxTiltedExponential")


def parse_noise(text: str) -> SmoothingDistribution:
    """Return the noise that ``text`` describes: a family's name and its numbers, ``str(noise)`` for instance.

    >>> parse_noise("mixed_norm(k=50, sigma=0.5)")
    MixedNorm(k=50, sigma=0.5)

    Raises:
        ParameterError: the text is not ``name(parameter=number, …)``, a parameter is unknown or missing, or a number is
            out of range.
        UnknownNameError: no family has that name.
    """
    if not isinstance(text, str):
        raise ParameterError(f"noise must be text such as 'gaussian(sigma=0.5)', not {text!r}")
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: nested too deeply
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or any(not k.arg for k in call.keywords):
        form = "name(parameter=number, ...), as in gaussian(sigma=0.5)"
        raise ParameterError(f"noise {text!r} is not of the form {form}")
    family = distributions.get(call.func.id)
    positional = [_number(node, text) for node in call.args]
    named = {str(keyword.arg): _number(keyword.value, text) for keyword in call.keywords}
    if len(named) < len(call.keywords):
        raise ParameterError(f"noise {text!r} gives a parameter twice")
    if fault := _misfit(inspect.signature(family), positional, named):
        written = ", ".join(f"{name}=..." for name in inspect.signature(family).parameters)
        raise ParameterError(f"noise {text!r} {fault}; it is written {call.func.id}({written})")
    return family(*positional, **named)


def _misfit(signature: inspect.Signature, positional: list[float], named: dict[str, float]) -> str:
    """Return what keeps a constructor from taking the parameters, "" where nothing does."""
    try:
        given = signature.bind_partial(*positional, **named).arguments  # unknown ones first: the likelier slip
    except TypeError as error:
        unknown = [name for name in named if name not in signature.parameters]
        return f"gives the unknown parameter {unknown[0]!r}" if unknown else f"has {error}"
    needed = [name for name, p in signature.parameters.items() if p.default is p.empty and p.kind not in _VARIADIC]
    missing = [name for name in needed if name not in given]
    return f"lacks {' and '.join(map(repr, missing))}" if missing else ""


def _number(node: ast.expr, text: str) -> float:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, text)
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return math.inf if node.id == "inf" else math.nan
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return node.value
    raise ParameterError(f"noise {text!r}: {ast.unparse(node)!r} is not a number")
