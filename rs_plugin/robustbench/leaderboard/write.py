"""The files of a leaderboard."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rs_plugin.errors import InputError, counted
from rs_plugin.files import write_whole
from rs_plugin.robustbench.leaderboard.entries import Entry, ranks, read_entries, short_eps
from rs_plugin.robustbench.leaderboard.page import html_page
from rs_plugin.threats import THREATS

#: The SoK board takes probabilistic certificates of a confidence of 99.9 % or more.
_BOARD_ALPHA: Final = 0.001
_BOARD_NORMS: Final = {"L1": r"\(\ell_1\)", "L2": r"\(\ell_2\)", "Linf": r"\(\ell_\infty\)"}
_BOARD_DATASETS: Final = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}

_HEAD: Final = (
    "rank", "model", "data set", "eps", "certified", "95 %", "attacked", "smoothed", "base", "noise", "method",
    "stopping", "n", "alpha", "images",
)  # fmt: skip


def write_leaderboard(
    info_dir: str | Path = "model_info", output: str | Path = "leaderboard"
) -> tuple[list[Path], list[Entry], list[Path]]:
    """Write Markdown, LaTeX and an HTML page for every threat model that has entries, and the SoK board's YAML.

    Files of the same names are replaced, and removed where a threat model has no entries.

    Args:
        info_dir: the folder that ``benchmark(..., to_disk=True)`` writes to.
        output: the folder of the files.

    Returns:
        The files written, the entries, and the files passed over, which have no certified accuracy.

    Raises:
        InputError: no file has a certified accuracy, or one has an impossible field; nothing is written then.
    """
    entries, others = read_entries(info_dir)
    if not entries:
        raise InputError(
            f"{str(info_dir)!r} holds no file with a certified accuracy; benchmark(..., to_disk=True) writes them"
        )
    texts: dict[str, str] = {}
    for threat in THREATS:
        group = [entry for entry in entries if entry.threat == threat]
        if group:
            texts[f"{threat}.html"] = html_page(threat, group)
            texts[f"{threat}.md"] = markdown(group)
            texts[f"{threat}.tex"] = latex(group)
    texts["board.yml"] = board_yaml(entries)
    folder = Path(output)
    for threat in THREATS:  # what an earlier call wrote of a threat model that has no entries any more
        for suffix in ("html", "md", "tex"):
            if f"{threat}.{suffix}" not in texts:
                (folder / f"{threat}.{suffix}").unlink(missing_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts], entries, others


def markdown(entries: Sequence[Entry]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    for rank, entry in zip(ranks(entries), entries, strict=True):
        cells = [_in_markdown(cell) for cell in _cells(rank, entry)]
        if entry.address is not None and not set(entry.address) & set("()<>| \\"):
            cells[1] = f"[{cells[1]}]({entry.address})"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(), ""])


def latex(entries: Sequence[Entry]) -> str:
    """Return a table in LaTeX, for the package booktabs."""
    lines = [
        rf"\begin{{tabular}}{{rll{'r' * 6}lllrrr}}",
        r"\toprule",
        " & ".join(_in_latex(cell) for cell in _HEAD) + r" \\",
        r"\midrule",
    ]
    for rank, entry in zip(ranks(entries), entries, strict=True):
        lines.append(" & ".join(_in_latex(cell) for cell in _cells(rank, entry)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*(f"% {note}" for note in _notes()), *lines, ""])


def board_yaml(entries: Sequence[Entry]) -> str:
    """Return the entries in the form of ``_data/board.yml`` of github.com/sokcertifiedrobustness.

    The board puts texts into its pages as they are, hence they are escaped here; it lists no preprint's venue.
    """
    lines = ["# For _data/board.yml of the SoK certified robustness board (Li, Xie & Li, IEEE S&P 2023)."]
    out = [entry for entry in entries if entry.alpha > _BOARD_ALPHA]
    lines += [f"# Left out, since alpha = {entry.alpha:g} > {_BOARD_ALPHA:g}: {_quoted(entry.name)}" for entry in out]
    groups: dict[tuple[str, str, float], list[Entry]] = {}
    for entry in entries:
        if entry.alpha <= _BOARD_ALPHA:
            groups.setdefault((entry.dataset, entry.threat, entry.eps), []).append(entry)
    for (dataset, threat, eps), group in groups.items():
        data = _BOARD_DATASETS.get(dataset, html.escape(dataset))
        setting = rf"{data},&nbsp; {_BOARD_NORMS[threat]},&nbsp; \(\epsilon={short_eps(eps)}\)"
        lines += [f"- setting: {_quoted(setting)}", "  records:"]
        for entry in sorted(group, key=lambda e: -e.certified):
            images = counted(entry.images, "image")
            comment = f"{entry.noise}, n = {entry.n} ({entry.stopping}), alpha = {entry.alpha:g}, {images}"
            fields = {
                "score": f"{entry.certified}%",
                "title": html.escape(entry.title),
                "link": html.escape(entry.address or ""),
                "prob": True,
                **({"venue": html.escape(entry.venue)} if entry.venue else {}),
                "comment": html.escape(comment),
            }
            words = [f"{key}: {_quoted(value)}" for key, value in fields.items()]
            lines += [f"  - {words[0]}", *(f"    {word}" for word in words[1:])]
    return "\n".join(lines if groups else [*lines, "[]"]) + "\n"


def _quoted(value: object) -> str:
    """Return a value as YAML has it, which takes JSON's texts if they are not escaped into surrogates."""
    return json.dumps(value, ensure_ascii=False)


def _cells(rank: int, entry: Entry) -> list[str]:
    interval = f"{entry.interval[0]}-{entry.interval[1]}" if entry.interval else ""
    shown = [entry.attacked, entry.smoothed, entry.base]
    return [
        str(rank),
        entry.title,
        entry.dataset,
        short_eps(entry.eps),
        str(entry.certified),
        interval,
        *("" if value is None else str(value) for value in shown),
        entry.noise,
        entry.method,
        entry.stopping,
        str(entry.n),
        f"{entry.alpha:g}",
        f"{entry.images}" + (f" ({entry.subset})" if entry.subset and entry.subset != "all" else ""),
    ]


def _notes() -> list[str]:
    return [
        "Accuracies in %, rounded to the safe side. Certified: proved for every perturbation up to eps, but for the "
        "failure probability alpha an image. Attacked: an upper bound on what is true. Smoothed: the classifier that "
        "the certificate is for; abstentions are errors. Base: its network without noise. 95 %: interval over the draw "
        "of the images."
    ]


def _in_markdown(text: str) -> str:
    for character in "\\`*_{}[]()#+!|~$":
        text = text.replace(character, f"\\{character}")
    return html.escape(text, quote=False)


def _in_latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)
