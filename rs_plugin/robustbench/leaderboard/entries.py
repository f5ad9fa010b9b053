"""What a leaderboard shows of a model, read from its ``model_info`` file and checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from rs_plugin.errors import InputError, UnknownNameError
from rs_plugin.report.tables import short_radius
from rs_plugin.robustbench.model_info import parse_eps, read_info
from rs_plugin.threats import Threat, parse_threat

#: What certificates need to be judged by; a file without them is no certified result.
_NEEDED: Final = ("certified_acc", "clean_acc", "eps", "noise", "method", "stopping", "n", "alpha", "images")


@dataclass(frozen=True)
class Entry:
    """A line of the leaderboard. Accuracies are percentages with two decimals, rounded down, attacked ones up.

    Attributes:
        name: of the file, without ``.json``.
        title: what the file calls the model, or its name.
        dataset: where the accuracies are from.
        threat: the threat model.
        eps: the radius, in units of images in [0, 1].
        base: accuracy of the base network without noise.
        smoothed: accuracy of the smoothed classifier; abstentions are errors.
        certified: certified accuracy at ``eps``.
        interval: 95 % Clopper-Pearson interval of ``certified`` over the draw of the images.
        attacked: accuracy under attack at ``eps``, the upper side of the sandwich.
        attack: how ``attacked`` was found.
        autoattack: RobustBench's figure, of the differentiable surrogate.
        abstained: share of abstentions.
        noise, method, precision, stopping, n0, n, alpha, images, subset, seed: what decided the certificates.
        curve: certified accuracy at radii that rise.
        link, authors, venue, architecture, footnote: as RobustBench has them.
        additional_data: whether the training used more than the data set's images.
        run_key: of the votes in their store.
        version: of the package that wrote the file.
        path: of the file.
    """

    name: str
    title: str
    dataset: str
    threat: Threat
    eps: float
    base: Decimal | None
    smoothed: Decimal
    certified: Decimal
    interval: tuple[Decimal, Decimal] | None
    attacked: Decimal | None
    attack: str
    autoattack: Decimal | None
    abstained: Decimal | None
    noise: str
    method: str
    precision: str
    stopping: str
    n0: int | None
    n: int
    alpha: float
    images: int
    subset: str
    seed: int | None
    curve: tuple[tuple[float, Decimal], ...]
    link: str
    authors: str
    venue: str
    architecture: str
    footnote: str
    additional_data: bool
    run_key: str
    version: str
    path: str

    @property
    def address(self) -> str | None:
        """The link, if it is one to a page; whatever else stands in its place is not to be followed."""
        return self.link if self.link.startswith(("https://", "http://")) else None

    @property
    def contradicted(self) -> bool:
        """Whether an attack got below the certified accuracy: one of the two figures is wrong."""
        return self.attacked is not None and self.attacked < self.certified


def read_entries(folder: str | Path = "model_info") -> tuple[list[Entry], list[Path]]:
    """Return the certified models below a folder, and the files without a certified accuracy, which are passed over.

    The best come first: by data set and radius, then by falling certified accuracy.

    Args:
        folder: holds ``<dataset>/<threat model>/<name>.json``.

    Raises:
        InputError: there is no such folder, or a file with a certified accuracy lacks a field or has an impossible one.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; give the one that benchmark(..., to_disk=True) wrote")
    entries, others = [], []
    for path in sorted(root.glob("*/*/*.json")):
        try:
            threat = parse_threat(path.parent.name)
        except UnknownNameError:  # RobustBench's corruptions
            others.append(path)
            continue
        info = read_info(path)
        if "certified_acc" in info:
            entries.append(_entry(info, path, threat))
        else:
            others.append(path)
    return sorted(entries, key=lambda e: (e.threat, e.dataset, e.eps, -e.certified, e.name)), others


def ranks(entries: Iterable[Entry]) -> list[int]:
    """Return the place of every entry among those of its data set and radius; equal figures share one."""
    known = list(entries)
    groups: dict[Any, list[Decimal]] = {}
    for entry in known:
        groups.setdefault((entry.threat, entry.dataset, entry.eps), []).append(entry.certified)
    return [
        1 + sum(other > entry.certified for other in groups[entry.threat, entry.dataset, entry.eps]) for entry in known
    ]


def short_eps(eps: float) -> str:
    """Return a radius as the literature writes it.

    It is never shown larger than it is.

    >>> short_eps(8 / 255), short_eps(0.25), short_eps(1.0), short_eps(0.99999999)
    ('8/255', '0.25', '1', '0.999999')
    """
    steps = round(eps * 255) if eps < 1 else 0
    return f"{steps}/255" if steps and eps == steps / 255 else short_radius(eps)


def plain(text: str) -> str:
    """Return a text on one line, without characters that do not print."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class _Reader:
    """Reads the fields of one file; what cannot be is an error that names it."""

    def __init__(self, info: Mapping[str, Any], path: Path) -> None:
        self._info, self._path = info, path
        missing = [name for name in _NEEDED if info.get(name) in (None, "")]
        if missing:
            raise InputError(f"{str(path)!r} has a certified accuracy but no {', '.join(missing)}; mend or remove it")

    def refuse(self, name: str, due: str) -> InputError:
        return InputError(f"{str(self._path)!r} has {name} = {self._info.get(name)!r}; it must be {due}")

    def text(self, name: str) -> str:
        value = self._info.get(name)
        if isinstance(value, bool | int | float) or value is None:
            value = "" if value is None else str(value)
        if not isinstance(value, str):
            raise self.refuse(name, "a text")
        return plain(value)

    def number(self, name: str, low: float, high: float) -> float:
        value = self._info.get(name)
        try:
            found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            found = math.nan
        if not low <= found <= high:
            raise self.refuse(name, f"a number from {low:g} to {high:g}")
        return found

    def radius(self, name: str) -> float:
        found = parse_eps(self._info.get(name))
        if found is None or not 0.0 <= found < math.inf:
            raise self.refuse(name, "a radius of 0 or more, as in 0.25 or 8/255")
        return found

    def whole(self, name: str, low: int) -> int:
        value = self._info.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.refuse(name, f"a whole number of {low} or more")
        return value

    def optional_whole(self, name: str, low: int) -> int | None:
        return None if self._info.get(name) in (None, "") else self.whole(name, low)

    def percentage(self, name: str, *, up: bool = False) -> Decimal:
        return self._percentage(name, self._info.get(name), up)

    def optional_percentage(self, name: str, *, up: bool = False) -> Decimal | None:
        return None if self._info.get(name) in (None, "") else self.percentage(name, up=up)

    def interval(self, name: str) -> tuple[Decimal, Decimal] | None:
        value = self._info.get(name)
        if value is None:
            return None
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            raise self.refuse(name, "two percentages")
        return self._percentage(name, value[0]), self._percentage(name, value[1], up=True)

    def curve(self, name: str) -> tuple[tuple[float, Decimal], ...]:
        due = "a list of radii that rise, each with a percentage that does not"
        points = self._info.get(name, [])
        if not isinstance(points, list):
            raise self.refuse(name, due)
        found: list[tuple[float, Decimal]] = []
        for point in points:
            if not isinstance(point, list) or len(point) != 2 or not isinstance(point[0], int | float):
                raise self.refuse(name, due)
            radius, share = float(point[0]), self._percentage(name, point[1])
            rises = not found or (radius > found[-1][0] and share <= found[-1][1])
            if not (0 <= radius < math.inf) or not rises:
                raise self.refuse(name, due)
            found.append((radius, share))
        return tuple(found)

    def _percentage(self, name: str, value: Any, up: bool = False) -> Decimal:
        try:
            found = Decimal(str(value).strip().removesuffix("%"))
        except InvalidOperation:
            found = Decimal("NaN")
        if isinstance(value, bool) or not found.is_finite() or not 0 <= found <= 100:
            raise self.refuse(name, "a percentage from 0 to 100")
        return found.quantize(Decimal("0.01"), rounding=ROUND_CEILING if up else ROUND_FLOOR)


def _entry(info: Mapping[str, Any], path: Path, threat: Threat) -> Entry:
    read = _Reader(info, path)
    return Entry(
        name=plain(path.stem),
        title=read.text("name") or plain(path.stem),
        dataset=plain(path.parent.parent.name),
        threat=threat,
        eps=read.radius("eps"),
        base=read.optional_percentage("base_acc"),
        smoothed=read.percentage("clean_acc"),
        certified=read.percentage("certified_acc"),
        interval=read.interval("certified_interval"),
        attacked=read.optional_percentage("attacked_acc", up=True),
        attack=read.text("attack"),
        autoattack=read.optional_percentage("autoattack_acc", up=True),
        abstained=read.optional_percentage("abstained"),
        noise=read.text("noise"),
        method=read.text("method"),
        precision=read.text("precision") or "float32",
        stopping=read.text("stopping"),
        n0=read.optional_whole("n0", 1),
        n=read.whole("n", 1),
        alpha=read.number("alpha", 0.0, 1.0),
        images=read.whole("images", 1),
        subset=read.text("subset"),
        seed=read.optional_whole("seed", -(2**64)),
        curve=read.curve("certified_curve"),
        link=read.text("link"),
        authors=read.text("authors"),
        venue=read.text("venue"),
        architecture=read.text("architecture"),
        footnote=read.text("footnote"),
        additional_data=info.get("additional_data") is True,
        run_key=read.text("run_key"),
        version=read.text("package_version"),
        path=plain(path.as_posix()),
    )
