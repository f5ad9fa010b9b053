"""Styles survive grey print, files are the same each time, matplotlib's settings stay as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from paper_figures import drawing
from tests.paper_figures.seeing import clipped, colliding, too_small


def lightness(colour: object) -> float:
    """Return CIE L* of a colour (sRGB, D65)."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = float(linear @ [0.2126, 0.7152, 0.0722])
    return 116.0 * y ** (1.0 / 3.0) - 16.0 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("count", range(1, 7))
def test_lines_differ_in_lightness_and_in_dashes(count: int) -> None:
    styles = drawing.lines(count)
    steps = np.diff([lightness(style.color) for style in styles])
    assert (steps > 7.0).all()  # a difference of 2 is just noticeable
    assert all(lightness(style.color) < 75.0 for style in styles)  # against white paper, 100
    assert len({str(style.linestyle) for style in styles}) == count


def test_more_lines_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 6"):
        drawing.lines(7)


def test_settings_are_restored() -> None:
    before = dict(matplotlib.rcParams)
    with drawing.styled():
        assert matplotlib.rcParams["axes.labelsize"] == 9.0
    assert dict(matplotlib.rcParams) == before


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    def figure() -> Figure:
        with drawing.styled():
            result = Figure(figsize=(2.0, 2.0))
            result.subplots().plot([0.0, 1.0], [0.0, 1.0])
            return result

    first, second = drawing.save(figure(), tmp_path / "a", "f"), drawing.save(figure(), tmp_path / "b", "f")
    assert [path.name for path in first] == ["f.pdf", "f.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_pyplot_is_not_loaded() -> None:
    code = (
        "import sys, paper_figures.figure1, paper_figures.figure2, paper_figures.figure3;"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_cannot_be_read_is_found() -> None:
    figure = Figure(figsize=(3.0, 2.0))
    figure.text(0.95, 0.5, "over the edge")
    figure.text(0.1, 0.3, "small", fontsize=5)
    figure.text(0.1, 0.7, "one upon")
    figure.text(0.12, 0.71, "another")
    assert clipped(figure) == ["over the edge"]
    assert too_small(figure) == ["small"]
    assert colliding(figure) == [("one upon", "another")]
