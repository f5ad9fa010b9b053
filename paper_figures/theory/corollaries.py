"""[Z], Corollaries 1 and 2: the lower bound in closed form for Laplace noise under L1 and Gaussian noise under L2.

Taken as the statements, ``p`` the probability at the centre and ``r`` the radius:

* Eq. 7, Laplace of scale ``b``: ``1 - e^{r/b} (1 - p)`` for ``p >= 1 - e^{-r/b}/2``, else ``e^{-r/b} / (4 (1 - p))``.
  The second branch belongs to ``p >= 1/2``; below, the bound is ``e^{-r/b} p``, which is smaller. There Eq. 7 promises
  more than holds. It does not matter for a certificate, which asks whether the bound exceeds 1/2.
* Eq. 8, Gaussian of width ``σ``: ``Φ(Φ^{-1}(p) - r/σ)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

import rs_plugin as rs
from paper_figures.families import Array, Family
from paper_figures.theory import neyman_pearson
from paper_figures.theory.claims import row

PS = (0.1, 0.3, 0.5, 0.6, 0.8, 0.95, 0.999)
RADII = (0.1, 0.5, 1.0, 2.0)


def eq7(p: float | Array, ratio: float) -> Array:
    """Return the bound as [Z] Eq. 7 prints it; ``ratio`` is ``r / b``."""
    p = np.asarray(p, dtype=np.float64)
    high = p >= 1.0 - 0.5 * np.exp(-ratio)
    return np.asarray(np.where(high, 1.0 - np.exp(ratio) * (1.0 - p), np.exp(-ratio) / (4.0 * (1.0 - p))))


def laplace(p: float | Array, ratio: float) -> Array:
    """Return Eq. 7 with the branch ``e^{-r/b} p`` below ``p = 1/2``."""
    return np.asarray(np.where(np.asarray(p) < 0.5, np.exp(-ratio) * p, eq7(p, ratio)))


def eq8(p: float | Array, ratio: float) -> Array:
    """Return the bound of [Z] Eq. 8; ``ratio`` is ``r / σ``."""
    return np.asarray(special.ndtr(special.ndtri(p) - ratio))


def compute(ps: Sequence[float] = PS, radii: Sequence[float] = RADII, dim: int = 5, cells: int = 8000) -> pd.DataFrame:
    """Compare both equations, and Eq. 7 mended, with the certificate and with the least ``E f(z + δ)`` over ``f``.

    Args:
        ps: probabilities at the centre, in (0, 1).
        radii: ``r`` in units of ``b`` or ``σ``.
        dim: of the certificate. The minimum is found on the line: both noises have independent coordinates, and
            ``r e_1`` leaves all but one alone.
        cells: into which the line is divided, twice.

    Returns:
        Rows of ``claims.row``; independent is never below the true minimum, and above it by no more than the error.
    """
    noises: tuple[tuple[rs.SmoothingDistribution, str], ...] = ((rs.Laplace(1.0), "L1"), (rs.Gaussian(1.0), "L2"))
    rows = []
    for noise, threat in noises:
        certificate = rs.certificate(noise, threat, dim)
        line = Family.of(noise, 1)
        formulas = {"Corollary 2, Eq. 8": eq8}
        if threat == "L1":
            formulas = {"Corollary 1, Eq. 7": eq7, "Corollary 1, with e^(-r/b) p below 1/2": laplace}
        for radius in radii:
            masses = neyman_pearson.line_cells(line, radius, cells)
            rough = neyman_pearson.line_cells(line, radius, cells // 2)
            for p in ps:
                least = neyman_pearson.sorted_minimum(*masses, p)[0]
                error = 3.0 * abs(neyman_pearson.sorted_minimum(*rough, p)[0] - least) + 1e-9
                label = {"noise": str(noise), "threat": threat, "dim": dim, "radius": radius, "p": p}
                found = {"computed": certificate.lower_bound(p, radius), "independent": least, "error": error}
                for statement, formula in formulas.items():
                    case: dict[str, Any] = {**label, **found}
                    rows.append(row(statement, **case, claimed=float(formula(p, radius))))
    return pd.DataFrame(rows)
