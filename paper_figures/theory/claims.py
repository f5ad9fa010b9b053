"""A claim beside two computations, as a row of a table."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

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
        of the two), error, agrees.
    """
    differences = (computed - claimed, independent - claimed)
    sign = {"=": 0.0, "<=": 1.0, ">=": -1.0}[relation]
    worst = max(differences, key=lambda value: sign * value if sign else abs(value))
    violation = sign * worst if sign else abs(worst)
    return {
        "statement": statement, **case, "relation": relation, "claimed": float(claimed), "computed": float(computed),
        "independent": float(independent), "difference": float(worst), "error": float(error),
        "agrees": bool(violation <= error),
    }  # fmt: skip
