"""Threat models and the norm inclusions that carry a certificate from one to another.

A threat model is a ball of perturbations, spelt as RobustBench spells it: ``"L1"``, ``"L2"``, ``"Linf"``.
"""

from __future__ import annotations

import difflib
import math
from typing import Final, Literal, TypeAlias

from rs_plugin.errors import ParameterError, UnknownNameError

Threat: TypeAlias = Literal["L1", "L2", "Linf"]

THREATS: Final[tuple[Threat, ...]] = ("L1", "L2", "Linf")


def parse_threat(name: str) -> Threat:
    """Return ``name`` as a threat model.

    Raises:
        UnknownNameError: ``name`` is not one of ``"L1"``, ``"L2"``, ``"Linf"``.
    """
    for threat in THREATS:
        if threat == name:
            return threat
    by_lower = {threat.lower(): threat for threat in THREATS}
    close = difflib.get_close_matches(str(name).lower().replace("_", ""), list(by_lower), n=1, cutoff=0.3)
    hint = f" Did you mean {by_lower[close[0]]!r}?" if close else ""
    raise UnknownNameError(f"unknown threat model {name!r}; known: {', '.join(THREATS)}.{hint}")


def check_radius(name: str, value: float) -> float:
    """Return a radius as a float.

    Raises:
        ParameterError: it is negative, NaN or infinite, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise ParameterError(f"{name} must be a radius of 0 or more, not {value!r}")
    return float(value)


def radius_factor(threat: Threat, source: Threat, dim: int) -> float:
    """Return the largest ``c`` with ``B_threat(c r)`` inside ``B_source(r)`` in ``dim`` dimensions.

    A certificate of radius ``r`` for ``source`` is one of radius ``c r`` for ``threat``. The inclusions are
    ``B_1(r) ⊂ B_2(r) ⊂ B_inf(r)``, ``B_inf(r) ⊂ B_2(√d r)``, ``B_2(r) ⊂ B_1(√d r)`` and ``B_inf(r) ⊂ B_1(d r)``.
    """
    exponent = {"L1": 1.0, "L2": 0.5, "Linf": 0.0}
    power = max(0.0, exponent[source] - exponent[threat])
    if power == 0.0:
        return 1.0
    return 1.0 / float(dim) if power == 1.0 else 1.0 / math.sqrt(dim)
