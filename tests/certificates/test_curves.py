"""Curves on disk supply guesses only: nothing in a file can change what is certified."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from rs_plugin import certificate
from rs_plugin.certificates.curves import SCHEMA_VERSION, Curve, CurveKey, load_curve, save_curve
from rs_plugin.distributions import L2Exponential

NOISE, DIM = L2Exponential(3, 0.5), 10
P = np.array([0.51, 0.6, 0.9, 0.999])
#: A radius lies within 2e-6 of the largest, less its margin of 1e-7: two searches may differ by that much.
MARGIN = 2.2e-6


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RS_PLUGIN_CACHE", str(tmp_path))
    return tmp_path


def radii() -> np.ndarray:
    found: np.ndarray = certificate(NOISE, "L2", DIM).radius(P)
    return found


def stored(folder: Path) -> Path:
    (path,) = (folder / "curves").iterdir()
    return path


def test_a_file_is_written_once_and_named_by_the_schema(folder: Path) -> None:
    first = radii()
    path = stored(folder)
    assert path.name.startswith(f"v{SCHEMA_VERSION}-") and path.suffix == ".npz"
    written = path.read_bytes()
    assert (radii() == first).all()
    assert path.read_bytes() == written


def test_a_rescaled_noise_shares_the_curve(folder: Path) -> None:
    radii()
    double = certificate(L2Exponential(3, 1.0), "L2", DIM).radius(P)
    np.testing.assert_allclose(double, 2 * radii(), rtol=1e-12)  # rounding of the lengths alone
    stored(folder)


class _Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a file was unpickled",))


def test_damage_is_ignored(folder: Path) -> None:
    right = radii()
    path = stored(folder)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    array = np.empty(1, dtype=object)
    array[0] = _Malice()
    harmful = folder / "harmful.npz"
    np.savez(harmful, radius=array, tau=array, required=array)
    damaged = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "garbage": b"garbage" * 100,
        "flipped": bytes(flipped),
        "pickle": pickle.dumps(_Malice()),
        "objects": harmful.read_bytes(),
    }
    for name, content in damaged.items():
        path.write_bytes(content)
        np.testing.assert_allclose(radii(), right, rtol=MARGIN, err_msg=name)


@pytest.mark.parametrize(
    "columns",
    [
        {"radius": np.arange(1.0, 6.0)},
        {"radius": np.ones(5), "tau": np.ones(5), "required": np.ones(5)},
        {"radius": np.full(5, np.nan), "tau": np.ones(5), "required": np.linspace(0.6, 0.9, 5)},
        {"radius": np.arange(1.0, 6.0), "tau": np.ones(4), "required": np.linspace(0.6, 0.9, 5)},
        {"radius": np.ones((5, 2)), "tau": np.ones((5, 2)), "required": np.ones((5, 2))},
        {"radius": np.arange(1.0, 6.0), "tau": np.ones(5), "required": np.linspace(0.2, 0.9, 5)},
        {"radius": np.array(["a"] * 5), "tau": np.ones(5), "required": np.ones(5)},
    ],
    ids=["missing", "flat", "nan", "lengths", "axes", "below half", "text"],
)
def test_unusable_columns_are_ignored(columns: dict[str, np.ndarray]) -> None:
    key = CurveKey("some", "L2", 10)
    key.path.parent.mkdir(parents=True)
    np.savez(key.path, **columns)
    assert load_curve(key) is None


@pytest.mark.parametrize("factor", [1e-6, 0.1, 0.9, 1.1, 10.0, 1e6])
@pytest.mark.parametrize("shift", [-5.0, 0.0, 30.0])
def test_a_wrong_curve_cannot_give_a_wrong_radius(folder: Path, factor: float, shift: float) -> None:
    right = radii()
    key = CurveKey(str(NOISE.rescaled(1 / NOISE.length_scale)), "L2", DIM)
    curve = load_curve(key)
    assert curve is not None
    save_curve(key, Curve(curve.radius * factor, curve.tau * factor + shift, curve.required))
    found = radii()
    assert (found <= right * (1 + MARGIN)).all()
    assert (certificate(NOISE, "L2", DIM).required_probability(found) < P).all()


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = radii()
    (folder / "file").write_text("in the way")
    monkeypatch.setenv("RS_PLUGIN_CACHE", str(folder / "file"))
    assert (radii() == right).all()


def test_no_temporary_file_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert (radii() > 0).all()
    assert not list((folder / "curves").iterdir())
