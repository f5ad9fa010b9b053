"""Which models are tried under which noises, on which images, with how many draws.

``RS_PROFILE`` names the profile. ``cpu``, the default, is what the committed votes are of: the bundled ResNet-20s on
every 20th test image of CIFAR-10 (JPEG). ``paper`` is for a GPU with the original data: CIFAR-10 itself, and ImageNet,
with the checkpoints that Cohen et al. published, unpacked under ``RS_DATA/checkpoints``; its votes are kept beside the
others, and counted by ``python -m paper_figures.votes`` or by the notebook of the tables.

A menu lists, for one table and data set, what its rows choose from:

* ``trained``: the baseline's noise at the scale of the training, as [Z] takes it;
* ``retuned``: the baseline's noise at the scales at which the family is tried;
* ``family``: the family of [Z], ``k > 0``, at the same root mean squares per coordinate.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import rs_plugin as rs
from paper_figures.printed import CIFAR10, IMAGENET, PRINTED, Printed, of
from paper_figures.scales import of_scale, rms
from rs_plugin.errors import UnknownNameError
from rs_plugin.zoo import load_card
from rs_plugin.zoo.models import card_path

Role = Literal["trained", "retuned", "family"]

DATA: Final = Path(__file__).parent / "data"
FAMILIES: Final[Mapping[int, str]] = {1: "l1_exponential", 2: "l2_exponential", 3: "mixed_norm"}
DIMS: Final[Mapping[str, int]] = {CIFAR10: 3 * 32 * 32, IMAGENET: 3 * 224 * 224}


class Candidate(NamedTuple):
    """A network under a noise, and what it stands for."""

    role: Role
    model: str
    noise: str


class Scale(NamedTuple):
    """A model, the root mean square per coordinate of its training, and the factors of it that are tried.

    ``plain`` says whether it was trained under the baseline's noise: only then the factor 1 is the paper's baseline.
    """

    model: str
    trained: float
    factors: tuple[float, ...]
    plain: bool = True


@dataclass(frozen=True)
class Profile:
    """How the tables are made.

    Attributes:
        name: as ``RS_PROFILE`` gives it.
        described: what it measures, for readers.
        sets: data set, a registered name or a folder, and subset, by the name that is printed.
        menus: candidates by table and data set.
        normalisation: of the checkpoints among the models; None where all are of the zoo.
        votes: where the votes are kept.
        device: where the networks run.
        compiled: whether they are compiled.
        n: the most draws of an image.
        more: the same for single models, where a radius that matters is out of reach of ``n``.
        dual_draws: draws of the Monte-Carlo dual, one set for all images.
        n0: draws that choose the class.
        alpha: failure probability per image.
        precision: of the networks.
    """

    name: str
    described: str
    sets: Mapping[str, tuple[str, str | None]]
    menus: Mapping[tuple[int, str], tuple[Candidate, ...]]
    votes: Path
    device: str = "cpu"
    normalisation: str | None = None
    compiled: bool = True
    n: int = 100_000
    more: Mapping[str, int] = field(default_factory=dict)
    dual_draws: int = 100_000
    n0: int = 100
    alpha: float = 1e-3
    precision: str = "bfloat16"

    def limit(self, model: str) -> int:
        """Return the most draws of an image of a model."""
        return self.more.get(model, self.n)

    def radii(self, dataset: str, model: str, noise: str) -> tuple[str, tuple[float, ...]]:
        """Return the threat model and radii whose decisions stop the draws: of all tables that the pair is in.

        Linf radii of a Gaussian are those of L2, times ``√d``: spherical noise needs as much for either.
        """
        wanted: dict[str, set[float]] = {}
        for (table, name), menu in self.menus.items():
            if name == dataset and any((c.model, c.noise) == (model, noise) for c in menu):
                printed = of(table, dataset)
                wanted.setdefault(printed.threat, set()).update(printed.radii)
        if set(wanted) == {"L2", "Linf"}:
            wanted = {"L2": wanted["L2"] | {radius * DIMS[dataset] ** 0.5 for radius in wanted["Linf"]}}
        ((threat, radii),) = wanted.items()
        return threat, tuple(sorted(radii))

    def parts(self, table: int) -> list[Printed]:
        """Return what [Z] prints of a table on the data sets of this profile."""
        return [part for part in PRINTED if part.table == table and (table, part.dataset) in self.menus]

    def pairs(self) -> list[tuple[str, str, str]]:
        """Return every data set, model and noise whose votes are needed, each once."""
        return list(
            dict.fromkeys((name, c.model, c.noise) for (_, name), menu in self.menus.items() for c in menu)
        )


def candidates(table: int, dataset: str, scales: Sequence[Scale], ks: Sequence[float]) -> tuple[Candidate, ...]:
    """Return a menu: at every scale the baseline's noise, and the family's with every ``k``."""
    dim, found = DIMS[dataset], []
    for model, trained, factors, plain in scales:
        for factor in factors:
            role: Role = "trained" if plain and factor == 1.0 else "retuned"
            wanted = round(factor * trained, 4)
            found.append(Candidate(role, model, str(of_scale(FAMILIES[table], 0, wanted, dim))))
            found += [Candidate("family", model, str(of_scale(FAMILIES[table], k, wanted, dim))) for k in ks]
    return tuple(found)


def bundled(name: str, *factors: float) -> Scale:
    """Return the scales of a bundled CIFAR-10 (JPEG) model: that of its training, and these multiples of it."""
    model = f"cifar10_jpeg_{name}"
    noise = rs.parse_noise(load_card(card_path(model)).noise)
    plain = isinstance(noise, rs.Gaussian | rs.Laplace)
    return Scale(model, rms(noise, DIMS[CIFAR10]), (1.0, *factors), plain)


def cpu() -> Profile:
    """Return the profile of the committed votes; its scales are those that did best among the screened ones."""
    laplace = [bundled("laplace_0.25", 0.84), bundled("laplace_0.5")]
    gaussian = [bundled("gaussian_0.25", 0.84), bundled("gaussian_0.5", 0.84), bundled("gaussian_1")]
    linf = [
        bundled("gaussian_0.25_adv", 0.84), bundled("gaussian_0.25"), bundled("gaussian_0.5"), bundled("gaussian_1"),
        bundled("mixednorm_0.25"),
    ]  # fmt: skip
    return Profile(
        name="cpu",
        described=(
            "the bundled ResNet-20s on every 20th test image of CIFAR-10 (JPEG). They are not the networks, and not "
            "quite the images, of [Z]: figures compare noises on the same networks, and are no repetition of [Z]'s runs"
        ),
        sets={CIFAR10: ("cifar10_jpeg", "every_20th")},
        menus={
            (3, CIFAR10): candidates(3, CIFAR10, linf, (25,)),
            (2, CIFAR10): candidates(2, CIFAR10, gaussian, (500,)),
            (1, CIFAR10): candidates(1, CIFAR10, laplace, (500,)),
        },
        votes=DATA / "votes.csv.gz",
        n=25_000,
        more={"cifar10_jpeg_gaussian_0.25_adv": 50_000},  # 36 053 unanimous draws are the least that show 4/255
    )


def checkpoints() -> Path:
    """Return the folder of published checkpoints."""
    return Path(os.environ.get("RS_DATA", "")) / "checkpoints"


def paper() -> Profile:
    """Return the profile of the original data and published models, for a GPU."""
    factors = (1.0, 0.84, 1.19)

    def published(folder: str, *sigmas: str) -> list[Scale]:
        return [
            Scale(f"models/{folder}/noise_{sigma}/checkpoint.pth.tar", float(sigma), factors)
            for sigma in sigmas
        ]

    cifar = published("cifar10/resnet110", "0.12", "0.25", "0.50", "1.00")
    return Profile(
        name="paper",
        described="the networks that Cohen et al. published, on every 20th test image of CIFAR-10 and ImageNet's 500",
        sets={CIFAR10: ("cifar10", "every_20th"), IMAGENET: ("imagenet", "every_100th")},
        menus={
            (1, CIFAR10): candidates(1, CIFAR10, cifar, (500,)),
            (2, CIFAR10): candidates(2, CIFAR10, cifar, (500,)),
            (3, CIFAR10): candidates(3, CIFAR10, cifar, (25,)),
            (1, IMAGENET): candidates(1, IMAGENET, published("imagenet/resnet50", "0.25", "0.50", "1.00"), (25_000,)),
            (2, IMAGENET): candidates(2, IMAGENET, published("imagenet/resnet50", "0.25", "0.50", "1.00"), (25_000,)),
        },
        votes=DATA / "votes_paper.csv.gz",
        device="cuda",
        normalisation="mean_std",
    )


PROFILES: Final = {"cpu": cpu, "paper": paper}


def profile() -> Profile:
    """Return the profile that ``RS_PROFILE`` names.

    Raises:
        UnknownNameError: there is no such profile.
    """
    name = os.environ.get("RS_PROFILE", "cpu")
    if name not in PROFILES:
        raise UnknownNameError(f"RS_PROFILE = {name!r} is unknown; known: {', '.join(PROFILES)}")
    return PROFILES[name]()
