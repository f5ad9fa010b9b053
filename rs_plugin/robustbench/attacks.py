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

import numpy as np
from torch import Tensor

from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ParameterError, counted
from rs_plugin.estimation import check_alpha, clopper_pearson_upper
from rs_plugin.evaluation import Run
from rs_plugin.evaluation.fingerprint import model_fingerprint
from rs_plugin.outcomes import predicted
from rs_plugin.robustbench.proposals import STEPS, Perturbed, check_attacks, propose
from rs_plugin.smoothing import SmoothedClassifier, check_draws, check_seed, check_whole
from rs_plugin.streams import CHUNK, Stream
from rs_plugin.threats import Threat, check_radius, parse_threat
from rs_plugin.voting import Counts, DrawRange, VoteCounter, block_rows

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
        tried = f"{counted(len(self.proposals), 'proposal')} in the certified balls of {counted(self.images, 'image')}"
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
    steps: int = STEPS,
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
    names = _checked(model, attacks, n, alpha, steps)
    place = {index: row for row, index in enumerate(dataset.indices.tolist())}
    indices = run.records()["index"].tolist()
    if not set(indices) <= place.keys() or dataset.collection != run.config["data_fingerprint"]:
        raise InputError(f"the images are not those of run {run.key[:12]}; pass the data set that it is of")
    first = dataset.images[place[int(run.config["first_image"])]] if run.config["first_image"] in place else None
    if first is not None and model_fingerprint(model, first) != run.config["model"]:
        raise InputError(f"the model is not the one that run {run.key[:12]} is of; pass the one that was evaluated")
    counted_by, given = (
        f"{noise} in {precision}{', compiled' * compiled}{f', on a grid of 1/{levels}' if levels else ''}"
        for noise, precision, compiled, levels in (
            (run.config["noise"], run.precision, run.compiled, run.sound),
            (model.noise, model.precision, model.compiled, model.levels),
        )
    )
    if given != counted_by:
        raise InputError(
            f"run {run.key[:12]} is of {counted_by}, the model of {given}; pass the model that was evaluated"
        )
    certified = [pair for pair in zip(indices, run.outcomes, strict=True) if pair[1].radius > 0]
    threat, seed = run.certificate.threat_model, int(run.config["seed"])
    counter = model.counter(dataset.image_shape, block_rows(dataset.dim, n, model.device.type))
    proposals: list[Proposal] = []
    files: list[Path] = []
    for done, (index, outcome) in enumerate(certified):
        image = dataset.images[place[index]]
        radius = min(outcome.radius, 1e6)
        assert outcome.prediction is not None
        found = propose(model, image, outcome.prediction, threat, radius, names, seed=seed + index, steps=steps)
        for number, tried in enumerate(found):
            votes = _fresh_votes(counter, tried.image, index, seed, number, n)
            p_upper = _upper(votes, outcome.prediction, alpha / len(found))
            lost = p_upper < 0.5
            proposals.append(
                Proposal(
                    index=index,
                    attack=tried.attack,
                    radius=radius,
                    distance=tried.distance,
                    prediction=outcome.prediction,
                    votes=votes.tolist(),
                    p_upper=p_upper,
                    lost=lost,
                    image=tried.image,
                )
            )
            if lost and folder is not None:
                files.append(_saved(proposals[-1], number, image, run, Path(folder)))
        if progress is not None:
            progress(done + 1, len(certified))
    return AttackReport(proposals, len(certified), alpha, n, model.bank, files)


@dataclass(frozen=True)
class AttackedAccuracy:
    """The upper side of the sandwich at one radius.

    Attributes:
        broken: for every image, what showed that the smoothed classifier is wrong somewhere in its ball: ``"clean"``
            for the image itself, the name of an attack, or None.
        threat: the threat model.
        eps: the radius.
        attacks: what was tried.
        alpha: probability, per image, of calling an image broken that is not.
        n: fresh draws at every candidate.
        bank: draws in the noise bank of the surrogate.
    """

    broken: list[str | None]
    threat: Threat
    eps: float
    attacks: tuple[str, ...]
    alpha: float
    n: int
    bank: int

    @property
    def accuracy(self) -> float:
        """The share of images that no candidate showed to be broken: the true robust accuracy is at most that."""
        return self.broken.count(None) / len(self.broken)

    def __str__(self) -> str:
        """Return one line: how it was found."""
        return (
            f"{' and '.join(self.attacks)} on a surrogate of {self.bank} draws, judged by n = {self.n} fresh draws at "
            f"alpha = {self.alpha:g} an image"
        )


def attacked_accuracy(
    model: SmoothedClassifier,
    dataset: Dataset,
    threat_model: str,
    eps: float,
    attacks: Sequence[str] = ("pgd",),
    *,
    n: int = 1000,
    alpha: float = 1e-3,
    seed: int = 0,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> AttackedAccuracy:
    """Return an upper bound on the accuracy of a smoothed classifier under every perturbation up to ``eps``.

    An image counts as broken if, at itself or at what an attack on the surrogate makes of it, the votes of fresh draws
    show another class than the label to be the most probable one: a two-sided binomial test between the two leading
    classes (Hung & Fithian 2019), at ``alpha`` shared among the candidates of an image.

    Args:
        model: the smoothed classifier; the bank of its surrogate is its own.
        dataset: the images, all of which are attacked.
        threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
        eps: the radius, in units of images in [0, 1].
        attacks: ``"pgd"``, ``"autoattack"`` or both.
        n: fresh draws at every candidate.
        alpha: probability, per image, of calling an image broken that is not.
        seed: of draws and attacks.
        steps: of projected gradient descent.
        progress: called with (images done, images in all).

    Raises:
        UnknownNameError: no attack, or threat model, has that name.
        ParameterError: draws, alpha, steps, seed or eps out of range.
        DependencyError: AutoAttack is asked for and not installed.
    """
    names = _checked(model, attacks, n, alpha, steps)
    threat = parse_threat(threat_model)
    check_seed(seed)
    radius = check_radius("eps", eps)
    counter = model.counter(dataset.image_shape, block_rows(dataset.dim, n, model.device.type))
    broken: list[str | None] = []
    rows = zip(dataset.images, dataset.labels.tolist(), dataset.indices.tolist(), strict=True)
    for image, label, index in rows:
        found = [Perturbed("clean", image, 0.0)]
        if radius > 0:
            found += propose(model, image, label, threat, radius, names, seed=seed + index, steps=steps)
        level = alpha / len(found)
        shown = (
            tried.attack
            for number, tried in enumerate(found)
            if predicted(_fresh_votes(counter, tried.image, index, seed, number, n), level).prediction
            not in (None, label)
        )
        broken.append(next(shown, None))
        if progress is not None:
            progress(len(broken), len(dataset))
    return AttackedAccuracy(broken, threat, radius, names, alpha, n, model.bank)


def _checked(
    model: SmoothedClassifier, attacks: Sequence[str], n: int, alpha: float, steps: int
) -> tuple[str, ...]:
    """Return the names of attacks, after the checks of all that attacks and judging them need."""
    names = check_attacks(attacks)
    if model.grid is not None:
        raise ParameterError(
            f"attacks move images off the grid of 1/{model.levels} on which a sound model counts; attack the model "
            f"without sound=True"
        )
    check_draws(1, n)
    check_alpha(alpha)
    check_whole("steps", steps)
    return names


def _fresh_votes(counter: VoteCounter, image: Tensor, index: int, seed: int, number: int, n: int) -> Counts:
    """Return the votes of ``n`` draws that no other candidate of the image has seen."""
    start = number * CHUNK * -(-n // CHUNK)
    return counter.count(image, index, seed, [DrawRange(Stream.ATTACK, start, start + n)])[0]


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
