"""What the figures have in common: sizes, type, lines that are told apart without colour, and files."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

#: Width of the text of a printed page, in inches. Figures are drawn at the size at which they are printed.
TEXT_WIDTH = 6.75

#: Smallest type, in points at print size.
SMALLEST_TYPE = 8.0

# Any: the keys that matplotlib knows are a type of their own, which differs between its versions.
_STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": SMALLEST_TYPE,
    "ytick.labelsize": SMALLEST_TYPE,
    "legend.fontsize": SMALLEST_TYPE,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "svg.hashsalt": "paper_figures",
}

_DASHES: tuple[Any, ...] = (
    "-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)),
)  # fmt: skip
_MARKERS = ("", "o", "s", "^", "D", "v")


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in the common style; it leaves matplotlib's settings as they were."""
    return matplotlib.rc_context(_STYLE)


class Line(NamedTuple):
    """How one curve looks."""

    color: Any
    linestyle: Any
    marker: str


def lines(count: int) -> list[Line]:
    """Return styles from black to light: each has a lightness and dashes of its own, so that grey print keeps them."""
    if count > len(_DASHES):
        raise ValueError(f"{count} curves in one panel cannot be told apart in grey; at most {len(_DASHES)}")
    shades = matplotlib.colormaps["cividis"]
    colours = ["black", *(shades(0.15 + 0.6 * i / max(count - 2, 1)) for i in range(count - 1))]
    return [Line(colours[i], _DASHES[i], _MARKERS[i]) for i in range(count)]


def save(figure: Figure, folder: Path | str, name: str) -> list[Path]:
    """Write ``name.pdf`` and ``name.png`` (300 dots an inch) into ``folder``, the same bytes for the same figure.

    The PNG says which matplotlib drew it, as ``drawn_by`` reads.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{name}.pdf", target / f"{name}.png"]
    with styled():
        figure.savefig(paths[0], metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.savefig(paths[1], dpi=300, metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return paths


def drawn_by(path: Path) -> str:
    """Return the major and minor version of the matplotlib that drew a PNG of ``save``, such as ``"3.11"``."""
    with Image.open(path) as image:
        software = str(image.info.get("Software", ""))
    return ".".join(software.removeprefix("matplotlib ").split(".")[:2])
