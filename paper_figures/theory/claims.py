"""A claim beside two computations, as a row of a table; many of them, as one row for each statement."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

Relation: TypeAlias = Literal["=", "<=", ">="]


def row(
    statement: str,
    *,
    claimed: float,
    computed: float,
    independent: float | None,
    error: float,
    relation: Relation = "=",
    **case: Any,
) -> dict[str, Any]:
    """Return one row: the case, what is claimed, what was found in two ways, and whether they agree.

    Args:
        statement: the claim in a few words, with its number in [Z].
        claimed: the number that the statement gives.
        computed: what the package gives.
        independent: what a computation gives that shares no code with it; None, stored as NaN, where there is none.
        error: how far the computations may be off.
        relation: how what was found relates to what is claimed: the found is ``"="``, ``"<="`` or ``">="`` the claimed.
        case: noise, dimension, radius, ... : columns of their own.

    Returns:
        The case, and statement, relation, claimed, computed, independent, difference (found minus claimed, the worse
        of the two), error, agrees. What is NaN does not agree.
    """
    differences = [value - claimed for value in (computed, independent) if value is not None]
    sign = {"=": 0.0, "<=": 1.0, ">=": -1.0}[relation]
    violations = [sign * value if sign else abs(value) for value in differences]
    violation = float(np.max(violations))  # NaN if either is
    worst = math.nan if math.isnan(violation) else differences[violations.index(violation)]
    other = math.nan if independent is None else float(independent)
    return {
        "statement": statement, **case, "relation": relation, "claimed": float(claimed), "computed": float(computed),
        "independent": other, "difference": float(worst), "error": float(error), "agrees": bool(violation <= error),
    }  # fmt: skip


def summary(*frames: pd.DataFrame) -> pd.DataFrame:
    """Return one row per statement, in the order in which they come.

    Args:
        frames: rows of ``row``, of one module or of several.

    Returns:
        Columns statement, cases, agree (how many), verdict ("holds" if all agree, "fails" if none does, "in part"
        otherwise), worst (how far what was found goes beyond the claim, at worst; below 0, by how much it stays within
        a one-sided claim; NaN if anything is) and error (the largest that is stated).
    """
    rows = []
    for statement, group in pd.concat(frames, ignore_index=True).groupby("statement", sort=False):
        differences = group["difference"].to_numpy(dtype=np.float64)
        sign = group["relation"].map({"=": 0.0, "<=": 1.0, ">=": -1.0}).to_numpy()
        agree = int(group["agrees"].sum())
        verdict = "holds" if agree == len(group) else "in part" if agree else "fails"
        worst = float(np.max(np.where(sign == 0.0, np.abs(differences), sign * differences)))
        numbers = {"worst": worst, "error": float(group["error"].max())}
        rows.append({"statement": statement, "cases": len(group), "agree": agree, "verdict": verdict, **numbers})
    return pd.DataFrame(rows)
