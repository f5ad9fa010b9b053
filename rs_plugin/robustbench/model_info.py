"""``model_info/<dataset>/<threat model>/<name>.json``: RobustBench's files with certified figures beside its own.

RobustBench's fields keep their names and types; accuracies and ``eps`` are text, in percent and in input units.
Certified figures have fields of their own: ``autoattack_acc`` holds nothing but what AutoAttack found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from rs_plugin import __version__
from rs_plugin.errors import InputError
from rs_plugin.evaluation import Run
from rs_plugin.evaluation.results import write_text
from rs_plugin.report.tables import percent
from rs_plugin.zoo.card import check_name

#: Of accuracies in percent, as RobustBench writes them.
DECIMALS: Final = 2

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


def write_info(
    run: Run, name: str, eps: float, clean: float, certified: float, folder: str | Path = "model_info"
) -> Path:
    """Write, or bring up to date, the file of a model; fields that are not of this evaluation stay as they are.

    Raises:
        InputError: there is a file that is not of this kind; it is left alone.
    """
    path = info_path(run.dataset, run.certificate.threat_model, name, folder)
    known = read_info(path) if path.exists() else {"dataset": run.dataset}
    table = run.table()
    found = {
        "clean_acc": percent(clean, DECIMALS),
        "eps": repr(float(eps)),
        "number_forward_passes": round(run.draws / len(run.outcomes)),
        "certified_acc": percent(certified, DECIMALS),
        "base_acc": percent(run.base_accuracy, DECIMALS),
        "abstained": percent(run.abstention_rate, DECIMALS),
        "certified_curve": [
            [float(radius), percent(share, DECIMALS)]
            for radius, share in zip(table["radius"], table["certified_accuracy"], strict=True)
        ],
        "noise": str(run.certificate.noise),
        "method": run.certificate.method,
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
    text = json.dumps({**_BLANK, **known, **found}, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
    return path


def read_info(path: str | Path) -> dict[str, Any]:
    """Return the fields of a file.

    Raises:
        InputError: it cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {str(path)!r} ({error}); mend or remove it") from error
    if not isinstance(content, dict):
        raise InputError(f"{str(path)!r} holds no JSON object; mend or remove it")
    return content
