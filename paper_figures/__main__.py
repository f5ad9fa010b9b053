"""``python -m paper_figures``: write the figures and their numbers."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from paper_figures.artefacts import ARTEFACTS, PUBLISHED, named


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures",
        description="Compute the figures and tables of the paper and write them, numbers as CSV. Takes minutes.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to write; all without a name")
    parser.add_argument("--list", action="store_true", help="list the names and stop")
    parser.add_argument("--out", type=Path, default=PUBLISHED, metavar="DIR", help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.list:
        width = max(len(one.name) for one in ARTEFACTS)
        print("\n".join(f"{one.name:{width}}  {one.title}" for one in ARTEFACTS))
        return 0
    try:
        chosen = named(options.names)
    except ValueError as error:
        parser.error(str(error))
    for one in chosen:
        start = time.perf_counter()
        files = one.write(options.out)
        seconds = f"{time.perf_counter() - start:.0f} s"
        print(f"{one.name}: {', '.join(path.name for path in files)} ({seconds})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
