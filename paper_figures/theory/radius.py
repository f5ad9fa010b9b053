"""[Z], Propositions 1 to 3: noise of high dimension lies in a thin shell, and ``k`` sets the law of its radius.

Taken as the statements, in this project's words; which of the three carries which number is not certain.

* Thin shell. For ``z ~ N(0, I_d)`` there is a ``c > 0``, the same for all ``d``, with
  ``P(|‖z‖₂ - √d| >= t) <= 2 exp(-c t²)``: mean near ``√d``, spread of order 1. Tested with ``c = 1/2``.
* Radius of Eq. 11. ``‖z‖₂`` has density ``∝ s^{d-k-1} exp(-s²/2σ²)``: mode ``σ √(d-k-1)``, mean square ``σ² (d-k)``,
  mean near ``σ √(d-k)``, spread near ``σ / √2``. So ``k`` moves the shell towards the centre and keeps its width.
* The same with the family's own norm: for Eq. 10 ``‖z‖₁`` is ``Gamma(d-k)`` of scale ``b``, for Eq. 12
  ``‖z‖∞² / 2σ²`` is ``Gamma((d-k)/2)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import integrate, special, stats

import rs_plugin as rs
from paper_figures.families import Array
from paper_figures.theory.claims import row

_RELATIVE = 1e-8  # of quadrature


def thin_shell(
    dims: Sequence[int] = (2, 10, 100, 3072, 150_528), distances: Sequence[float] = (0.5, 1.0, 2.0, 4.0), c: float = 0.5
) -> pd.DataFrame:
    """Compare ``P(|‖z‖₂ - √d| >= t)`` with ``2 exp(-c t²)``, and the spread of ``‖z‖₂`` with ``1/√2``.

    Returns:
        Rows of ``claims.row``. Of the first statement, computed from the package's law of the radius, independent from
        scipy's chi-square law. Of the second, the spread by closed form and by quadrature; claimed is the limit, and
        the error what a series in ``1/d`` leaves: ``1/√2 - 1/(8 √2 d)`` and less than ``0.1/d²`` more.
    """
    rows = []
    for dim in dims:
        noise = rs.Gaussian(1.0)
        law, chi2 = noise.radial_law(dim), stats.chi2(dim)
        root = math.sqrt(dim)
        for t in distances:
            inner = max(root - t, 0.0)
            computed = float(law.cdf(inner) + law.sf(root + t))
            independent = float(chi2.cdf(inner**2) + chi2.sf((root + t) ** 2))
            rows.append(
                row(
                    "Proposition 1: thin shell, tail", noise=str(noise), dim=dim, t=t, relation="<=",
                    claimed=2.0 * math.exp(-c * t * t), computed=computed, independent=independent, error=1e-12,
                )
            )  # fmt: skip
        moments = _moments_by_quadrature(dim, 0.0, 2.0, 2.0)
        rows.append(
            row(
                "Proposition 1: thin shell, spread", noise=str(noise), dim=dim, claimed=math.sqrt(0.5),
                computed=float(law.std()), independent=moments["spread"],
                error=1.0 / (8.0 * math.sqrt(2.0) * dim) + 0.1 / dim**2 + _RELATIVE,
            )
        )  # fmt: skip
    return pd.DataFrame(rows)


def radius_law(
    dims: Sequence[int] = (5, 100, 3072), shares: Sequence[float] = (0.0, 0.3, 0.6, 0.9)
) -> pd.DataFrame:
    """Compare the law of the radius with the density that is claimed for it, ``k`` a share of ``d``.

    Returns:
        Rows of ``claims.row``: of Eqs. 10, 11 and 12 the mean square of the family's own norm, for Eq. 11 mode, mean
        and spread as well. Claimed in closed form, or in the limit of large ``d - k``; computed from the package's law;
        independent by quadrature of ``s^{d-k-1} exp(-s^p / b)``.
    """
    rows = []
    for dim in dims:
        for share in shares:
            k = share * dim
            free = dim - k
            members: tuple[tuple[str, Any, float], ...] = (
                ("Eq. 10", rs.L1Exponential(k, 1.0), free * (free + 1.0)),
                ("Eq. 11", rs.L2Exponential(k, 1.0), free),
                ("Eq. 12", rs.LinfExponential(k, 1.0), free),
            )
            for equation, noise, square in members:
                law = noise.radial_law(dim)
                moments = _moments_by_quadrature(dim, k, noise.power, noise.scale)
                label: dict[str, Any] = {"noise": equation, "dim": dim, "k": k}
                rows.append(
                    row(
                        "Propositions 2, 3: mean square of the radius", **label, claimed=square,
                        computed=float(law.moment(2)), independent=moments["square"], error=_RELATIVE * square,
                    )
                )  # fmt: skip
                if equation != "Eq. 11":
                    continue
                # Series of Γ((n+1)/2)/Γ(n/2): mean √n - 1/(4√n) + ..., spread (1 - 1/(8n) + ...)/√2, each error below.
                limits = {
                    "mean": (math.sqrt(free), 0.5 / math.sqrt(free)),
                    "spread": (math.sqrt(0.5), 0.25 / free),
                }
                found = {"mean": float(law.mean()), "spread": float(law.std())}
                for what, (limit, error) in limits.items():
                    both: dict[str, Any] = {"claimed": limit, "computed": found[what], "independent": moments[what]}
                    rows.append(row(f"Proposition 2: {what} of the radius, large d - k", **label, **both, error=error))
                if free > 1.0:
                    rows.append(
                        row(
                            "Proposition 2: mode of the radius", **label, claimed=math.sqrt(free - 1.0),
                            computed=_mode(law, free), independent=moments["mode"], error=1e-5 * math.sqrt(free),
                        )
                    )  # fmt: skip
    return pd.DataFrame(rows)


def sampled_radius(
    dim: int = 100, ks: Sequence[float] = (0.0, 50.0, 90.0), draws: int = 20_000, failure: float = 1e-6, seed: int = 0
) -> pd.DataFrame:
    """Compare draws of ``‖z‖₂`` with the claimed law by their distribution functions (Dvoretzky, Kiefer & Wolfowitz).

    Returns:
        Rows of ``claims.row``: claimed is 0, the distance of the laws; computed and independent are the largest
        distance between the share of draws below ``s`` and the package's law, and scipy's regularised Gamma function;
        the error is ``√(log(2/failure) / 2n)``, exceeded with probability at most ``failure``.
    """
    rows = []
    for k in ks:
        noise = rs.L2Exponential(k, 1.0)
        z = noise.sample((draws, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        s = np.sort(np.linalg.norm(z.numpy(), axis=1))
        steps = np.arange(draws + 1) / draws
        distances = [
            float(max(np.max(steps[1:] - below), np.max(below - steps[:-1])))
            for below in (noise.radial_law(dim).cdf(s), special.gammainc((dim - k) / 2.0, s * s / 2.0))
        ]
        rows.append(
            row(
                "Proposition 2: law of draws", noise=str(noise), dim=dim, k=k, claimed=0.0, computed=distances[0],
                independent=distances[1], error=math.sqrt(math.log(2.0 / failure) / (2.0 * draws)),
            )
        )  # fmt: skip
    return pd.DataFrame(rows)


def _moments_by_quadrature(dim: int, k: float, power: float, scale: float) -> dict[str, float]:
    """Return mean, spread, mean square and mode of ``∝ s^{d-k-1} exp(-s^p / b)``, by quadrature in ``log s``."""
    free = dim - k
    centre = math.log(scale * free / power) / power  # where the density of log s is largest
    width = 1.0 / math.sqrt(free * power)
    x = np.linspace(centre - 40.0 * max(width, width * width), centre + 14.0 * min(width + width**2, 1.0), 20_001)
    log_density = free * x - np.exp(power * x) / scale
    weight = np.exp(log_density - log_density.max())
    s = np.exp(x)
    total = integrate.simpson(weight, x=x)
    mean = integrate.simpson(weight * s, x=x) / total
    square = integrate.simpson(weight * s * s, x=x) / total
    spread = math.sqrt(integrate.simpson(weight * (s - mean) ** 2, x=x) / total)
    return {"mean": mean, "square": square, "spread": spread, "mode": _peak(s, log_density - x)}


def _mode(law: Any, free: float) -> float:
    """Return where the density of a law is largest, from a grid around ``√free``."""
    s = math.sqrt(free) * np.linspace(0.0, 1.5, 15_001)[1:]
    return _peak(s, law.logpdf(s))


def _peak(x: Array, y: Array) -> float:
    """Return the vertex of the parabola through the largest ``y`` and its neighbours."""
    i = int(np.argmax(y))
    if i in (0, len(x) - 1):
        return float(x[i])
    near = slice(i - 1, i + 2)
    bend, slope, _ = np.polyfit(x[near] - x[i], y[near] - y[i], 2)
    return float(x[i] - 0.5 * slope / bend)
