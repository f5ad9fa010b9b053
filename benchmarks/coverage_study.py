"""How often certificates are wrong: ``python benchmarks/coverage_study.py`` writes ``docs/coverage.md``; an hour.

Every problem has a classifier whose probability is known in closed form: class A is a half-space, a ball of some norm,
or a disc under the mixed norm's noise, and its size is such that A has the probability ``p`` that is wanted. Draws are
made by the package's samplers and counted; bounds, stopping and certificates are the package's. An image is judged for
a radius ``r``, and it is a *mistake* to certify A at ``r``:

* at the truth: ``r`` is the radius at which the classifier's answer changes, by formulas or one-dimensional integrals
  that share nothing with the certificates;
* at the boundary, ``p = p*(r)`` as the certificate has it (for half-spaces that is the truth, and is left out);
* far below, 0.6 times the probability at the boundary: what looks in one direction only has many mistakes, or none.

With a second bound (``p_upper``) there are three classes: A, a rival beyond a second threshold, and what lies between.
For half-spaces the truth is where both are equally probable; else the rival has the probability at which, as the
certificate has it, both bounds meet at ``r``.

There are 10 000 problems of each kind, 500 at each of 20 radii, at alpha = 0.05, of which
Monte-Carlo certificates take a tenth, with a certificate of their own at each radius. The last column is the
probability of as many mistakes or more at a rate of alpha, if images are independent (those of one Monte-Carlo
certificate are not quite); below 0.001 the study fails.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import integrate, optimize, special, stats
from torch import Tensor

import rs_plugin as rs
from rs_plugin.estimation import (
    AlphaBudget,
    StoppingRule,
    clopper_pearson_lower,
    confidence_sequence,
    exceeds,
    multiclass_bounds,
)

ALPHA, LEVEL = 0.05, 1e-3
RADII, EACH = 20, 500
N, CAP, BLOCK = 300, 2048, 16
DRAWS = 20_000  # of a Monte-Carlo certificate
LOOKS = (32, 64, 128, 256, 512, 1024, 2048)
HERE = Path(__file__).parent

Array = np.ndarray[Any, Any]


class Problem(NamedTuple):
    """Classifiers of one shape under one noise.

    Attributes:
        shape: what class A is.
        noise: the noise.
        threat: the threat model.
        dim: dimension.
        methods: of certificates.
        size: of a draw, so that class A is ``size <= t``.
        quantile: the ``t`` at which that has some probability.
        true_radius: of class A with that ``t``.
    """

    shape: str
    noise: rs.SmoothingDistribution
    threat: str
    dim: int
    methods: tuple[str, ...]
    size: Callable[[Tensor], Tensor]
    quantile: Callable[[Array], Array]
    true_radius: Callable[[float], float]


def _ball_radius(law: Any, t: float) -> float:
    """Return the shift at which a ball of radius ``t`` has probability 1/2, in three dimensions, for radial noise.

    Of the sphere of radius ``x``, a share of ``(1 + c) / 2`` lies within the ball whose centre is ``s`` away,
    ``c = (t^2 - x^2 - s^2) / (2 x s)`` cut to [-1, 1]: the cosine is uniform in three dimensions.
    """

    def within(s: float) -> float:
        share = lambda x: law.pdf(x) * (1 + np.clip((t * t - x * x - s * s) / (2 * x * s), -1, 1)) / 2  # noqa: E731
        ends = sorted({1e-12, abs(t - s), t + s})
        return float(sum(integrate.quad(share, a, b)[0] for a, b in itertools.pairwise(ends))) - 0.5

    return float(optimize.brentq(within, 1e-6, 4.0 * t))


def _disc_radius(noise: rs.MixedNorm, t: float) -> float:
    """Return the least Linf shift at which a disc of radius ``t`` has probability 1/2 under the mixed norm's noise.

    In two dimensions radius and direction are independent: the radius is that of ``x^{1-k} exp(-x^2 / (2 sigma^2))``,
    the direction has the density ``max(|cos|, |sin|)^-k``. Eight directions of the shift are tried in an octant.
    """
    k, sigma = noise.k, noise.sigma
    angles = (np.arange(720) + 0.5) * (2.0 * np.pi / 720)
    weights = np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles))) ** -k
    weights = weights / weights.sum()
    inner = lambda x: special.gammainc((2.0 - k) / 2.0, np.maximum(x, 0.0) ** 2 / (2.0 * sigma**2))  # noqa: E731

    def within(s: float, angle: float) -> float:
        """Along each direction the disc, seen from the shifted centre, is an interval of radii."""
        along = s * np.cos(angles - angle)
        root = np.sqrt(np.maximum(t * t - s * s + along**2, 0.0))
        inside = np.where(t * t - s * s + along**2 > 0.0, inner(root - along) - inner(-along - root), 0.0)
        return float(weights @ inside)

    def least(angle: float) -> float:
        length = optimize.brentq(lambda s: within(s, angle) - 0.5, 0.0, 4.0 * t)
        return float(length * max(abs(math.cos(angle)), abs(math.sin(angle))))

    return min(least(angle) for angle in np.linspace(0.0, np.pi / 4, 8))


def _square_radius(law: Any, t: float) -> float:
    """Return the least Linf shift at which a square of half side ``t`` has probability 1/2, in two dimensions.

    Squares are the noise's level sets: it lies on the edge of one, uniformly, whose half side ``x`` follows ``law``.
    Those parts of an edge count that lie in the square shifted by ``(s, c s)``; several ``c`` are tried.
    """

    def inside(x: Array, a: float, b: float) -> Array:
        """Return the share of the edge in ``|u + a| <= t, |v + b| <= t``."""

        def length(shift: float) -> Array:
            return np.maximum(0.0, np.minimum(x, t - shift) - np.maximum(-x, -t - shift))

        sides = [(np.abs(sign * x + a) <= t) * length(b) + (np.abs(sign * x + b) <= t) * length(a) for sign in (1, -1)]
        return np.asarray(sides[0] + sides[1]) / (8.0 * x)

    x = law.ppf((np.arange(200_000) + 0.5) / 200_000)

    def within(s: float, c: float) -> float:
        return float(inside(x, s, c * s).mean()) - 0.5

    return min(float(optimize.brentq(within, 1e-9, 2.0 * t, args=(c,))) for c in np.linspace(0.0, 1.0, 6))


def _problems() -> list[Problem]:
    gaussian, laplace = rs.Gaussian(0.5), rs.Laplace(0.4)
    l1, l2, linf = rs.L1Exponential(k=0.5, b=0.3), rs.L2Exponential(k=1, sigma=0.5), rs.LinfExponential(k=1, sigma=0.3)
    mixed = rs.MixedNorm(k=0.8, sigma=0.5)
    every, sampled = ("closed_form", "exact", "dual", "monte_carlo"), ("exact", "dual", "monte_carlo")
    first = lambda z: z[:, 0]  # noqa: E731
    radial = stats.chi(3, scale=0.5)
    return [
        Problem("half-space", gaussian, "L2", 3, every, first, stats.norm(scale=0.5).ppf, lambda t: t),
        Problem(
            "ball", gaussian, "L2", 3, every, lambda z: z.norm(dim=1), radial.ppf, lambda t: _ball_radius(radial, t)
        ),
        Problem("half-space", laplace, "L1", 3, every, first, stats.laplace(scale=0.4).ppf, lambda t: t),
        Problem(
            "square", l1, "L1", 2, sampled, lambda z: z.abs().sum(1), l1.radial_law(2).ppf,
            lambda t: _square_radius(l1.radial_law(2), t),  # in u = x + y, v = x - y; L1 is the largest of both
        ),
        Problem(
            "ball", l2, "L2", 3, sampled, lambda z: z.norm(dim=1), l2.radial_law(3).ppf,
            lambda t: _ball_radius(l2.radial_law(3), t),
        ),
        Problem(
            "square", linf, "Linf", 2, sampled, lambda z: z.abs().amax(1), linf.radial_law(2).ppf,
            lambda t: _square_radius(linf.radial_law(2), t),
        ),
        Problem(
            "disc", mixed, "Linf", 2, sampled, lambda z: z.norm(dim=1),
            lambda p: np.sqrt(2.0 * special.gammaincinv((2.0 - 0.8) / 2.0, p)) * 0.5, lambda t: _disc_radius(mixed, t),
        ),
    ]  # fmt: skip


class Rate(NamedTuple):
    """One row of the table."""

    problem: Problem
    method: str
    stopping: str
    second: bool
    at: str
    mistakes: int
    problems: int

    @property
    def chance(self) -> float:
        """Probability of as many mistakes or more at a rate of alpha."""
        return float(stats.binom.sf(self.mistakes - 1, self.problems, ALPHA))


class Case(NamedTuple):
    """What is asked of 500 images.

    Attributes:
        at: where ``p`` lies.
        radius: that is asked for.
        p: of class A.
        rival: of the second most probable class, 1 - p where there are two classes.
    """

    at: str
    radius: float
    p: float
    rival: float


def _cases(problem: Problem, exact: rs.Certificate, p: float, second: bool) -> list[Case]:
    """Return the cases of one probability."""
    half = problem.shape == "half-space"
    if second:
        before, p = p, 0.5 * p + 0.2
        ends = problem.quantile(np.array([p, 1.0 - 0.5 * (1.0 - p)]))
        radius = float(ends.sum()) / 2.0 if half else float(exact.radius(before))
        rival = 0.5 * (1.0 - p) if half else _second(exact, p, radius)
        if not 0.0 < rival < p:
            return []
        return [Case("truth" if half else "boundary", radius, p, rival), Case("below", radius, 0.6 * p, rival)]
    radius = problem.true_radius(float(problem.quantile(np.array([p]))[0]))
    cases = [Case("truth", radius, p, 1.0 - p)]
    if not half:
        radius = float(exact.radius(p))
        p = float(exact.required_probability(radius))
        cases.append(Case("boundary", radius, p, 1.0 - p))
    return [*cases, Case("below", radius, 0.6 * p, 1.0 - 0.6 * p)]


def _votes(problem: Problem, ends: Array, draws: int, generator: torch.Generator) -> Array:
    """Return the class of each draw, shape (problems, draws): how many of the ends lie below its size."""
    z = problem.noise.sample((EACH * draws, problem.dim), generator=generator, dtype=torch.float64)
    sizes = problem.size(z).numpy().reshape(EACH, draws)
    return np.searchsorted(ends, sizes)


def _second(certificate: rs.Certificate, p: float, radius: float) -> float:
    """Return the probability of a rival at which ``L(p; r)`` and its own upper bound ``1 - L(1 - q; r)`` meet."""
    low = float(certificate.lower_bound(p, radius))
    gap = lambda q: 1.0 - float(certificate.lower_bound(1.0 - q, radius)) - low  # noqa: E731
    return float(optimize.brentq(gap, 0.0, 1.0 - p)) if gap(0.0) < 0.0 < gap(1.0 - p) else 0.0


class _AtRadius:
    """Whether pairs of bounds certify a radius; those that clearly do not are not asked of the certificate.

    Where ``p_lower`` lies between two points of a grid, ``L(p_lower; r)`` is at most that of the upper one, and so for
    the rival: what is not certified with these bounds is not certified. Deterministic certificates only.
    """

    def __init__(self, certificate: rs.Certificate, radius: float, filtered: bool) -> None:
        self._certificate, self._radius = certificate, radius
        self._grid = np.linspace(0.0, 1.0, 101)
        self._low = np.asarray(certificate.lower_bound(self._grid, radius)) if filtered else None

    def __call__(self, low: Array, high: Array) -> Array:
        open_ = np.ones(len(low), bool)
        if self._low is not None:
            above = np.ceil(low * 100.0).astype(int)
            rival = np.ceil((1.0 - high) * 100.0).astype(int)  # L(1 - q) at most
            open_ = self._low[np.minimum(above, 100)] + 1e-9 >= 1.0 - self._low[np.minimum(rival, 100)]
        shown = np.zeros(len(low), bool)
        if open_.any():
            shown[open_] = np.asarray(self._certificate.radius(low[open_], high[open_])) >= self._radius
        return shown


def _fixed(votes: Array, alpha: float, second: bool) -> tuple[Array, Array | None]:
    counts = np.stack([(votes[:, :N] == c).sum(1) for c in range(3 if second else 2)], axis=1)
    if second:
        return multiclass_bounds(counts, np.zeros(EACH, np.int64), alpha)
    return np.asarray(clopper_pearson_lower(counts[:, 0], N, alpha)), None


def _radii_anytime(votes: Array, certified: _AtRadius, alpha: float) -> Array:
    """Return whether each image is ever certified at a radius, by sequences for A and for the rivals."""
    low, high, shown = np.zeros(EACH), np.ones(EACH), np.zeros(EACH, bool)
    for n in LOOKS:
        counts = np.stack([(votes[:, :n] == c).sum(1) for c in range(3)], axis=1)
        low = np.maximum(low, confidence_sequence(counts[:, 0], n, alpha / 2.0)[0])
        rivals = confidence_sequence(counts[:, 1:], n, alpha / 4.0)[1].max(axis=1)
        high = np.minimum(high, rivals)
        shown |= certified(low, np.minimum(high, 1.0 - low))
    return shown


def _stopped(votes: Array, required: float, alpha: float) -> Array:
    """Return whether each image is certified at a required probability by a run that stops early."""
    rule = StoppingRule([0.5, required], [CAP, CAP], alpha, BLOCK)
    inside = np.cumsum(votes == 0, axis=1)
    seen = np.zeros(EACH, np.int64)
    while True:
        s = np.where(seen > 0, inside[np.arange(EACH), np.maximum(seen, 1) - 1], 0)
        ahead = np.asarray(rule.next_look(s, seen))
        if (ahead == seen).all():
            return np.asarray(exceeds(s, seen, required, alpha))
        seen = ahead


def _rates(problem: Problem, method: str, seed: int) -> Iterator[Rate]:
    """Yield the rates of a problem and method: two modes, with and without a second bound, at and below the edge."""
    exact = rs.certificate(problem.noise, problem.threat, problem.dim)
    budget = AlphaBudget.split(ALPHA, deterministic=method in ("closed_form", "exact"))
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, bool, str], list[int]] = {}
    for probability in np.linspace(0.56, 0.95, RADII).tolist():
        how: dict[str, Any] = {}
        if budget.certificate:
            how = {"n": DRAWS, "alpha": budget.certificate, "generator": generator}
        certificate = rs.certificate(problem.noise, problem.threat, problem.dim, method, **how)
        for second in (False, True):
            for case in _cases(problem, exact, probability, second):
                radius = case.radius * (1.0 + 1e-9) if case.at == "truth" else case.radius
                certified = _AtRadius(certificate, radius, filtered=not budget.certificate)
                asked = float(certificate.required_probability(radius))
                ends = problem.quantile(np.array([case.p, 1.0 - case.rival]) if second else np.array([case.p]))
                for stopping, draws in (("fixed", N), ("anytime", CAP)):
                    votes = _votes(problem, ends, draws, generator)
                    if second:  # classes: A, neither, the rival
                        votes = np.array([0, 2, 1])[votes]
                    if stopping == "fixed":
                        low, high = _fixed(votes, budget.votes, second)
                        bounds = certified(low, np.asarray(high)) if second else certificate.radius(low) >= radius
                        mistakes = np.asarray(bounds)
                    elif second:
                        mistakes = _radii_anytime(votes, certified, budget.votes)
                    else:
                        mistakes = _stopped(votes, asked, budget.votes)
                    found.setdefault((stopping, second, case.at), []).append(int(mistakes.sum()))
    for (stopping, second, at), counted in found.items():
        yield Rate(problem, method, stopping, second, at, sum(counted), EACH * len(counted))


def page(rates: list[Rate], seed: int) -> str:
    """Return the table as Markdown."""
    text = (__doc__ or "").split("\n\n", 1)[1].strip().replace("``", "`")
    lines = [
        "# How often certificates are wrong", "", f"Written by `python benchmarks/coverage_study.py`, seed {seed}.", "",
        text, "",
        "| class A | noise | norm | method | stopping | bounds | p | problems | mistakes | rate | chance |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for rate in rates:
        problem = rate.problem
        lines.append(
            f"| {problem.shape} | `{problem.noise}` | {problem.threat} | {rate.method} | {rate.stopping} | "
            f"{'two' if rate.second else 'one'} | {rate.at} | {rate.problems} | {rate.mistakes} | "
            f"{rate.mistakes / rate.problems:.4f} | {rate.chance:.3g} |"
        )
    worst = max(rates, key=lambda rate: rate.mistakes / rate.problems)
    failed = sum(rate.chance < LEVEL for rate in rates)
    lines += [
        "", f"Largest rate: {worst.mistakes / worst.problems:.4f} at alpha = {ALPHA:g}. "
        f"Rates that are rejected at {LEVEL:g}: {failed} of {len(rates)}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(seed: int = 0) -> int:
    """Run the study, write the page and return 1 if a rate is rejected."""
    torch.set_num_threads(1)
    rates: list[Rate] = []
    for number, problem in enumerate(_problems()):
        for place, method in enumerate(problem.methods):
            begun = time.monotonic()
            rates += _rates(problem, method, 1000 * seed + 10 * number + place)
            print(f"{problem.shape}, {problem.noise}, {method}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    text = page(rates, seed)
    (HERE.parent / "docs" / "coverage.md").write_text(text, encoding="utf-8")
    print(text)
    return int(any(rate.chance < LEVEL for rate in rates))


if __name__ == "__main__":
    sys.exit(main())
