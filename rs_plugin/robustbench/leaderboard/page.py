"""One self-contained HTML page for a threat model: nothing is fetched, and no text of a file is ever taken for code."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2

from rs_plugin import __version__
from rs_plugin.report.tables import short_noise, short_radius
from rs_plugin.robustbench.leaderboard.entries import Entry, ranks, short_eps


def html_page(threat: str, entries: Sequence[Entry]) -> str:
    """Return the page. It is readable without JavaScript, which adds sorting, filters and curves.

    Texts are escaped by the template engine, links are followed only where they are http or https, and the page's own
    policy admits no script but the one whose sha256 it names.
    """
    home = files(__package__)
    parts = {name: home.joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("html.j2", "css", "js")}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short_radius"] = short_radius
    rows = [_row(rank, entry) for rank, entry in zip(ranks(entries), entries, strict=True)]
    return environment.from_string(parts["html.j2"]).render(
        threat=threat,
        norm={"L1": "ℓ1", "L2": "ℓ2", "Linf": "ℓ∞"}[threat],
        rows=rows,
        datasets=sorted({entry.dataset for entry in entries}),
        radii=[(repr(eps), short_eps(eps)) for eps in sorted({entry.eps for entry in entries})],
        css=parts["css"],
        js=parts["js"],
        policy="; ".join(
            [
                "default-src 'none'",
                "img-src data:",
                f"style-src {_digest(parts['css'])}",
                f"script-src {_digest(parts['js'])}",
            ]
        ),
        version=__version__,
    )


def _row(rank: int, entry: Entry) -> dict[str, Any]:
    return {
        "rank": rank,
        "entry": entry,
        "eps": short_eps(entry.eps),
        "noise": short_noise(entry.noise) if entry.noise.endswith(")") else entry.noise,
        "curve": json.dumps([[radius, float(share)] for radius, share in entry.curve]),
    }


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
