"""Attacks on the differentiable surrogate of a smoothed classifier: perturbed images inside a ball, proposed only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from rs_plugin.errors import UnknownNameError
from rs_plugin.robustbench.shim import import_autoattack
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.threats import Threat

#: Steps of projected gradient descent.
STEPS: Final = 20
_ROUNDING: Final = 1e-6  # by which proposals stay inside the ball, so that float32 images lie in it
#: Shares of the values that one step of the L1 attack moves, one value at least: where few values decide, few must
#: move, and where the box [0, 1] bounds each of them, many must (Croce & Hein, ICML 2021).
_SPARSE: Final = (0.0, 0.05, 0.25)


@dataclass(frozen=True)
class Perturbed:
    """An image inside the ball.

    Attributes:
        attack: what proposed it.
        image: float32, on the CPU.
        distance: from the centre, in the norm of the threat model, at most the radius.
    """

    attack: str
    image: Tensor
    distance: float


def check_attacks(attacks: Sequence[str]) -> tuple[str, ...]:
    """Return the attacks if all of them are known.

    Raises:
        UnknownNameError: one is not, or there is none.
    """
    names = (attacks,) if isinstance(attacks, str) else tuple(attacks)
    unknown = [name for name in names if name not in _PROPOSERS]
    if "autoattack" in names:
        import_autoattack()  # whether it is there is said before any work
    if unknown or not names:
        raise UnknownNameError(f"unknown attack {unknown[0] if unknown else ''!r}; known: {', '.join(_PROPOSERS)}")
    return names


def propose(
    model: SmoothedClassifier,
    image: Tensor,
    label: int,
    threat: Threat,
    radius: float,
    attacks: Sequence[str],
    *,
    seed: int,
    steps: int = STEPS,
) -> list[Perturbed]:
    """Return what the attacks make of an image so that the surrogate no longer answers ``label``."""
    found = []
    for name in attacks:
        for proposal in _PROPOSERS[name](model, image, label, threat, radius, seed, steps):
            found.append(Perturbed(name, *_inside(image, proposal, threat, radius)))
    return found


def norm_of(difference: Tensor, threat: Threat) -> float:
    """Return the length of a perturbation in the norm of the threat model, in float64."""
    order = {"L1": 1.0, "L2": 2.0, "Linf": float("inf")}[threat]
    return float(torch.linalg.vector_norm(difference.double().flatten(), ord=order))


def _inside(image: Tensor, proposal: Tensor, threat: Threat, radius: float) -> tuple[Tensor, float]:
    """Return the proposal, moved towards the image as far as it takes to lie in the ball, and its distance."""
    exact = image.double()
    step = proposal.detach().cpu().double() - exact
    share = 1.0
    while True:
        inside = (exact + share * step).to(torch.float32)
        distance = norm_of(inside.double() - exact, threat)
        if distance <= radius:
            return inside, distance
        share *= min(radius / distance, 1.0) * (1.0 - _ROUNDING)


def _pgd_proposals(
    model: SmoothedClassifier, image: Tensor, label: int, threat: Threat, radius: float, seed: int, steps: int
) -> list[Tensor]:
    """Return the best of projected gradient ascents of the cross-entropy: one from the image, one from a random point.

    Against L1 each is the best of several that spread their steps over fewer or more values.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    centre = image.to(model.device)[None]
    noise = torch.randn(centre.shape, generator=generator).to(model.device)
    found = []
    for start in (torch.zeros_like(centre), _projected(noise * radius, threat, radius)):
        tried = [
            _ascent(model, centre, start, label, threat, radius, steps, sparse)
            for sparse in (_SPARSE if threat == "L1" else (1.0,))
        ]
        found.append((centre + max(tried, key=lambda pair: pair[1])[0])[0])
    return found


def _ascent(
    model: SmoothedClassifier,
    centre: Tensor,
    shift: Tensor,
    label: int,
    threat: Threat,
    radius: float,
    steps: int,
    sparse: float,
) -> tuple[Tensor, float]:
    """Return the shift of highest loss on the way from ``shift``, and that loss."""
    target = torch.tensor([label], device=centre.device)
    best, highest = shift, -float("inf")
    for step in range(steps + 1):
        shift = (centre + shift).clamp(0.0, 1.0) - centre
        shift.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(centre + shift), target)
        (gradient,) = torch.autograd.grad(loss, shift)
        shift, value = shift.detach(), float(loss.detach())
        if value > highest:
            best, highest = shift, value
        if step < steps:
            size = 2.5 * radius / steps
            shift = _projected(shift + size * _steepest(gradient, threat, sparse), threat, radius)
    return best, highest


def _steepest(gradient: Tensor, threat: Threat, sparse: float) -> Tensor:
    """Return the direction of length 1 that raises the loss most; for L1 spread over the steepest values."""
    if threat == "Linf":
        return gradient.sign()
    if threat == "L2":
        return torch.div(gradient, gradient.norm().clamp_min(1e-30))
    count = max(1, int(sparse * gradient.numel()))
    lowest = gradient.abs().flatten().topk(count).values[-1]
    chosen = gradient.sign() * (gradient.abs() >= lowest)
    return chosen / chosen.abs().sum().clamp_min(1.0)


def _projected(shift: Tensor, threat: Threat, radius: float) -> Tensor:
    """Return the nearest shift of length ``radius`` or less; for L1 by sorting (Duchi et al., ICML 2008)."""
    if threat == "Linf":
        return shift.clamp(-radius, radius)
    if threat == "L2":
        return torch.mul(shift, radius / shift.norm().clamp_min(radius))
    size = shift.abs().flatten()
    if float(size.sum()) <= radius:
        return shift
    ordered = size.sort(descending=True).values
    excess = (ordered.cumsum(0) - radius) / torch.arange(1, len(ordered) + 1, device=shift.device)
    last = int((ordered > excess).nonzero()[-1])
    return shift.sign() * (shift.abs() - excess[last]).clamp_min(0.0)


def _autoattack_proposals(
    model: SmoothedClassifier, image: Tensor, label: int, threat: Threat, radius: float, seed: int, steps: int
) -> list[Tensor]:
    """Return what standard AutoAttack makes of the image against the surrogate."""
    target = torch.tensor([label], device=model.device)
    with torch.random.fork_rng():  # AutoAttack seeds torch's global generators
        adversary = import_autoattack().AutoAttack(
            model,
            norm=threat,
            eps=radius * (1.0 - _ROUNDING),
            seed=seed % 2**31,
            verbose=False,
            device=str(model.device),
        )
        for attack in (adversary.apgd_targeted, adversary.fab):  # both count on ten classes
            attack.n_target_classes = min(attack.n_target_classes, model.num_classes - 1)
        return [adversary.run_standard_evaluation(image.to(model.device)[None], target, bs=1)[0]]


_PROPOSERS: Final[dict[str, Callable[..., list[Tensor]]]] = {"pgd": _pgd_proposals, "autoattack": _autoattack_proposals}
