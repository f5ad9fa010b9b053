"""``rs-plugin curve``: the probability that each radius requires."""

from __future__ import annotations

import argparse
import math
from decimal import ROUND_FLOOR, Context

from rs_plugin.cli.options import ALPHA, new_parser
from rs_plugin.command import real, whole
from rs_plugin.threats import THREATS

_DESCRIPTION = """\
Print the required probability p*(r) at each radius: an image is certified at r
if the smoothed classifier's top class has probability above p*(r). Beside it,
the least number of unanimous draws that could show it at alpha."""

_EXAMPLES = """\
examples:
  rs-plugin curve --noise "mixed_norm(k=250, sigma=1)" --threat-model Linf
  rs-plugin curve --noise "l2_exponential(k=16, sigma=0.5)" --dim 64 --radii 0.5
  rs-plugin curve --noise "laplace(b=0.2)" --threat-model L1 --dim 64 --json"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add ``curve`` to the subcommands and return its parser."""
    parser = new_parser(subparsers, "curve", "required probability against radius", _DESCRIPTION, _EXAMPLES, run)
    parser.add_argument("--noise", metavar="TEXT", required=True, help="smoothing noise, as in 'gaussian(sigma=0.5)'")
    parser.add_argument("--threat-model", metavar="NORM", default="L2", help=f"{', '.join(THREATS)} (default: L2)")
    parser.add_argument("--dim", metavar="D", type=whole, default=3072, help="values in one input (default: 3072)")
    parser.add_argument(
        "--radii", metavar="R", type=real, nargs="+", help="radii in input units (default: 12 that span the curve)"
    )
    parser.add_argument("--method", metavar="NAME", default="auto", help="as for evaluate (default: auto)")
    parser.add_argument(
        "--alpha", metavar="P", type=real, default=ALPHA, help="failure probability per image (default: 0.001)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the curve and return the exit code."""
    import json

    import numpy as np

    from rs_plugin.certificates import certificate
    from rs_plugin.distributions import parse_noise
    from rs_plugin.estimation import least_trials
    from rs_plugin.evaluation.asked import check_radii
    from rs_plugin.report.tables import short_radius

    noise = parse_noise(args.noise)
    result = certificate(noise, args.threat_model, args.dim, args.method)
    if args.radii:
        radii = check_radii(args.radii)
    else:
        largest = float(result.radius(0.9999))
        step = 10.0 ** np.floor(np.log10(largest / 12.0))
        radii = [float(step * round(largest * i / 12.0 / step)) for i in range(13)]
    required = np.atleast_1d(result.required_probability(radii))
    least = [least_trials(float(p), args.alpha) if p < 1.0 - 1e-7 else None for p in required]
    if args.json:
        rows = [
            {"radius": r, "required_probability": float(p), "least_draws": n}
            for r, p, n in zip(radii, required, least, strict=True)
        ]
        head = {"noise": str(noise), "threat_model": result.threat_model, "dim": result.dim, "method": result.method,
                "failure_probability": result.failure_probability, "alpha": args.alpha}  # fmt: skip
        print(json.dumps({**head, "curve": rows}, indent=1))
        return 0
    print(f"{noise} against {result.threat_model} in {result.dim} dimensions, method {result.method}")
    if result.failure_probability:
        print(f"the curve as a whole fails with probability at most {result.failure_probability:g}")
    print(f"{'radius':>12}  {'p* (rounded up)':>16}  {'least n at alpha = ' + format(args.alpha, 'g'):>24}")
    for radius, p, n in zip(radii, required, least, strict=True):
        least_n = "none practical" if n is None else n
        print(f"{short_radius(radius):>12}  {_rounded_up(float(p)):>16}  {least_n:>24}")
    return 0


def _rounded_up(p: float) -> str:
    """Return a probability with eight decimals, as 1 minus the rest where they would all be 0."""
    shown = math.ceil(p * 1e8) / 1e8
    if not 1.0 - 1e-8 < p < 1.0:
        return f"{shown:.8f}"
    return f"1 - {Context(prec=3, rounding=ROUND_FLOOR).create_decimal(repr(1.0 - p)):.3g}"
