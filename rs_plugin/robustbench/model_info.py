"""``model_info/<dataset>/<threat model>/<name>.json``: RobustBench's files with certified figures beside its own.

RobustBench's fields keep their names and types; accuracies and ``eps`` are text, in percent and in input units.
Certified figures have fields of their own: ``autoattack_acc`` holds nothing but what AutoAttack found.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from rs_plugin import __version__
from rs_plugin.errors import InputError
from rs_plugin.evaluation import Run
from rs_plugin.files import parse_json, read_text, write_whole
from rs_plugin.outcomes import Status
from rs_plugin.report.tables import percent
from rs_plugin.robustbench.attacks import AttackedAccuracy
from rs_plugin.zoo.card import check_name

#: Of accuracies in percent, as RobustBench writes them.
DECIMALS: Final = 2

_STEPS: Final = 100  # of a curve

#: What RobustBench's readers ask every file for, as far as it is not known.
_BLANK: Final[dict[str, Any]] = {
    "link": "",
    "name": "",
    "authors": "",
    "additional_data": False,
    "number_forward_passes": 1,
    "dataset": "",
    "venue": "",
    "architecture": "",
    "eps": "",
    "clean_acc": "",
    "reported": "",
    "footnote": "",
}


def info_path(dataset: str, threat: str, name: str, folder: str | Path = "model_info") -> Path:
    """Return the path of a model's file.

    Raises:
        ParameterError: the name cannot be that of a file.
    """
    return Path(folder) / dataset / threat / f"{check_name(name)}.json"


def check_info(path: Path, eps: float, noise: str) -> None:
    """Raise InputError if the file has a figure of AutoAttack's at another radius or noise, which would look right.

    Nothing is done if there is no file.
    """
    if not path.exists():
        return
    known = read_info(path)
    before = known.get("eps")
    if known.get("autoattack_acc") and known.get("noise") not in (None, "", noise):
        raise InputError(
            f"{str(path)!r} has autoattack_acc = {known['autoattack_acc']!r} beside {known['noise']}, not {noise}; "
            f"remove that field, or choose another model_name"
        )
    if known.get("autoattack_acc") and before not in (None, "") and parse_eps(before) != float(eps):
        raise InputError(
            f"{str(path)!r} has autoattack_acc = {known['autoattack_acc']!r} at eps = {before!r}, not {eps!r}; remove "
            f"that field, or choose another model_name"
        )


def parse_eps(text: Any) -> float | None:
    """Return a radius as files have it, a number or a quotient of two, or None where it is neither.

    >>> parse_eps("8/255") == 8 / 255, parse_eps("0.5"), parse_eps("eight")
    (True, 0.5, None)
    """
    parts = str(text).split("/")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if len(numbers) > 2 or isinstance(text, bool) or (len(numbers) == 2 and numbers[1] == 0.0):
        return None
    return numbers[0] / numbers[1] if len(numbers) == 2 else numbers[0]


def write_info(
    run: Run,
    name: str,
    eps: float,
    clean: float,
    certified: float,
    folder: str | Path = "model_info",
    attacked: AttackedAccuracy | None = None,
) -> Path:
    """Write, or bring up to date, the file of a model; fields that are not of this evaluation stay as they are.

    An attacked accuracy of an earlier evaluation does not stay, since it may have been at another radius.

    Raises:
        InputError: there is a file that is not of this kind; it is left alone.
    """
    path = info_path(run.dataset, run.certificate.threat_model, name, folder)
    check_info(path, eps, str(run.certificate.noise))
    known = read_info(path) if path.exists() else {"dataset": run.dataset}
    known = {key: value for key, value in known.items() if key not in ("attacked_acc", "attack")}
    table = run.table()
    (row,) = table[table["radius"] == eps].to_dict("records")
    found = {
        "clean_acc": percent(clean, DECIMALS),
        "eps": repr(float(eps)),
        "number_forward_passes": round(run.draws / len(run.outcomes)),
        "certified_acc": percent(certified, DECIMALS),
        "certified_interval": [
            percent(row["certified_low"], DECIMALS),
            percent(row["certified_high"], DECIMALS, up=True),
        ],
        "base_acc": percent(run.base_accuracy, DECIMALS),
        "abstained": percent(run.abstention_rate, DECIMALS),
        "certified_curve": _curve(run),
        "noise": str(run.certificate.noise),
        "method": run.certificate.method,
        "precision": run.precision,
        "stopping": run.config["stopping"],
        "n0": run.config["n0"],
        "n": run.config["n"],
        "alpha": run.alpha,
        "seed": run.config["seed"],
        "images": len(run.outcomes),
        "subset": run.config["subset"],
        "run_key": run.key,
        "package_version": __version__,
    }
    if attacked is not None:
        found |= {"attacked_acc": percent(attacked.accuracy, DECIMALS, up=True), "attack": str(attacked)}
    text = json.dumps({**_BLANK, **known, **found}, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")
    return path


def _curve(run: Run) -> list[list[float | str]]:
    """Return certified accuracies at rising radii: the listed ones, and with a fixed n a grid up to the largest."""
    radii = set(run.radii)
    if run.config["stopping"] == "fixed":
        last = max((o.radius for o in run.outcomes if o.status is Status.CERTIFIED and o.radius < math.inf), default=0)
        radii |= {last * step / _STEPS for step in range(_STEPS + 1)}
    shares = {radius: sum(o.holds_at(radius) for o in run.outcomes) / len(run.outcomes) for radius in radii}
    return [[float(radius), percent(shares[radius], DECIMALS)] for radius in sorted(radii)]


def read_info(path: str | Path) -> dict[str, Any]:
    """Return the fields of a file.

    Raises:
        InputError: it cannot be read, or is not a JSON object.
    """
    try:
        content = parse_json(read_text(Path(path)))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(path)!r} ({error}); mend or remove it") from error
    if not isinstance(content, dict):
        raise InputError(f"{str(path)!r} holds no JSON object; mend or remove it")
    return content
