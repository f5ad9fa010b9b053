"""The other side of the sandwich: attacks propose perturbed images inside certified balls, fresh votes judge them.

A certificate says that the class of an image keeps a probability of at least 1/2 under noise, wherever in its ball the
image is moved. Attacks cannot disprove that, since what they differentiate is a surrogate, the mean softmax over a
fixed noise bank. They only propose. At each proposal the votes of fresh draws test, at a stated level, whether the
class lies below 1/2 there; that, and nothing else, is a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, UnknownNameError
from rs_plugin.estimation import check_alpha, clopper_pearson_upper
from rs_plugin.evaluation import Run
from rs_plugin.robustbench.shim import import_autoattack
from rs_plugin.smoothing import SmoothedClassifier, check_draws, check_whole
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.threats import Threat
from rs_plugin.voting import Counts, DrawRange, single_threaded

_STEPS: Final = 20
_ROUNDING: Final = 1e-6  # by which proposals stay inside the ball, so that float32 images lie in it
_SPARSE: Final = 0.05  # share of the values that one step of the L1 attack moves

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Proposal:
    """A perturbed image inside a certified ball, and what fresh votes say of it.

    Attributes:
        index: the image's place in the data set.
        attack: what proposed it.
        radius: certified radius of the image.
        distance: of the proposal from the image, in the norm of the threat model, at most the radius.
        prediction: the certified class.
        votes: counts per class of the fresh draws.
        p_upper: upper confidence bound on the probability of the certified class there.
        lost: whether that bound is below 1/2: the certificate is violated.
        image: the perturbed image.
    """

    index: int
    attack: str
    radius: float
    distance: float
    prediction: int
    votes: list[int]
    p_upper: float
    lost: bool
    image: Tensor = field(repr=False, compare=False)


@dataclass(frozen=True)
class AttackReport:
    """Every proposal, and the level of the test.

    Attributes:
        proposals: all of them.
        images: how many images have a certified ball.
        alpha: probability, per image, of calling a true certificate violated.
        n: fresh draws at every proposal.
        bank: draws in the noise bank of the surrogate.
        files: where violations were saved.
    """

    proposals: list[Proposal]
    images: int
    alpha: float
    n: int
    bank: int
    files: list[Path]

    @property
    def violations(self) -> list[Proposal]:
        """The proposals at which the certified class was lost."""
        return [proposal for proposal in self.proposals if proposal.lost]

    def __str__(self) -> str:
        """Return one line: what was tried and what came of it."""
        tried = f"{len(self.proposals)} proposals in the certified balls of {self.images} images"
        level = f"n = {self.n} fresh draws at each, alpha = {self.alpha:g} an image, surrogate of {self.bank} draws"
        if not self.violations:
            return f"{tried}: no certified class was lost ({level})"
        lost = sorted({proposal.index for proposal in self.violations})
        return f"{tried}: VIOLATED at image {', '.join(map(str, lost))} ({level})"


def attack_certificates(
    model: SmoothedClassifier,
    run: Run,
    dataset: Dataset,
    attacks: Sequence[str] = ("pgd",),
    *,
    n: int = 10_000,
    alpha: float = 1e-3,
    steps: int = _STEPS,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> AttackReport:
    """Attack every certified ball of a run, and let fresh votes judge what the attacks propose.

    The bank of the surrogate is the model's own: ``SmoothedClassifier(base, noise, num_classes, bank=16)``.

    Args:
        model: the smoothed classifier that the run is of.
        run: what ``evaluate`` returned; every image with a positive radius is attacked, whatever its label.
        dataset: the images that the run is of.
        attacks: ``"pgd"``, ``"autoattack"`` or both; two starts of the first, one image of the second.
        n: fresh draws at every proposal.
        alpha: probability, per image, that a certificate that holds is called violated; shared among its proposals.
        steps: of projected gradient descent.
        folder: where violations are saved, one ``.npz`` file each; nowhere if None.
        progress: called with (images done, images in all).

    Raises:
        UnknownNameError: no attack has that name.
        InputError: the images are not those of the run.
        ParameterError: draws, alpha or steps out of range.
        DependencyError: AutoAttack is asked for and not installed.
    """
    known = {"pgd": _pgd_proposals, "autoattack": _autoattack_proposals}
    unknown = [name for name in attacks if name not in known]
    if unknown or not attacks:
        raise UnknownNameError(f"unknown attack {unknown[0] if unknown else ''!r}; known: {', '.join(known)}")
    check_draws(1, n)
    check_alpha(alpha)
    check_whole("steps", steps)
    place = {index: row for row, index in enumerate(dataset.indices.tolist())}
    indices = run.records()["index"].tolist()
    if not set(indices) <= place.keys() or dataset.collection != run.config["data_fingerprint"]:
        raise InputError(f"the images are not those of run {run.key[:12]}; pass the data set that it is of")
    certified = [pair for pair in zip(indices, run.outcomes, strict=True) if pair[1].radius > 0]
    threat, seed = run.certificate.threat_model, int(run.config["seed"])
    counter = model.counter(dataset.image_shape, n)
    proposals: list[Proposal] = []
    files: list[Path] = []
    for done, (index, outcome) in enumerate(certified):
        image = dataset.images[place[index]]
        radius = min(outcome.radius, 1e6)
        assert outcome.prediction is not None
        found = [
            (name, proposal)
            for name in attacks
            for proposal in known[name](model, image, outcome.prediction, threat, radius, seed + index, steps)
        ]
        for number, (name, proposal) in enumerate(found):
            inside, distance = _inside(image, proposal, threat, radius)
            start = number * CHUNK * -(-n // CHUNK)
            with single_threaded():
                votes = counter.count(inside, index, seed, [DrawRange(Stream.ATTACK, start, start + n)])[0]
            p_upper = _upper(votes, outcome.prediction, alpha / len(found))
            lost = p_upper < 0.5
            proposals.append(
                Proposal(index, name, radius, distance, outcome.prediction, votes.tolist(), p_upper, lost, inside)
            )
            if lost and folder is not None:
                files.append(_saved(proposals[-1], number, image, run, Path(folder)))
        if progress is not None:
            progress(done + 1, len(certified))
    return AttackReport(proposals, len(certified), alpha, n, model.bank, files)


def _upper(votes: Counts, prediction: int, alpha: float) -> float:
    return float(clopper_pearson_upper(int(votes[prediction]), int(votes.sum()), alpha))


def _saved(proposal: Proposal, number: int, image: Tensor, run: Run, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"violation_{run.key[:12]}_{proposal.index}_{number}.npz"
    np.savez(
        path,
        image=image.numpy(),
        perturbed=proposal.image.cpu().numpy(),
        votes=np.array(proposal.votes),
        prediction=proposal.prediction,
        radius=proposal.radius,
        distance=proposal.distance,
        p_upper=proposal.p_upper,
        noise=str(run.certificate.noise),
        threat_model=run.certificate.threat_model,
        run_key=run.key,
    )
    return path


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
    """Return the best of two projected gradient ascents of the cross-entropy each: from the image, and at random."""
    generator = torch.Generator().manual_seed(seed)
    device = model.device
    centre = image.to(device)[None]
    target = torch.tensor([label], device=device)
    found = []
    for start in range(2):
        shift = torch.zeros_like(centre)
        if start:
            noise = torch.randn(centre.shape, generator=generator).to(device)
            shift = _projected(noise * radius, threat, radius)
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
                shift = _projected(shift + size * _steepest(gradient, threat), threat, radius)
        found.append((centre + best)[0])
    return found


def _steepest(gradient: Tensor, threat: Threat) -> Tensor:
    """Return the direction of length 1 that raises the loss most; for L1 spread over the steepest values."""
    if threat == "Linf":
        return gradient.sign()
    if threat == "L2":
        return torch.div(gradient, gradient.norm().clamp_min(1e-30))
    count = max(1, int(_SPARSE * gradient.numel()))
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
    adversary = import_autoattack().AutoAttack(
        model, norm=threat, eps=radius * (1.0 - _ROUNDING), seed=seed, verbose=False, device=str(model.device)
    )
    for attack in (adversary.apgd_targeted, adversary.fab):  # both count on ten classes
        attack.n_target_classes = min(attack.n_target_classes, model.num_classes - 1)
    target = torch.tensor([label], device=model.device)
    return [adversary.run_standard_evaluation(image.to(model.device)[None], target, bs=1)[0]]
