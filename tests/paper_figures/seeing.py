"""What a reader of a figure sees: text that is whole, large enough and does not run into other text."""

from __future__ import annotations

import itertools

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from paper_figures.drawing import SMALLEST_TYPE


def texts(figure: Figure) -> list[Text]:
    """Return what is written on a figure, once it is drawn."""
    FigureCanvasAgg(figure).draw()
    hidden = {id(text) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in _out_of_view(axis)}
    found = figure.findobj(Text)
    return [text for text in found if text.get_visible() and text.get_text().strip() and id(text) not in hidden]


def _out_of_view(axis: Axis) -> list[Text]:
    """Return labels of ticks beyond the ends of an axis, which exist but are not drawn."""
    ends = sorted(axis.get_view_interval())
    slack = 1e-9 * (ends[1] - ends[0])
    labels = [text for text in axis.findobj(Text) if text not in (axis.label, axis.get_offset_text())]
    place = 0 if axis.axis_name == "x" else 1
    return [text for text in labels if not ends[0] - slack <= text.get_position()[place] <= ends[1] + slack]


def clipped(figure: Figure) -> list[str]:
    """Return what runs over the edge of the figure."""
    edge = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    return [
        name for name, box in boxes if box.x0 < edge.x0 or box.y0 < edge.y0 or box.x1 > edge.x1 or box.y1 > edge.y1
    ]


def colliding(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts that overlap by more than a pixel in both directions."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    return [
        (a, b)
        for (a, p), (b, q) in itertools.combinations(boxes, 2)
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1.0 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1.0
    ]


def too_small(figure: Figure) -> list[str]:
    """Return what is written in type below the least size."""
    return [text.get_text() for text in texts(figure) if text.get_fontsize() < SMALLEST_TYPE]


def assert_legible(figure: Figure) -> None:
    """Check all three."""
    assert clipped(figure) == []
    assert colliding(figure) == []
    assert too_small(figure) == []
