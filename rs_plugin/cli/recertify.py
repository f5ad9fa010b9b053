"""``rs-plugin recertify``: new certificates from stored votes, without the network."""

from __future__ import annotations

import argparse

from rs_plugin.cli.options import add_certificate_options, add_output_options, new_parser, report

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
    parser.add_argument(
        "--alpha", metavar="P", type=float, default=1e-3, help="failure probability per image (default: 0.001)"
    )
    add_output_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Certify anew, report and return the exit code."""
    from rs_plugin.evaluation import recertify
    from rs_plugin.evaluation.suite import RADII
    from rs_plugin.threats import parse_threat

    if args.key is None:
        return _list_runs(args.store, args.json)
    radii = args.radii or RADII[parse_threat(args.threat_model)]
    result = recertify(args.store, args.key, args.threat_model, radii, args.alpha, args.method)
    report([result], "recertify", args.output, args.json)
    return 0


def _list_runs(store: str, as_json: bool) -> int:
    import json
    from pathlib import Path

    from rs_plugin.errors import StoreError
    from rs_plugin.evaluation import VoteStore

    if not Path(store).exists():
        raise StoreError(f"there is no vote store at {store!r}; 'rs-plugin evaluate' makes one, --store names another")
    with VoteStore(store) as votes:
        runs = {key: (config, len(votes.votes(key))) for key, config in votes.runs().items()}
    if as_json:
        print(json.dumps([{"key": key, "done": done, **config} for key, (config, done) in runs.items()], indent=1))
        return 0
    print(f"{'run':12}  {'images':>9}  {'n':>7}  {'stopping':8}  noise")
    for key, (config, done) in runs.items():
        print(
            f"{key[:12]}  {done:>4}/{config['images']:<4}  {config['n']:>7}  {config['stopping']:8}  {config['noise']}"
        )
    return 0
