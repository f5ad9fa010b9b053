"""Tables read as text and as Markdown; pictures are sharp."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from paper_figures.showing import Picture, Table


def test_table_is_aligned_markdown() -> None:
    frame = pd.DataFrame(
        {
            "noise": ["Eq. 11", "|l|"], "p": [0.123456, -1e-12], "k": [1.0, 20.0], "agrees": [True, False],
            "far": [math.inf, -math.inf], "lost": [math.nan, 2.0], "unseen": [1, 2],
        }
    )  # fmt: skip
    columns = {"noise": "", "p": ".3f", "k": "d", "agrees": "", "far": ".1f", "lost": ".1f"}
    expected = """
| noise  | share |   k | agrees | far | lost |
| ------ | ----: | --: | ------ | --: | ---: |
| Eq. 11 | 0.123 |   1 | yes    |   ∞ |    – |
| \\|l\\|  | 0.000 |  20 | no     |  -∞ |  2.0 |
"""
    table = Table(frame, columns, {"p": "share"})
    assert repr(table) == table._repr_markdown_() == expected.strip()


@pytest.mark.parametrize(("value", "form", "text"), [(-0.0004, ".3f", "0.000"), (-0.0006, ".3f", "-0.001"),
                                                     (-0.0, ".2g", "0"), (-10.0, ".0f", "-10")])  # fmt: skip
def test_zeros_have_no_sign(value: float, form: str, text: str) -> None:
    assert f" {text} |" in repr(Table(pd.DataFrame({"x": [value]}), {"x": form}))


def test_numpy_truth_is_text() -> None:
    assert "| yes " in repr(Table(pd.DataFrame({"x": np.array([True, False])}), {"x": ""}))


def test_too_wide_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="124 characters wide"):
        Table(pd.DataFrame({"x": ["a" * 120]}), {"x": ""})


def test_picture_has_two_dots_for_each_seen() -> None:
    figure = Figure(figsize=(2.0, 1.0))
    data, size = Picture(figure)._repr_png_()
    assert Image.open(io.BytesIO(data)).size == (432, 216)
    assert size == {"width": 216, "height": 108}
    assert repr(Picture(figure)) == "picture, 2.00 by 1.00 inches"
