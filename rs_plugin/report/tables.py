"""Certified accuracies as text for a terminal of 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal

from rs_plugin.errors import counted
from rs_plugin.evaluation.results import Run

_WIDTH = 80
_NAME_WIDTH = 20  # what a noise has at least; radii that leave less go into a block of their own
_DRAWS_WIDTH = 8  # of the column of draws, its space included


def text_table(runs: Sequence[Run]) -> str:
    """Return one block per threat model: a row per run, a column per radius. Percentages are rounded down."""
    blocks: list[str] = []
    for threat in dict.fromkeys(run.certificate.threat_model for run in runs):
        group = [run for run in runs if run.certificate.threat_model == threat]
        for radii in dict.fromkeys(tuple(run.radii) for run in group):
            same = [run for run in group if tuple(run.radii) == radii]
            with_draws = any(_stops_early(run) for run in same)
            blocks.extend(_block(threat, part, same, with_draws) for part in _parts(radii, with_draws))
    return "\n\n".join(blocks)


def caption(runs: Sequence[Run]) -> str:
    """Return what the figures are: images, draws, alpha, stopping rule, failure probability of the certificate."""
    first = runs[0]
    config = first.config
    draws = f"n0 = {config['n0']}, n = {config['n']}" + (" at most" if config["stopping"] == "anytime" else "")
    text = (
        f"Certified accuracy in % of {counted(len(first.outcomes), 'image')} of {first.dataset!r}; {draws}, "
        f"alpha = {first.alpha:g} per image, stopping {config['stopping']}. base: the network without noise; smth: the "
        f"smoothed classifier on clean images; abst: abstentions, never right; "
    )
    if any(_stops_early(run) for run in runs):
        text += "draws: what an image took on average, n0 included; "
    text += "percentages are rounded down."
    if first.sound:
        text += f" Noise is exact, on a grid of 1/{first.sound}."
    spent = max(run.certificate.failure_probability for run in runs)
    if spent > 0:
        text += f" Of alpha, {spent:g} is the Monte-Carlo certificate's, an event common to all images."
    return wrapped(text)


def wrapped(text: str, indent: str = "") -> str:
    """Return a text in lines that fit a terminal; ``a = b`` and words are not torn apart."""
    kept = text.replace(" = ", "\xa0=\xa0")
    lines = textwrap.fill(
        kept, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\xa0", " ")


def percent(share: float, decimals: int = 1, *, up: bool = False) -> str:
    """Return a share as a percentage, rounded down, or up where it bounds something from above.

    >>> percent(0.88888), percent(2 / 3, 2), percent(2 / 3, 2, up=True)
    ('88.8', '66.66', '66.67')
    """
    unit = 10.0**decimals
    whole = math.ceil(share * 100.0 * unit - 1e-9) if up else math.floor(share * 100.0 * unit + 1e-9)
    return f"{whole / unit:.{decimals}f}"


def short_radius(radius: float) -> str:
    """Return a radius with six significant digits, rounded down.

    >>> short_radius(0.15), short_radius(0.12345678)
    ('0.15', '0.123456')
    """
    rounded = Context(prec=6, rounding=ROUND_FLOOR).create_decimal(repr(float(radius)))
    return f"{rounded.normalize(Context(prec=6)):f}" if Decimal("1e-4") <= rounded < 10**6 else f"{float(rounded):g}"


def short_noise(noise: str, room: int = _WIDTH) -> str:
    """Return the text of a noise with its numbers to four digits, cut where even that is too long.

    >>> short_noise("l2_exponential(k=8, sigma=0.2672612419124244)")
    'l2_exponential(k=8, sigma=0.2673)'
    """
    name, _, rest = noise.rstrip(")").partition("(")
    parts = [part.partition("=") for part in rest.split(", ") if part]
    text = f"{name}({', '.join(f'{key}={float(value):.4g}' for key, _, value in parts)})"
    return text if len(text) <= room else text[: room - 1] + "…"


def _stops_early(run: Run) -> bool:
    return str(run.config["stopping"]) == "anytime"


def _parts(radii: Sequence[float], with_draws: bool) -> list[list[float]]:
    """Return the radii above 0 in groups that fit beside the noise and the other columns."""
    parts: list[list[float]] = [[]]
    whole = room = _WIDTH - _NAME_WIDTH - 3 * 6 - with_draws * _DRAWS_WIDTH
    for radius in (r for r in radii if r > 0):
        width = 1 + max(5, len(short_radius(radius)))
        if parts[-1] and width > room:
            parts.append([])
            room = whole
        parts[-1].append(radius)
        room -= width
    return parts


def _block(threat: str, shown: Sequence[float], runs: Sequence[Run], with_draws: bool) -> str:
    head = [*["draws"][:with_draws], "base", "smth", "abst", *(short_radius(r) for r in shown)]
    rows = []
    for run in runs:
        accuracy = dict(zip(run.radii, run.table()["certified_accuracy"], strict=True))
        summary = [run.base_accuracy, run.smoothed_accuracy, run.abstention_rate]
        draws = [f"{run.draws / len(run.outcomes):.0f}"][:with_draws]
        rows.append([*draws, *(percent(value) for value in [*summary, *(accuracy[r] for r in shown)])])
    widths = [max(5, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    room = max(_NAME_WIDTH, _WIDTH - sum(widths) - len(widths))
    title = f"{threat} radius"
    lines = [title.ljust(room) + "".join(" " + cell.rjust(w) for cell, w in zip(head, widths, strict=True))]
    for run, row in zip(runs, rows, strict=True):
        name = short_noise(str(run.certificate.noise), room)
        lines.append(name.ljust(room) + "".join(" " + cell.rjust(w) for cell, w in zip(row, widths, strict=True)))
    return "\n".join(lines)
