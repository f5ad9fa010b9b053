"""``rs-plugin recertify``: new certificates from stored votes, without the network."""

from __future__ import annotations

import argparse
from typing import Any

from rs_plugin.cli.options import (
    ALPHA,
    LAST_REQUIRED,
    add_certificate_options,
    add_output_options,
    default_radii,
    new_parser,
    one_warning,
    output_folder,
    report,
)

_DESCRIPTION = """\
Certify stored votes anew: another threat model, other radii, another alpha. No
network is needed and no draw is made.

Votes of an anytime run were stopped when its own radii were decided: they may
show less at others than votes of fixed n do.

Without --run: list the runs of the store."""

_EXAMPLES = """\
examples:
  rs-plugin recertify
      the runs in runs.sqlite
  rs-plugin recertify --run 3f2a --threat-model Linf --radii 0.01 0.02
      the run whose key begins with 3f2a, against Linf
  rs-plugin recertify --run 3f2a --threat-model L2 --alpha 0.01 --json"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``recertify`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "recertify", "certify stored votes anew", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("--store", metavar="FILE", default="runs.sqlite", help="vote store (default: runs.sqlite)")
    parser.add_argument("--run", metavar="KEY", dest="key", help="the run's key, or the beginning of it")
    add_certificate_options(
        parser,
        "an anytime run's own, else L2",
        f"an anytime run's own, else four up to a required probability of {LAST_REQUIRED}",
    )
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Certify anew, report and return the exit code."""
    from rs_plugin.errors import ParameterError
    from rs_plugin.evaluation import VoteStore, recertify
    from rs_plugin.threats import parse_threat

    if args.key is None:
        given = [name for name in ("threat_model", "radii", "method", "alpha") if getattr(args, name) is not None]
        if given:
            raise ParameterError(f"--{given[0].replace('_', '-')} needs --run; 'rs-plugin recertify' lists the runs")
        return _list_runs(args.store, args.json)
    if not args.key:
        raise ParameterError("--run is empty; give the beginning of a key; 'rs-plugin recertify' lists the runs")
    _check_store(args.store)
    with VoteStore(args.store) as votes:
        config = votes.config(args.key)
    threat = parse_threat(args.threat_model or config.get("threat_model", "L2"))
    alpha = ALPHA if args.alpha is None else args.alpha
    method = args.method or "auto"
    radii = args.radii or _radii_for(config, threat, method)
    output_folder(args.output)
    with one_warning(threat, config["noise"], config["n"], alpha):
        result = recertify(args.store, args.key, threat, radii, alpha, method)
    report([result], "recertify", args)
    return 0


def _radii_for(config: dict[str, Any], threat: str, method: str) -> list[float]:
    """Return the radii at which an anytime run was stopped, if it was for that threat model, else usual ones."""
    import math

    from rs_plugin.distributions import parse_noise

    if config.get("threat_model") == threat:
        return list(config["radii"])
    return default_radii(parse_noise(config["noise"]), threat, math.prod(config["image_shape"]), method)


def _check_store(store: str) -> None:
    from pathlib import Path

    from rs_plugin.errors import StoreError

    if not Path(store).exists():
        raise StoreError(f"there is no vote store at {store!r}; 'rs-plugin evaluate' makes one, --store names another")


def _list_runs(store: str, as_json: bool) -> int:
    import json

    from rs_plugin.evaluation import VoteStore

    _check_store(store)
    with VoteStore(store) as votes:
        begun = votes.begun()
        runs = {key: (config, len(votes.votes(key))) for key, config in votes.runs().items()}
    if as_json:
        content = [
            {"key": key, "done": done, "begun": begun[key], **config} for key, (config, done) in runs.items()
        ]
        print(json.dumps(content, indent=1))
        return 0
    print(_listing(runs, begun))
    return 0


def _listing(runs: dict[str, tuple[dict[str, Any], int]], begun: dict[str, float]) -> str:
    """Return a line a run, and below it what tells it from others: images, noise, network, and where it stopped."""
    from datetime import datetime

    from rs_plugin.report.tables import short_noise, short_radius, wrapped

    rows = [("run", "begun", "images", "n0", "n", "stopping", "seed")]
    details = [wrapped("data set, noise, network, its precision; radii of anytime runs", "    ")]
    for key, (config, done) in runs.items():
        rows.append(
            (key[:12], f"{datetime.fromtimestamp(begun[key]):%Y-%m-%d %H:%M}", f"{done}/{config['images']}",
             str(config["n0"]), str(config["n"]), config["stopping"], str(config["seed"]))
        )  # fmt: skip
        parts = [config["dataset"], short_noise(config["noise"]), f"network {config['model'][:8]}"]
        parts.append("float32" if config["autocast"] == "none" else config["autocast"])
        parts += ["compiled"] * bool(config.get("compiled")) + ["on cuda"] * (config["device"] == "cuda")
        parts += [f"exact noise on a grid of 1/{config['sound']}"] if config.get("sound") else []
        text = ", ".join(parts)
        if config["stopping"] == "anytime":
            radii = ", ".join(short_radius(radius) for radius in config["radii"])
            text += f"; {config['threat_model']} radii {radii} at alpha = {config['alpha']:g}"
        details.append(wrapped(text, "    "))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(f"{line}\n{detail}" for line, detail in zip(lines, details, strict=True))
