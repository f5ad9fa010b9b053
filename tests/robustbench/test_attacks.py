"""The sandwich: what lies inside a ball, what counts as a violation, and what does not."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from rs_plugin import Gaussian, SmoothedClassifier, evaluate, import_robustbench, load_base, load_dataset, parse_noise
from rs_plugin.cli.main import main
from rs_plugin.datasets import Dataset
from rs_plugin.errors import InputError, ParameterError, UnknownNameError
from rs_plugin.evaluation import Run
from rs_plugin.robustbench.attacks import attack_certificates, attacked_accuracy
from rs_plugin.robustbench.proposals import _inside, _projected, norm_of
from rs_plugin.threats import Threat
from tests.robustbench.conftest import colours, network

NOISE = {"L1": "laplace(b=0.1768)", "L2": "gaussian(sigma=0.25)", "Linf": "mixed_norm(k=8, sigma=0.2673)"}
RADII = {"L1": [0.2, 0.5], "L2": [0.1, 0.3], "Linf": [0.01, 0.03]}
AUTOATTACK = pytest.mark.skipif(find_spec("robustbench") is None, reason="RobustBench is not installed")


def digits(threat: str, bank: int = 16) -> SmoothedClassifier:
    return SmoothedClassifier(load_base("digits_gaussian_0.25"), parse_noise(NOISE[threat]), 10, bank=bank)


def other_network() -> SmoothedClassifier:
    """Another network under the same noise: its votes say nothing of the certificates of the first."""
    return SmoothedClassifier(load_base("digits_gaussian_0.5"), parse_noise(NOISE["L2"]), 10, bank=16)


def certified(threat: str, stopping: str = "fixed", images: int = 8) -> Run:
    data = load_dataset("digits", None, images)
    return evaluate(digits(threat), data, threat, RADII[threat], stopping, n=1000, store=None)


def stretched(run: Run, factor: float) -> Run:
    """Return the run with radii that nothing proves."""
    run.outcomes = [dataclasses.replace(outcome, radius=factor * outcome.radius) for outcome in run.outcomes]
    return run


@pytest.mark.parametrize("stopping", ["fixed", "anytime"])
@pytest.mark.parametrize("threat", ["L1", "L2", "Linf"])
def test_a_right_certificate_is_not_violated(threat: Threat, stopping: str) -> None:
    data = load_dataset("digits", None, 8)
    run = certified(threat, stopping)
    report = attack_certificates(digits(threat), run, data, n=1000)
    count = sum(outcome.radius > 0 for outcome in run.outcomes)
    assert report.images == count > 4 and len(report.proposals) == 2 * count
    assert report.violations == [] and report.files == []
    assert "no certified class was lost" in str(report)
    place = {index: i for i, index in enumerate(data.indices.tolist())}
    for proposal in report.proposals:
        assert 0 < proposal.distance <= proposal.radius
        moved = proposal.image.double() - data.images[place[proposal.index]].double()
        assert proposal.distance == norm_of(moved, threat)
        assert sum(proposal.votes) == 1000 and proposal.p_upper > 0.5


@pytest.mark.parametrize(("threat", "factor"), [("L1", 4.0), ("L2", 2.5), ("Linf", 4.0)])
def test_a_wrong_certificate_is_caught_and_saved(threat: Threat, factor: float, tmp_path: Path) -> None:
    data = load_dataset("digits", None, 8)
    report = attack_certificates(
        digits(threat), stretched(certified(threat), factor), data, n=2000, folder=tmp_path / "lost"
    )
    assert len(report.violations) >= 4 and "VIOLATED at image" in str(report)
    assert len(report.files) == len(report.violations)
    for violation, path in zip(report.violations, report.files, strict=True):
        saved = np.load(path, allow_pickle=False)
        assert np.array_equal(saved["perturbed"], violation.image.numpy())
        assert saved["votes"].tolist() == violation.votes and saved["radius"] == violation.radius
        # The class has lost in truth: 4 000 draws of another seed say so too.
        (outcome,) = digits(threat).predict(violation.image[None], n=4000, seed=99)
        assert outcome.prediction != violation.prediction


def test_a_lower_probability_alone_is_no_violation() -> None:
    """The class may fall from 0.99 to 0.55 inside its ball, and the surrogate may well change its answer."""
    data = load_dataset("digits", None, 8)
    run = certified("L2")
    report = attack_certificates(digits("L2", bank=1), run, data, n=1000)
    fell = [p.votes[p.prediction] / 1000 for p in report.proposals]
    assert min(fell) < 0.9 and report.violations == []


def test_the_level_of_the_test() -> None:
    """A class of probability 1/2 exactly, everywhere: the tightest case in which nothing is violated."""

    class Coin(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = x.flatten(1)[:, :1]
            return torch.cat([first - 0.5, 0.5 - first], dim=1) * 1e3

    data = dataclasses.replace(colours(300), num_classes=2, labels=torch.zeros(300, dtype=torch.int64), collection="")
    data.images[:] = 0.5
    data = dataclasses.replace(data, collection="")
    model = SmoothedClassifier(Coin(), Gaussian(0.1), 2, bank=2)
    run = evaluate(model, data, "L2", [1e-9], n=50, alpha=0.45, store=None)
    run.outcomes = [dataclasses.replace(o, prediction=0, radius=1e-9) for o in run.outcomes]
    report = attack_certificates(model, run, data, n=200, alpha=0.2, steps=1)
    wrong = len({p.index for p in report.violations})
    # 300 images at 0.2 or less: 60 at most on average; 88 lie above the binomial's 0.9999 quantile.
    assert 0 < wrong <= 88


class TestAttackedAccuracy:
    """Against a linear classifier, whose smoothed version and worst perturbation are known in closed form."""

    SIGMA = 0.25

    def linear(self) -> tuple[torch.Tensor, Dataset, torch.Tensor]:
        """Return the weights, the images with right labels, and the distances from the boundary in units of w x."""
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(48, generator=generator)
        images = 0.3 + 0.4 * torch.rand((120, 3, 4, 4), generator=generator)  # no perturbation meets the box
        margins = (images - 0.5).flatten(1) @ weights
        labels = (margins < 0).long()
        return weights, Dataset("linear", images, labels, 2, torch.arange(120)), margins.abs()

    def model(self, weights: torch.Tensor) -> SmoothedClassifier:
        class Linear(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("weights", weights)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                value = (x - 0.5).flatten(1) @ weights
                return torch.stack([value, -value], dim=1)

        return SmoothedClassifier(Linear(), Gaussian(self.SIGMA), 2, bank=16)

    @pytest.mark.parametrize(
        ("threat", "eps", "dual"),
        [("L1", 0.2, float("inf")), ("L2", 0.15, 2), ("Linf", 0.02, 1)],
    )
    def test_lies_above_the_truth_and_near_it(self, threat: Threat, eps: float, dual: float) -> None:
        weights, data, margins = self.linear()
        n = 4000
        found = attacked_accuracy(self.model(weights), data, threat, eps, n=n)
        standing = torch.tensor([broken is None for broken in found.broken])
        lack = eps * float(torch.linalg.vector_norm(weights, dual)) - margins
        # The smoothed classifier is the linear one, so that the truth is known. At 0.001 an image three mistakes have
        # a probability below 0.0003.
        assert int((~standing & (lack <= 0)).sum()) < 3
        assert found.accuracy == float(standing.double().mean()) >= float((lack <= 0).double().mean()) - 2.5 / 120
        # A worst point gives the wrong class a probability of Phi(lack / deviation). Where that is beyond 1/2 by six
        # standard errors (the test needs 3.6), and by the tenth by which an attack may fall short, it is found.
        deviation = self.SIGMA * float(weights.norm())
        wrong = torch.special.ndtr((lack - 0.1 * lack.clamp_min(0)) / deviation)
        clear = wrong > 0.5 + 6 * 0.5 / n**0.5
        assert int(clear.sum()) >= 20
        assert not bool((standing & clear).any())

    def test_at_radius_0_only_the_images_count(self) -> None:
        weights, data, margins = self.linear()
        flipped = dataclasses.replace(data, labels=1 - data.labels, collection="")
        found = attacked_accuracy(self.model(weights), flipped, "L2", 0.0, n=1000)
        far = margins > self.SIGMA * float(weights.norm())  # where the wrong class has less than 0.16
        assert all(broken == "clean" for broken, is_far in zip(found.broken, far.tolist(), strict=True) if is_far)
        assert set(found.broken) <= {"clean", None}

    def test_alpha_is_kept_at_a_tie(self) -> None:
        """Two classes of probability 1/2 each: whatever is shown there is a mistake."""
        weights, data, _ = self.linear()
        data = dataclasses.replace(data, images=torch.full_like(data.images, 0.5), collection="")
        found = attacked_accuracy(self.model(weights), data, "L2", 0.0, n=500, alpha=0.1)
        # 120 images at 0.1 at most, half of it towards the wrong class: 18 lie above the 0.9999 quantile of that.
        assert len(data) - found.broken.count(None) <= 18

    @pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), "0.1", True])
    def test_impossible_radii(self, eps: Any) -> None:
        weights, data, _ = self.linear()
        with pytest.raises(ParameterError, match="eps must be a radius"):
            attacked_accuracy(self.model(weights), data, "L2", eps)

    @pytest.mark.parametrize("seed", ["x", 1.5, True])
    def test_impossible_seeds(self, seed: Any) -> None:
        weights, data, _ = self.linear()
        with pytest.raises(ParameterError, match="seed must be a whole number"):
            attacked_accuracy(self.model(weights), data, "L2", 0.1, seed=seed)

    def test_seeds_may_be_large(self) -> None:
        weights, data, _ = self.linear()
        for seed in (0, 2**64, 2**80):
            attacked_accuracy(self.model(weights), data.take(slice(2)), "L2", 0.1, n=50, steps=2, seed=seed)

    def test_unknown_names(self) -> None:
        weights, data, _ = self.linear()
        with pytest.raises(UnknownNameError, match="unknown attack 'fgsm'; known: pgd, autoattack"):
            attacked_accuracy(self.model(weights), data, "L2", 0.1, ["fgsm"])
        with pytest.raises(UnknownNameError):
            attacked_accuracy(self.model(weights), data, "L3", 0.1)


@pytest.mark.parametrize("threat", ["L1", "L2", "Linf"])
@pytest.mark.parametrize("radius", [1e-7, 0.01, 3.0])
def test_proposals_lie_inside(threat: Threat, radius: float) -> None:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand((3, 8, 8), generator=generator)
    far = image + torch.randn(image.shape, generator=generator)
    inside, distance = _inside(image, far, threat, radius)
    assert inside.dtype == torch.float32 and distance <= radius
    assert norm_of(inside.double() - image.double(), threat) == distance
    assert distance > 0.3 * radius or radius < 1e-6  # float32 images know no smaller steps


@pytest.mark.parametrize("threat", ["L1", "L2", "Linf"])
def test_projection_is_the_nearest_point(threat: Threat) -> None:
    """Against a general constrained minimiser."""
    rng = np.random.default_rng(0)
    order = {"L1": 1, "L2": 2, "Linf": np.inf}[threat]
    for _ in range(5):
        shift = 3 * rng.normal(size=6)
        found = _projected(torch.from_numpy(shift), threat, 0.8).numpy()
        assert np.linalg.norm(found, order) == pytest.approx(0.8)
        start = shift * 0.5 / np.linalg.norm(shift, order)
        # L1 as a sum of two non-negative parts, which makes every constraint smooth.
        if threat == "L1":
            best = optimize.minimize(
                lambda y, shift=shift: ((y[:6] - y[6:] - shift) ** 2).sum(),
                np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)]),
                bounds=[(0, None)] * 12,
                constraints={"type": "ineq", "fun": lambda y: 0.8 - y.sum()},
                options={"ftol": 1e-14, "maxiter": 500},
            )
            nearest = best.x[:6] - best.x[6:]
        elif threat == "L2":
            nearest = shift * 0.8 / np.linalg.norm(shift)
        else:
            nearest = np.clip(shift, -0.8, 0.8)
        assert found == pytest.approx(nearest, abs=1e-5)  # the minimiser's own accuracy
    inner = torch.full((6,), 0.01, dtype=torch.float64)
    assert torch.equal(_projected(inner, threat, 0.8), inner)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"noise": Gaussian(0.5)}, r"gaussian\(sigma=0\.5\) in float32"),
        ({"precision": "bfloat16"}, r"gaussian\(sigma=0\.25\) in bfloat16"),
        ({"compiled": True}, r"gaussian\(sigma=0\.25\) in float32, compiled"),
    ],
)
def test_a_model_that_votes_otherwise_is_refused(
    changes: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A noise of another scale has another fingerprint, which is compared first.
    monkeypatch.setattr("rs_plugin.robustbench.attacks.model_fingerprint", lambda *_: run.config["model"])
    data, run = load_dataset("digits", None, 2), certified("L2", images=2)
    given = {"base": load_base("digits_gaussian_0.25"), "noise": Gaussian(0.25), "num_classes": 10, **changes}
    with pytest.raises(InputError, match=rf"in float32, the model of {what}; pass the model that was evaluated"):
        attack_certificates(SmoothedClassifier(**given), run, data, n=100)


def test_the_same_run_is_attacked_alike() -> None:
    data = load_dataset("digits", None, 3)
    first, second = (attack_certificates(digits("L2"), certified("L2", images=3), data, n=200) for _ in range(2))
    assert first.proposals == second.proposals


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"attacks": ["pgb"]}, UnknownNameError, "unknown attack 'pgb'; known: pgd, autoattack"),
        ({"attacks": []}, UnknownNameError, "known: pgd, autoattack"),
        ({"n": 0}, ParameterError, "n must be a positive whole number"),
        ({"alpha": 2.0}, ParameterError, "alpha"),
        ({"steps": 0}, ParameterError, "steps must be a positive whole number, not 0"),
        ({"dataset": colours(3)}, InputError, "the images are not those of run"),
        ({"model": digits("Linf")}, InputError, "is of gaussian|is not the one that run"),
        ({"model": other_network()}, InputError, "the model is not the one that run"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"model": digits("L2"), "dataset": load_dataset("digits", None, 2), **changes}
    with pytest.raises(error, match=words):
        attack_certificates(run=certified("L2", images=2), **arguments)


@AUTOATTACK
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("factor", "lost"), [(1.0, False), (3.0, True)])
def test_autoattack_proposes(factor: float, lost: bool) -> None:
    run = stretched(certified("L2", images=1), factor)
    before = torch.get_rng_state()
    report = attack_certificates(digits("L2", bank=4), run, load_dataset("digits", None, 1), ["autoattack"], n=1000)
    assert torch.equal(torch.get_rng_state(), before)
    (proposal,) = report.proposals
    # An attack that fails proposes the image itself.
    assert proposal.attack == "autoattack" and proposal.distance <= proposal.radius
    assert not lost or proposal.distance > 0
    assert proposal.lost is lost


@AUTOATTACK
@pytest.mark.filterwarnings("ignore")
def test_robustbenchs_own_benchmark_runs_on_our_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its figure is the surrogate's: AutoAttack against ``model(x)``."""
    data = colours(3)
    module = import_robustbench("robustbench.eval")
    monkeypatch.setattr(module, "load_clean_dataset", lambda *_: (data.images, data.labels))
    model = SmoothedClassifier(network(), Gaussian(0.25), 10, bank=2)
    log = tmp_path / "log.txt"
    clean, robust = module.benchmark(model, 3, "cifar10", "L2", eps=0.05, log_path=str(log), batch_size=3)
    with torch.no_grad():
        assert clean == pytest.approx(float((model(data.images).argmax(1) == data.labels).float().mean()))
    assert 0 <= robust <= clean and "apgd" in log.read_text()


class TestCommandLine:
    WORDS = ("evaluate", "--model", "digits_gaussian_0.25", "--n-examples", "3", "--radii", "0.1", "--attack", "pgd")

    def run(self, *more: str) -> int:
        return main([*self.WORDS, "--attack-n", "500", "--bank", "8", *more])

    def test_says_what_came_of_it(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.run() == 0
        out = capsys.readouterr().out
        assert "no certified class was lost" in " ".join(out.split())
        assert max(map(len, out.splitlines())) <= 80

    def test_a_violation_is_an_error_with_a_code_of_its_own(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        real = Run._judge
        monkeypatch.setattr(
            Run, "_judge", lambda run: [dataclasses.replace(o, radius=3 * o.radius) for o in real(run)]
        )
        assert self.run() == 3
        err = capsys.readouterr().err
        assert "VIOLATED" in err and "a certificate is violated; the image is saved in results/violation_" in err
        assert list(Path("results").glob("violation_*.npz"))
