"""A claim beside two computations, as a row of a table."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np

Relation: TypeAlias = Literal["=", "<=", ">="]


def row(
    statement: str,
    *,
    claimed: float,
    computed: float,
    independent: float,
    error: float,
    relation: Relation = "=",
    **case: Any,
) -> dict[str, Any]:
    """Return one row: the case, what is claimed, what was found in two ways, and whether they agree.

    Args:
        statement: the claim in a few words, with its number in [Z].
        claimed: the number that the statement gives.
        computed: what the package gives.
        independent: what a computation gives that shares no code with it.
        error: how far the computations may be off.
        relation: how what was found relates to what is claimed: the found is ``"="``, ``"<="`` or ``">="`` the claimed.
        case: noise, dimension, radius, ... : columns of their own.

    Returns:
        The case, and statement, relation, claimed, computed, independent, difference (found minus claimed, the worse
        of the two), error, agrees. What is NaN does not agree.
    """
    differences = (computed - claimed, independent - claimed)
    sign = {"=": 0.0, "<=": 1.0, ">=": -1.0}[relation]
    violations = [sign * value if sign else abs(value) for value in differences]
    violation = float(np.max(violations))  # NaN if either is
    worst = math.nan if math.isnan(violation) else differences[violations.index(violation)]
    return {
        "statement": statement, **case, "relation": relation, "claimed": float(claimed), "computed": float(computed),
        "independent": float(independent), "difference": float(worst), "error": float(error),
        "agrees": bool(violation <= error),
    }  # fmt: skip
