"""What a notebook shows: tables of few columns and rounded numbers, text, and figures as sharp pictures.

All are shown without matplotlib's or pandas' own display, so that the stored text of a notebook depends on the numbers
alone and not on the versions of either.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing import styled

#: Dots an inch of a picture, and those that a browser takes an inch to have, a little larger than print.
_DOTS, _SEEN = 216, 108

#: Columns of text that fit a page.
WIDEST = 110


class Table:
    """A data frame as Markdown, which Jupyter renders and which reads as a table where it is not rendered."""

    def __init__(self, frame: pd.DataFrame, columns: Mapping[str, str], headings: Mapping[str, str] | None = None):
        """Choose what is shown.

        Args:
            frame: the numbers.
            columns: those shown, in order, and how: a format of Python's (".3f", ".2g", "d"), "" for text and truth.
                Choose no more digits than the error supports.
            headings: of columns that have another than their name.

        Raises:
            ValueError: a row is wider than a page.
        """
        names = [(headings or {}).get(name, name) for name in columns]
        cells = [[_cell(value, form) for value in frame[name]] for name, form in columns.items()]
        widths = [max(3, *map(len, (name, *column))) for name, column in zip(names, cells, strict=True)]
        right = [bool(form) for form in columns.values()]
        rule = ["-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)]
        rows = [names, rule, *(list(row) for row in zip(*cells, strict=True))]
        self.text = "\n".join(_line(row, widths, right) for row in rows)
        if (wide := sum(widths) + 3 * len(widths) + 1) > WIDEST:
            raise ValueError(f"the table is {wide} characters wide; at most {WIDEST} can be read: show fewer columns")

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def _line(row: list[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        text.rjust(width) if to_right else text.ljust(width)
        for text, width, to_right in zip(row, widths, right, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _cell(value: Any, form: str) -> str:
    """Return a value as text: no signs of zeros, no bars, which would end the cell."""
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = format(int(value) if form == "d" else value, form) if form else str(value)
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("|", "\\|")


class Text:
    """Markdown that was put together elsewhere."""

    def __init__(self, text: str):
        """Take the whole text."""
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


class Picture:
    """A figure as PNG, at two dots for every dot of a plain screen."""

    def __init__(self, figure: Figure):
        """Take a figure of ``drawing``."""
        self.figure = figure

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"picture, {width:.2f} by {height:.2f} inches"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        stream = io.BytesIO()
        with styled():
            self.figure.savefig(stream, format="png", dpi=_DOTS, metadata={"Software": None})
        width, height = self.figure.get_size_inches()
        return stream.getvalue(), {"width": round(width * _SEEN), "height": round(height * _SEEN)}
