"""``rs-plugin fetch``: the known public files of base networks."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from rs_plugin.cli.options import new_parser, output_folder

_DESCRIPTION = """\
Download a published network of Cohen et al. (2019), Salman et al. (2019) or
Yang et al. (2020), or list what there is.

What broke off goes on where it stopped. The authors give no checksums; a
manifest of your own may hold them (docs/robustbench.md)."""

_EXAMPLES = """\
examples:
  rs-plugin fetch
      names, data sets and noises
  rs-plugin fetch yang2020_cifar10_gaussian_0.25 --output checkpoints
      one file; then 'rs-plugin evaluate --model checkpoints/...'"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``fetch`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "fetch", "download published networks", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which file (default: list them all)")
    parser.add_argument("--output", metavar="DIR", default=".", help="folder of the file (default: this one)")
    parser.add_argument("--manifest", metavar="FILE", help="of published files, before this package's own")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    return parser


def run(args: argparse.Namespace) -> int:
    """List or download; return the exit code.

    Raises:
        RSPluginError: the file cannot be had.
    """
    from tqdm import tqdm

    from rs_plugin.zoo.published import fetch, published_files

    if args.name is None:
        entries = published_files(args.manifest)
        if args.json:
            print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1))
            return 0
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            print(f"{entry.name.ljust(width)}  {entry.dataset:17}  {entry.noise or ''}".rstrip())
        return 0
    folder = output_folder(args.output)
    hidden = not sys.stderr.isatty()
    with tqdm(unit="B", unit_scale=True, file=sys.stderr, leave=False, disable=hidden) as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path = fetch(args.name, folder, args.manifest, progress=progress)
    (entry,) = (entry for entry in published_files(args.manifest) if entry.name == args.name)
    if args.json:
        print(json.dumps({**dataclasses.asdict(entry), "path": str(path)}, indent=1))
    else:
        print(f"{path}: {entry.source}" + (f"\n{entry.note}" if entry.note else ""))
    return 0
