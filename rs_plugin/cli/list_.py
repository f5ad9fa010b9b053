"""``rs-plugin list``: the names that the other subcommands take."""

from __future__ import annotations

import argparse

from rs_plugin.cli.options import new_parser

_DESCRIPTION = "List the models of the zoo, the noise families and the data sets."

_EXAMPLES = """\
examples:
  rs-plugin list
  rs-plugin list --json"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``list`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "list", "models, noise families and data sets", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the lists and return the exit code."""
    import inspect
    import json
    import re
    import textwrap

    from rs_plugin.datasets import datasets
    from rs_plugin.distributions import distributions
    from rs_plugin.report.tables import percent
    from rs_plugin.zoo import list_models

    cards = list_models()
    families = {name: list(inspect.signature(distributions.get(name)).parameters) for name in distributions.names()}
    if args.json:
        content = {"models": [c.to_dict() for c in cards], "noise": families, "datasets": datasets.names()}
        print(json.dumps(content, indent=1))
        return 0
    print("Models: base networks, accuracy in % held out, rounded down")
    width = max(len(card.name) for card in cards)
    print(f"  {'':{width}} {'clean':>5} {'noisy':>5}  noise")
    for card in cards:
        clean, noisy = percent(card.accuracy_clean), percent(card.accuracy_noise)
        noise = re.sub(r"(\.\d{4})\d{3,}", r"\1...", card.noise)  # --json has it all
        line = f"  {card.name:{width}} {clean:>5} {noisy:>5}  "
        print(line + noise if len(line + noise) <= 80 else f"{line.rstrip()}\n{noise:>80}")
    print("  noisy: under the noise of the training, in which no image was without noise,")
    print("  so that some networks do better there")
    print("\nNoise families")
    for name, parameters in families.items():
        print(f"  {name}({', '.join(f'{p}=...' for p in parameters)})")
    names = textwrap.fill(", ".join(datasets.names()), 80, initial_indent="  ", subsequent_indent="  ")
    print(f"\nData sets, or the path of a folder or zip of images, a folder per class\n{names}")
    return 0
