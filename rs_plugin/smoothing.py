"""The smoothed classifier: a base network, a noise, and what follows from its votes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from rs_plugin.certificates import Certificate, certificate
from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.contract import probe
from rs_plugin.distributions.grid import MOST_LEVELS, GridNoise
from rs_plugin.errors import InputError, ParameterError
from rs_plugin.estimation import AlphaBudget, check_alpha, exceeds, least_trials, least_trials_anytime
from rs_plugin.estimation.arguments import MAX_TRIALS, shown
from rs_plugin.outcomes import Outcome, fixed_outcomes, predicted
from rs_plugin.streams import Stream, make_generator
from rs_plugin.voting import Ask, Counts, DrawRange, VoteCounter, block_rows, check_precision, check_scores

#: Steps of ``sound=True``: those of images of 8 bits.
LEVELS: Final = 255

_PASS_ROWS = 256  # noisy images in one pass of the surrogate


class SmoothedClassifier(nn.Module):
    """Answers with the class that ``base`` gives most often under ``noise``.

    Args:
        base: network from images in [0, 1] to class scores (batch, num_classes). Its normalisation lives inside it, so
            that radii are in units of the images. It is put in eval mode, and stays there.
        noise: the smoothing noise.
        num_classes: number of classes.
        bank: draws in the fixed noise bank of ``forward``.
        precision: what the network computes votes in: ``"float32"``, or by autocast ``"bfloat16"`` or ``"float16"``,
            which is faster where the processor has them. It makes another base classifier, with votes of its own: what
            is certified is the one that votes.
        compiled: whether votes are counted by ``torch.compile`` of the network, which takes some seconds at every call,
            needs a C++ compiler, and may be 1.5 times as fast. Another base classifier too, by its rounding. What else
            the process has compiled is forgotten, and compiled once more when next used.
        sound: True, or a number of levels, to count votes of Gaussian or Laplace noise in whole numbers: images are
            multiples of 1/255, or of one over the number, and noise is drawn exactly on that grid, so that certificates
            do not rest on what floating-point noise leaves out (``docs/soundness.md``).

    Raises:
        ParameterError: an argument of a wrong type or range.
        UnknownNameError: no precision has that name.
    """

    def __init__(
        self,
        base: nn.Module,
        noise: SmoothingDistribution,
        num_classes: int,
        *,
        bank: int = 64,
        precision: str = "float32",
        compiled: bool = False,
        sound: bool | int = False,
    ) -> None:
        super().__init__()
        if not isinstance(base, nn.Module):
            raise ParameterError(f"base must be a torch.nn.Module, not {base!r}")
        if not isinstance(noise, SmoothingDistribution):
            raise ParameterError(f"noise must be a SmoothingDistribution, not {noise!r}; parse_noise makes one of text")
        if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 2:
            raise ParameterError(f"num_classes must be a whole number of 2 or more, not {num_classes!r}")
        check_whole("bank", bank)
        self.base = base.eval()
        self.noise = noise
        self.num_classes = int(num_classes)
        self.bank = int(bank)
        self.precision = check_precision(precision)
        if not isinstance(compiled, bool):
            raise ParameterError(f"compiled must be True or False, not {compiled!r}")
        self.compiled = compiled
        if not isinstance(sound, bool) and not (isinstance(sound, int | np.integer) and 1 <= sound <= MOST_LEVELS):
            raise ParameterError(
                f"sound must be True, False or a whole number of levels from 1 to {MOST_LEVELS}, not {sound!r}"
            )
        self.levels = LEVELS if sound is True else int(sound)
        if self.levels:
            GridNoise(noise, self.levels)  # refuses what has no exact draws
        self._bank_noise: dict[tuple[Any, ...], Tensor] = {}

    def train(self, mode: bool = True) -> SmoothedClassifier:
        """Set the mode of the wrapper; the base stays in eval mode, since votes and certificates need it so."""
        super().train(mode)
        self.base.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of the mean softmax over a fixed noise bank, shape (batch, num_classes).

        Deterministic and differentiable: a surrogate for attacks. It is not what is certified, which are hard votes.
        """
        noise = self._noise_of(x)
        many = max(1, _PASS_ROWS // x.shape[0])
        parts = []
        for start in range(0, self.bank, many):
            draws = noise[start : start + many]
            scores = self.base((x + draws.unsqueeze(1)).flatten(0, 1))
            check_scores(scores, len(draws) * x.shape[0], self.num_classes)
            logs = torch.log_softmax(scores, dim=1).view(len(draws), x.shape[0], self.num_classes)
            parts.append(torch.logsumexp(logs, dim=0))
        return torch.logsumexp(torch.stack(parts), dim=0) - float(np.log(self.bank))

    def predict(self, x: Tensor, n: int = 1000, alpha: float = 1e-3, *, seed: int = 0) -> list[Outcome]:
        """Return the smoothed prediction of each image, or an abstention.

        Args:
            x: images in [0, 1], shape (batch, …).
            n: draws per image.
            alpha: probability, per image, of an answer that is not the smoothed classifier's top class.
            seed: of the draws; image ``i`` of ``x`` has index ``i``.
        """
        _check_positive("n", n)
        check_alpha(alpha)
        check_seed(seed)
        return [predicted(counts[0], alpha) for counts in self._count(x, [DrawRange(Stream.ESTIMATION, 0, n)], seed)]

    def certify(
        self,
        x: Tensor,
        threat_model: str,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 1e-3,
        *,
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
        method: str = "auto",
    ) -> list[Outcome]:
        """Return the prediction and certified radius of each image.

        ``n0`` draws choose the class, ``n`` others bound its probability (Cohen, Rosenfeld & Kolter 2019, CERTIFY).

        Args:
            x: images in [0, 1], shape (batch, …).
            threat_model: ``"L1"``, ``"L2"`` or ``"Linf"``.
            n0: draws that choose the class.
            n: draws that bound it.
            alpha: failure probability per image, the certificate's own share included.
            seed: of the draws; image ``i`` of ``x`` has index ``i``.
            labels: true classes, to tell certified from wrong.
            method: as for ``certificate``.

        Raises:
            InputError: images outside [0, 1], NaN, or a wrong shape or type.
            ParameterError: draws or alpha out of range, or too few draws to certify anything.
            UnsupportedThreatError: nothing proves a certificate for the pair.
        """
        check_draws(n0, n)
        check_alpha(alpha)
        check_seed(seed)
        images = check_inputs(x)
        truth: list[int | None] = [None] * len(images) if labels is None else self._checked_labels(labels)
        if len(truth) != len(images):
            raise InputError(f"{len(images)} images but {len(truth)} labels")
        budget, radii_of = budgeted_certificate(self.noise, threat_model, images[0].numel(), method, alpha, seed, n)
        ranges = [DrawRange(Stream.SELECTION, 0, n0), DrawRange(Stream.ESTIMATION, 0, n)]
        counts = self._count(images, ranges, seed)
        selection, votes = (np.stack([pair[i] for pair in counts]) for i in (0, 1))
        return fixed_outcomes(selection, votes, truth, radii_of, budget.votes)

    def counter(self, image_shape: tuple[int, ...], rows: int | None = None) -> VoteCounter:
        """Return what counts votes for images of one shape.

        Args:
            image_shape: (channels, height, width).
            rows: noisy images in one pass, if that is chosen by hand.
        """
        dim = int(np.prod(image_shape))
        probe(self.noise, dim, self.device)
        rows = block_rows(dim, device=self.device.type) if rows is None else rows
        base, precision, compiled = self.base.eval(), self.precision, self.compiled
        return VoteCounter(
            base, self.noise, self.num_classes, image_shape, self.device, rows, precision, compiled, self.grid
        )

    @property
    def grid(self) -> GridNoise | None:
        """The noise as it is drawn on the grid of a sound model, None for another."""
        return GridNoise(self.noise, self.levels) if self.levels else None

    @property
    def device(self) -> torch.device:
        """Where the base network's parameters are; the CPU if it has none."""
        parameter = next(self.base.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def _checked_labels(self, labels: Sequence[int] | Tensor) -> list[int | None]:
        given = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
        if given.ndim != 1 or given.dtype.kind not in "iuf":
            raise InputError(f"labels must be one whole number for each image, not {shown(labels)}")
        unfit = ~np.isin(given, np.arange(self.num_classes))
        if unfit.any():
            found, last = given[unfit][0], self.num_classes - 1
            raise InputError(f"labels hold {found!s}; classes are 0 … {last} with num_classes = {self.num_classes}")
        return [int(label) for label in given]

    def _count(self, x: Tensor, ranges: list[DrawRange], seed: int) -> list[list[Counts]]:
        images = check_inputs(x)
        shape = tuple(images.shape[1:])
        draws = sum(part.stop - part.start for part in ranges)
        rows = block_rows(int(np.prod(shape)), draws, self.device.type)
        asks = [Ask(image, index, seed, ranges) for index, image in enumerate(images)]
        return [answer.counts for answer in self.counter(shape, rows).ask(asks)]

    def _noise_of(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape[1:])
        key = (shape, x.dtype, x.device)
        if key not in self._bank_noise:
            rng = torch.device("cpu") if x.device.type not in ("cpu", "cuda") else x.device
            generator = make_generator(rng, 0, 0, Stream.BANK)
            noise = self.noise.sample((self.bank, *shape), generator=generator, dtype=x.dtype, device=x.device)
            self._bank_noise = {key: noise}
        return self._bank_noise[key]

    def with_bank(self, bank: int) -> SmoothedClassifier:
        """Return the same classifier, of the same network, with another number of draws in its noise bank."""
        return self._over(self.base, bank)

    def __deepcopy__(self, memo: dict[int, Any]) -> SmoothedClassifier:
        return self._over(copy.deepcopy(self.base, memo), self.bank)

    def _over(self, base: nn.Module, bank: int) -> SmoothedClassifier:
        how: dict[str, Any] = {"precision": self.precision, "compiled": self.compiled, "sound": self.levels or False}
        return SmoothedClassifier(base, self.noise, self.num_classes, bank=bank, **how)


def budgeted_certificate(
    noise: SmoothingDistribution,
    threat_model: str,
    dim: int,
    method: str,
    alpha: float,
    seed: int,
    n: int,
    stopping: str = "fixed",
) -> tuple[AlphaBudget, Certificate]:
    """Return how alpha is shared between votes and certificate, and the certificate made with its share.

    A Monte-Carlo certificate has a stream of draws of its own, apart from all votes.

    Raises:
        ParameterError: not even unanimous votes would show a prediction at the votes' share.
    """
    deterministic = method not in ("dual", "monte_carlo")
    budget = AlphaBudget.split(alpha, deterministic=deterministic)
    check_significance(n, budget.votes, stopping)
    if deterministic:
        return budget, certificate(noise, threat_model, dim, method)
    generator = make_generator(torch.device("cpu"), seed, 0, Stream.CERTIFICATE)
    return budget, certificate(noise, threat_model, dim, method, alpha=budget.certificate, generator=generator)


def check_inputs(x: Tensor) -> Tensor:
    """Return images after the checks of ``rs_plugin.datasets.check_images``."""
    from rs_plugin.datasets import check_images

    return check_images(x)


def check_draws(n0: int, n: int) -> None:
    """Raise ParameterError unless both numbers of draws can be made."""
    _check_positive("n0", n0)
    _check_positive("n", n)


def check_significance(n: int, alpha: float, stopping: str = "fixed") -> None:
    """Raise ParameterError unless unanimous votes of ``n`` draws would show a prediction.

    Args:
        n: draws that bound the class, or their cap.
        alpha: the votes' share of the failure probability.
        stopping: ``"fixed"`` or ``"anytime"``.
    """
    fixed = stopping == "fixed"
    least = least_trials(0.5, alpha) if fixed else least_trials_anytime(0.5, alpha, test=exceeds)
    if n < least:
        raise ParameterError(
            f"n = {n} draws cannot show any prediction at alpha = {alpha:g}: even unanimous votes leave the class's "
            f"probability at 1/2 or below; it takes {least} draws, or a larger alpha"
        )


def check_whole(name: str, value: int) -> None:
    """Raise ParameterError unless the value is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ParameterError(f"{name} must be a positive whole number, not {value!r}")


def _check_positive(name: str, value: int) -> None:
    check_whole(name, value)
    if value > MAX_TRIALS:
        raise ParameterError(f"{name} = {value} is beyond the {MAX_TRIALS} draws that bounds are computed for")


def check_seed(seed: int) -> None:
    """Raise ParameterError unless ``seed`` is a whole number of 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(f"seed must be a whole number of 0 or more, not {seed!r}")
