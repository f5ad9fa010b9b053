"""Curves of required probabilities, kept on disk.

A curve only supplies guesses: every radius that a certificate returns is evaluated afresh, so a stale or damaged file
costs time, never soundness.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from scipy import special
from scipy.interpolate import CubicSpline

from rs_plugin.files import write_whole
from rs_plugin.numerics import Array

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class CurveKey:
    """What a curve depends on: the family for unit scale (as text), the threat model and the dimension."""

    family: str
    threat: str
    dim: int

    @property
    def path(self) -> Path:
        """Return the file of this curve, in ``RS_PLUGIN_CACHE`` or the user's cache folder."""
        folder = os.environ.get("RS_PLUGIN_CACHE") or platformdirs.user_cache_dir("rs_plugin", appauthor=False)
        digest = hashlib.sha256(f"{SCHEMA_VERSION}|{self.family}|{self.threat}|{self.dim}".encode()).hexdigest()
        return Path(folder) / "curves" / f"v{SCHEMA_VERSION}-{digest[:24]}.npz"


@dataclass(frozen=True)
class Curve:
    """Increasing radii, the best ``τ`` there, and the required probabilities, each of shape (points,)."""

    radius: Array
    tau: Array
    required: Array

    def interpolate(self, p: Array) -> tuple[Array, Array, Array]:
        """Return guesses of the radius, of ``τ`` and of ``dr/dp*`` at each ``p``.

        By splines on the normal quantile of ``p*``, on which both are nearly linear for Gaussian-like noise.
        """
        x = np.concatenate([[0.0], special.ndtri(self.required)])
        at = np.clip(special.ndtri(p), 0.0, x[-1])
        radius = CubicSpline(x, np.concatenate([[0.0], self.radius]))
        tau = CubicSpline(x, np.concatenate([[0.0], self.tau]))
        density = np.exp(-0.5 * at * at) / math.sqrt(2.0 * math.pi)
        slope = np.maximum(radius(at, 1), 0.0) / density
        guess = np.clip(radius(at), 1e-6 * self.radius[0], self.radius[-1])
        return np.asarray(guess), np.asarray(np.maximum(tau(at), 0.0)), np.asarray(slope)

    def is_usable(self) -> bool:
        """Return whether the arrays can be interpolated."""
        columns = (self.radius, self.tau, self.required)
        return (
            all(column.ndim == 1 for column in columns)
            and len({len(column) for column in columns}) == 1
            and len(self.radius) > 3
            and all(bool(np.isfinite(column).all()) for column in columns)
            and bool((np.diff(self.radius) > 0).all() and (np.diff(self.required) > 0).all())
            and bool(self.radius[0] > 0 and self.required[0] > 0.5 and self.required[-1] < 1.0)
        )


def load_curve(key: CurveKey) -> Curve | None:
    """Return the stored curve, or None where there is none that can be used."""
    try:
        with key.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            curve = Curve(*(np.asarray(file[name], dtype=np.float64) for name in ("radius", "tau", "required")))
    except Exception:  # a damaged archive raises nearly anything, and none of it matters
        return None
    return curve if curve.is_usable() else None


def save_curve(key: CurveKey, curve: Curve) -> None:
    """Store the curve; a folder that cannot be written is no error."""
    buffer = io.BytesIO()
    np.savez(buffer, radius=curve.radius, tau=curve.tau, required=curve.required)
    with contextlib.suppress(OSError):
        write_whole(key.path, buffer.getvalue())
