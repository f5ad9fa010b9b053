"""``rs-plugin recertify``: new certificates from stored votes, without the network."""

from __future__ import annotations

import argparse
from typing import Any

from rs_plugin.cli.options import (
    ALPHA,
    add_certificate_options,
    add_output_options,
    new_parser,
    one_warning,
    output_folder,
    report,
)

_DESCRIPTION = """\
Certify stored votes anew: another threat model, other radii, another alpha. No
network is needed and no draw is made.

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
    add_certificate_options(parser, "L2")
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Certify anew, report and return the exit code."""
    from rs_plugin.errors import ParameterError
    from rs_plugin.evaluation import VoteStore, recertify
    from rs_plugin.evaluation.suite import RADII
    from rs_plugin.threats import parse_threat

    if args.key is None:
        given = [name for name in ("threat_model", "radii", "method", "alpha") if getattr(args, name) is not None]
        if given:
            raise ParameterError(f"--{given[0].replace('_', '-')} needs --run; 'rs-plugin recertify' lists the runs")
        return _list_runs(args.store, args.json)
    if not args.key:
        raise ParameterError("--run is empty; give the beginning of a key; 'rs-plugin recertify' lists the runs")
    threat = parse_threat(args.threat_model or "L2")
    alpha = ALPHA if args.alpha is None else args.alpha
    _check_store(args.store)
    with VoteStore(args.store) as votes:
        config = votes.config(args.key)
    output_folder(args.output)
    with one_warning(threat, config["noise"], config["n"], alpha):
        result = recertify(args.store, args.key, threat, args.radii or RADII[threat], alpha, args.method or "auto")
    report([result], "recertify", args)
    return 0


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
        runs = {key: (config, len(votes.votes(key))) for key, config in votes.runs().items()}
    if as_json:
        print(json.dumps([{"key": key, "done": done, **config} for key, (config, done) in runs.items()], indent=1))
        return 0
    print(_listing(runs))
    return 0


def _listing(runs: dict[str, tuple[dict[str, Any], int]]) -> str:
    """Return two lines a run, the second with the noise, since both together are wider than a terminal."""
    from rs_plugin.report.tables import short_noise

    rows = [("run", "images", "n", "stopping", "data set", "seed", "network")]
    for key, (config, done) in runs.items():
        images = f"{done}/{config['images']}"
        rows.append(
            (key[:12], images, str(config["n"]), config["stopping"], config["dataset"], str(config["seed"]),
             config["model"][:8])
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    noises = ["noise", *(short_noise(config["noise"], 76) for config, _ in runs.values())]
    return "\n".join(f"{line}\n    {noise}" for line, noise in zip(lines, noises, strict=True))
