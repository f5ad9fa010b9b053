"""The smoothed classifier: its surrogate, its predictions and its certificates."""

from __future__ import annotations

import copy
import math
import re
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

from rs_plugin.datasets import Dataset
from rs_plugin.distributions import Gaussian, Laplace, MixedNorm
from rs_plugin.errors import InputError, ModelError, ParameterError, UnknownNameError
from rs_plugin.evaluation import Run, evaluate
from rs_plugin.networks import CifarResNet
from rs_plugin.outcomes import Status
from rs_plugin.robustbench import attack_certificates
from rs_plugin.smoothing import SmoothedClassifier
from rs_plugin.voting import single_threaded
from tests.evaluation.toys import SHAPE, HalfSpace, Rows, half_space_model, images_of, toy_model

SIGMA = 0.25
IMAGES = torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(4))


def clopper_pearson(successes: int, trials: int, alpha: float) -> float:
    return float(proportion_confint(successes, trials, alpha=2 * alpha, method="beta")[0])


class TestForward:
    def test_is_deterministic_whatever_the_global_generator(self) -> None:
        model = toy_model()
        torch.manual_seed(0)
        first = model(IMAGES)
        torch.manual_seed(1)
        assert torch.equal(model(IMAGES), first)
        assert torch.equal(toy_model()(IMAGES), first)

    def test_does_not_touch_the_global_generator(self) -> None:
        before = torch.get_rng_state()
        toy_model()(IMAGES)
        toy_model().certify(IMAGES, "L2", n0=10, n=20)
        assert torch.equal(torch.get_rng_state(), before)

    def test_is_the_log_of_the_mean_softmax_over_the_bank(self) -> None:
        base = Rows()
        model = SmoothedClassifier(base, Gaussian(SIGMA), 3, bank=17)
        bank: list[Tensor] = []
        hook = base.register_forward_pre_hook(
            lambda _, args: bank.extend(args[0].detach().view(-1, *IMAGES.shape) - IMAGES)
        )
        got = model(IMAGES)
        many = model(IMAGES.repeat(100, 1, 1, 1))  # more than one pass
        hook.remove()
        assert len(bank) == 17 * 101
        torch.testing.assert_close(many[: len(IMAGES)], got)
        bank = bank[:17]
        mean = np.mean([torch.softmax(base(IMAGES + z).double(), 1).detach().numpy() for z in bank], axis=0)
        np.testing.assert_allclose(got.detach().numpy(), np.log(mean), atol=5e-6)  # float32 sums of 17 terms
        np.testing.assert_allclose(got.exp().sum(1).detach().numpy(), 1.0, atol=1e-5)
        assert np.std(torch.stack(bank).numpy()) == pytest.approx(SIGMA, rel=0.3)

    def test_every_image_meets_the_same_bank(self) -> None:
        model = toy_model()
        torch.testing.assert_close(model(IMAGES)[1:2], model(IMAGES[1:2]))

    def test_is_differentiable_in_the_images(self) -> None:
        model = toy_model()
        with torch.inference_mode():
            model(IMAGES)  # a bank first made here must serve gradients later
        x = IMAGES.clone().double().requires_grad_()
        model.double()
        (gradient,) = torch.autograd.grad(model(x)[0, 1], x)
        step = torch.zeros_like(x)
        step[0, 0, 1, 0] = 1e-6
        with torch.no_grad():
            difference = (model(x + step) - model(x - step))[0, 1] / 2e-6
        assert float(gradient[0, 0, 1, 0]) == pytest.approx(float(difference), rel=1e-6)
        assert float(gradient[1:].abs().max()) == 0.0

    def test_gradients_flow_after_an_inference_call_in_the_same_precision(self) -> None:
        model = toy_model()
        with torch.inference_mode():
            model(IMAGES)
        x = IMAGES.clone().requires_grad_()
        model(x).sum().backward()
        assert x.grad is not None and bool(torch.isfinite(x.grad).all())


class TestModes:
    def test_the_base_stays_in_eval_mode(self) -> None:
        base = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3)).train()
        model = SmoothedClassifier(base, Gaussian(SIGMA), 3)
        assert not base.training
        assert model.train() is model
        assert model.training and not any(module.training for module in base.modules())
        assert torch.equal(model(IMAGES), model(IMAGES))

    def test_a_base_put_in_training_mode_behind_its_back_is_put_right(self) -> None:
        base = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3))
        model = SmoothedClassifier(base, Gaussian(SIGMA), 3)
        expected = model.certify(IMAGES, "L2", n0=20, n=100)
        base.train()
        got = model.certify(IMAGES, "L2", n0=20, n=100)
        assert [o.votes.tolist() for o in got] == [o.votes.tolist() for o in expected]

    def test_a_copy_answers_the_same_and_shares_nothing(self) -> None:
        model = toy_model()
        other = copy.deepcopy(model)
        assert torch.equal(other(IMAGES), model(IMAGES))
        with torch.no_grad():
            other.base.weight.zero_()
        assert float(model.base.weight.detach().abs().max()) > 0


class TestPredict:
    def test_clear_images_are_predicted_and_a_tie_is_not(self) -> None:
        images = images_of(np.array([0.99, 0.01, 0.5]), SIGMA)
        outcomes = half_space_model().predict(images, n=400)
        assert [o.prediction for o in outcomes] == [1, 0, None]
        assert outcomes[2].status is Status.ABSTAINED
        assert [o.n for o in outcomes] == [400, 400, 400]
        assert all(int(o.votes.sum()) == 400 for o in outcomes)

    def test_the_test_is_two_sided_between_the_two_top_classes(self) -> None:
        for outcome in half_space_model().predict(images_of(np.linspace(0.3, 0.7, 15), SIGMA), n=100, alpha=0.05):
            p_value = stats.binomtest(int(outcome.votes.max()), 100, 0.5).pvalue
            assert (outcome.prediction is not None) == (p_value <= 0.05)

    @pytest.mark.parametrize("n", [0, -3, 2.5, True, "10", None])
    def test_bad_numbers_of_draws(self, n: Any) -> None:
        with pytest.raises(ParameterError, match=re.escape(f"n must be a positive whole number, not {n!r}")):
            toy_model().predict(IMAGES, n=n)

    @pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan, "x", None])
    def test_bad_alpha(self, alpha: Any) -> None:
        with pytest.raises(ParameterError, match="alpha must lie between 0 and 1"):
            toy_model().predict(IMAGES, n=10, alpha=alpha)


class TestCertify:
    PROBABILITIES = np.array([0.999, 0.9, 0.3, 0.5, 0.05])

    def test_radius_is_the_closed_form_at_the_clopper_pearson_bound(self) -> None:
        n, alpha = 500, 0.01
        outcomes = half_space_model().certify(images_of(self.PROBABILITIES, SIGMA), "L2", n0=50, n=n, alpha=alpha)
        for outcome, probability in zip(outcomes, self.PROBABILITIES, strict=True):
            if outcome.prediction is None:
                assert outcome.radius == 0.0
                continue
            assert outcome.prediction == int(probability > 0.5)
            expected = clopper_pearson(int(outcome.votes[outcome.prediction]), n, alpha)
            assert outcome.p_lower == pytest.approx(expected, rel=1e-7)
            assert outcome.p_lower <= expected * (1 + 1e-12)
            closed = SIGMA * stats.norm.ppf(outcome.p_lower)
            assert closed * (1 - 1e-9) <= outcome.radius <= closed

    def test_statuses(self) -> None:
        images = images_of(self.PROBABILITIES, SIGMA)
        outcomes = half_space_model().certify(images, "L2", n0=50, n=500, labels=[1, 0, 0, 1, 0])
        assert [o.status for o in outcomes] == [
            Status.CERTIFIED, Status.WRONG, Status.CERTIFIED, Status.ABSTAINED, Status.CERTIFIED,
        ]  # fmt: skip
        assert [o.prediction for o in outcomes] == [1, 1, 0, None, 0]

    def test_without_labels_an_outcome_is_certified_or_abstained(self) -> None:
        outcomes = half_space_model().certify(images_of(self.PROBABILITIES, SIGMA), "L2", n0=50, n=500)
        assert {o.status for o in outcomes} == {Status.CERTIFIED, Status.ABSTAINED}

    def test_labels_may_be_a_tensor(self) -> None:
        images = images_of(np.array([0.99, 0.99]), SIGMA)
        outcomes = half_space_model().certify(images, "L2", n0=10, n=100, labels=torch.tensor([1, 0]))
        assert [o.status for o in outcomes] == [Status.CERTIFIED, Status.WRONG]

    def test_an_abstention_holds_nowhere(self) -> None:
        (outcome,) = half_space_model().certify(images_of(np.array([0.5]), SIGMA), "L2", n0=50, n=500, labels=[1])
        assert outcome.status is Status.ABSTAINED and not outcome.holds_at(0.0)

    def test_the_class_comes_from_draws_of_its_own(self) -> None:
        # At p = 1/2 the class chosen by the selection draws is no more frequent in the others; were the draws shared,
        # its count would exceed n/2 by |N(0, 1)| sqrt(n)/2 on average, 0.4 sqrt(n).
        images = images_of(np.full(300, 0.5), SIGMA)
        outcomes = half_space_model().certify(images, "L2", n0=100, n=100, alpha=0.4)
        bounds = np.array([o.p_lower for o in outcomes])
        # Of 300 images at alpha = 0.4 a bound above 1/2 happens with probability at most 0.4: at most so often but for
        # one seed in a million. With shared draws nearly 3/4 of them would be.
        assert int((bounds > 0.5).sum()) <= stats.binom.isf(1e-6, 300, 0.4)

    def test_the_other_classes_do_not_matter(self) -> None:
        # Votes split over many classes: the radius still is that of p_lower against 1 - p_lower.
        model = toy_model(sigma=0.2, classes=8)
        for outcome in model.certify(IMAGES, "L2", n0=50, n=2000):
            if outcome.p_lower <= 0.5:
                assert (outcome.prediction, outcome.radius) == (None, 0.0)
            else:
                assert outcome.radius == pytest.approx(0.2 * stats.norm.ppf(outcome.p_lower), rel=1e-9)

    @pytest.mark.parametrize("method", ["monte_carlo", "dual"])
    def test_a_sampled_certificate_takes_a_tenth_of_alpha(self, method: str) -> None:
        alpha, n = 0.01, 300
        images = images_of(np.array([0.97]), SIGMA)
        (outcome,) = half_space_model().certify(images, "L2", n0=20, n=n, alpha=alpha, method=method)
        assert outcome.p_lower == pytest.approx(clopper_pearson(int(outcome.votes[1]), n, 0.9 * alpha), rel=1e-7)
        assert 0.0 < outcome.radius <= SIGMA * stats.norm.ppf(outcome.p_lower)

    def test_the_sampled_certificate_itself_is_made_at_that_tenth(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import rs_plugin.smoothing as module

        given: list[float] = []
        make = module.certificate

        def spy(*args: Any, **options: Any) -> Any:
            given.append(options["alpha"])
            return make(*args, **options)

        monkeypatch.setattr(module, "certificate", spy)
        half_space_model().certify(
            images_of(np.array([0.97]), SIGMA), "L2", n0=5, n=50, alpha=0.1, method="monte_carlo"
        )
        assert given == [pytest.approx(0.01)]

    def test_results_follow_the_seed(self) -> None:
        model, images = half_space_model(), images_of(np.linspace(0.6, 0.9, 6), SIGMA)

        def votes(seed: int) -> list[list[int]]:
            return [o.votes.tolist() for o in model.certify(images, "L2", n0=10, n=200, seed=seed)]

        assert votes(0) == votes(0) != votes(1)

    def test_an_image_has_the_votes_of_its_place(self) -> None:
        model, images = half_space_model(), images_of(np.full(4, 0.8), SIGMA)
        alone = model.certify(images[:1], "L2", n0=10, n=200)[0]
        together = model.certify(images, "L2", n0=10, n=200)
        assert together[0].votes.tolist() == alone.votes.tolist()
        assert len({tuple(o.votes.tolist()) for o in together}) > 1


BAD_IMAGES = [
    (IMAGES + 0.9, r"outside \[0, 1\]; divide by 255"),
    (IMAGES - 1.0, r"outside \[0, 1\]; undo the normalisation"),
    (torch.full((1, *SHAPE), math.nan), "NaN; remove or repair"),
    ((IMAGES * 255).to(torch.uint8), "convert to float32, and divide by 255"),
    (IMAGES[0], r"shape \(1, 2, 2\).*unsqueeze\(0\)"),
    (IMAGES.flatten(1), r"shape \(3, 4\)"),
    (IMAGES[:0], "without an empty axis"),
    (IMAGES.numpy(), "torch.from_numpy"),
]


class TestBadInput:
    @pytest.mark.parametrize(("images", "message"), BAD_IMAGES)
    def test_images(self, images: Any, message: str) -> None:
        for call in (lambda: toy_model().certify(images, "L2", n=100), lambda: toy_model().predict(images, n=10)):
            with pytest.raises(InputError, match=message) as raised:
                call()
            assert isinstance(raised.value, ValueError) and "\n" not in str(raised.value)

    def test_the_least_number_of_draws_is_named_and_is_enough(self) -> None:
        model, images = half_space_model(0.01), torch.ones(1, *SHAPE)
        with pytest.raises(ParameterError, match=r"n = 12 draws cannot show.*it takes 14 draws") as raised:
            model.certify(images, "L2", n0=1, n=12, alpha=1e-4)
        least = int(re.findall(r"takes (\d+) draws", str(raised.value))[0])
        assert model.certify(images, "L2", n0=1, n=least, alpha=1e-4)[0].prediction == 1
        with pytest.raises(ParameterError):
            model.certify(images, "L2", n0=1, n=least - 1, alpha=1e-4)

    @pytest.mark.parametrize(("name", "value"), [("n0", 0), ("n0", 1.5), ("n", -1), ("n", True), ("n", "many")])
    def test_draws(self, name: str, value: Any) -> None:
        with pytest.raises(ParameterError, match=re.escape(f"{name} must be a positive whole number, not {value!r}")):
            toy_model().certify(IMAGES, "L2", **{name: value})

    @pytest.mark.parametrize("alpha", [0, 1, -0.1, 2.0, math.nan, "0.1", None, True])
    def test_alpha(self, alpha: Any) -> None:
        with pytest.raises(ParameterError, match=re.escape(f"alpha must lie between 0 and 1, not {alpha!r}")):
            toy_model().certify(IMAGES, "L2", alpha=alpha)

    def test_k_as_large_as_the_dimension(self) -> None:
        model = SmoothedClassifier(Rows(), MixedNorm(4, 0.5), 3)
        with pytest.raises(ParameterError, match="k"):
            model.certify(IMAGES, "Linf", n=100)

    def test_unknown_names(self) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'L2'"):
            toy_model().certify(IMAGES, "l2", n=100)
        with pytest.raises(UnknownNameError, match="unknown method 'best'"):
            toy_model().certify(IMAGES, "L2", n=100, method="best")

    @pytest.mark.parametrize(
        "labels", [[0, None, 1], [0, float("nan"), 1], [[0], [1], [1]], 3, [0, 0.5, 1], "abc", [0, 1, 3]]
    )
    def test_labels_that_are_no_classes(self, labels: object) -> None:
        with pytest.raises(InputError, match=r"labels (must be one whole number for each|hold)"):
            toy_model().certify(IMAGES, "L2", n=100, labels=labels)  # type: ignore[arg-type]

    def test_labels_of_another_length(self) -> None:
        with pytest.raises(InputError, match="3 images but 2 labels"):
            toy_model().certify(IMAGES, "L2", n=100, labels=[0, 1])

    def test_a_network_with_other_classes(self) -> None:
        with pytest.raises(ModelError, match="pass num_classes=3"):
            SmoothedClassifier(Rows(3), Gaussian(SIGMA), 10).certify(IMAGES, "L2", n=100)
        with pytest.raises(ModelError, match="pass num_classes=3"):
            SmoothedClassifier(Rows(3), Gaussian(SIGMA), 10)(IMAGES)

    @pytest.mark.parametrize("classes", [1, 0, -2, 2.5, True, None, "ten", math.nan])
    def test_number_of_classes(self, classes: Any) -> None:
        with pytest.raises(ParameterError, match=re.escape(f"not {classes!r}")):
            SmoothedClassifier(Rows(), Gaussian(SIGMA), classes)

    @pytest.mark.parametrize("bank", [0, -1, 1.5, None, "x"])
    def test_bank(self, bank: Any) -> None:
        with pytest.raises(ParameterError, match=re.escape(f"not {bank!r}")):
            SmoothedClassifier(Rows(), Gaussian(SIGMA), 3, bank=bank)

    def test_what_is_no_network_or_no_noise(self) -> None:
        with pytest.raises(ParameterError, match=r"torch\.nn\.Module"):
            SmoothedClassifier(lambda x: x, Gaussian(SIGMA), 3)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="parse_noise"):
            SmoothedClassifier(Rows(), "gaussian(sigma=1)", 3)  # type: ignore[arg-type]


def test_another_norm_uses_its_own_certificate() -> None:
    model = SmoothedClassifier(HalfSpace(), Laplace(0.2), 2)
    (outcome,) = model.certify(images_of(np.array([0.999]), SIGMA), "L1", n0=20, n=1000)
    assert outcome.prediction == 1
    assert outcome.radius == pytest.approx(-0.2 * math.log(2 * (1 - outcome.p_lower)), rel=1e-9)


def _compiler() -> bool:
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


class TestCompiled:
    """A compiled network votes as the network does, but for rounding."""

    DATA = Dataset("x", torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1)),
                   torch.tensor([0, 1]), 10, torch.arange(2))  # fmt: skip

    def run(self, base: nn.Module, **how: Any) -> Run:
        model = SmoothedClassifier(base, Gaussian(0.5), 10, **how)
        return evaluate(model, self.DATA, "L2", [0.1], n0=50, n=500, store=None, workers=2)

    @pytest.mark.skipif(not _compiler(), reason="no C++ compiler, which torch.compile needs on a CPU")
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_votes_are_those_of_the_network_with_the_weights_it_has(self, precision: str) -> None:
        torch.manual_seed(0)
        base = CifarResNet(8).eval()
        keys = set()
        for _ in range(2):
            plain, fast = (self.run(base, precision=precision, compiled=how) for how in (False, True))
            exact = plain if precision == "float32" else self.run(base)
            for one, other, best in zip(plain.votes, fast.votes, exact.votes, strict=True):
                assert one.selection.sum() == other.selection.sum() == 50
                # Rounding turns draws that lie on a border: of 500 one or two within 1e-5 of it, which is float32's; of
                # coarser numbers about as many as differ from float32.
                rounding = np.abs(one.counts - best.counts).sum()
                assert np.abs(one.counts - other.counts).sum() <= 4 + 2 * rounding
                assert rounding <= 60  # or the network is not the same
            keys |= {plain.key, fast.key}
            with torch.no_grad():  # other weights of the same network must not meet what was compiled before
                base.fc.weight.copy_(base.fc.weight.roll(3, 0))
                base.conv1.weight.mul_(-1.0)
        assert len(keys) == 4
        assert np.abs(plain.votes[0].counts - self.run(CifarResNet(8)).votes[0].counts).sum() > 60  # weights matter

    def test_a_compiler_that_fails_or_errs_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        base = CifarResNet(8).eval()

        def failing(*_: Any, **__: Any) -> Any:
            def call(x: Tensor) -> Tensor:
                raise RuntimeError("no compiler\nhere")

            return call

        monkeypatch.setattr(torch, "compile", failing)
        with pytest.raises(ModelError, match=r"cannot be compiled here \(no compiler\); do without compiled=True"):
            self.run(base, compiled=True)
        monkeypatch.setattr(torch, "compile", lambda network, **_: lambda x: 1.1 * network(x))
        with pytest.raises(ModelError, match="compiled network answers otherwise than the network itself"):
            self.run(base, compiled=True)

    def test_it_is_kept_by_copies_and_must_be_a_truth_value(self) -> None:
        assert copy.deepcopy(SmoothedClassifier(Rows(), Gaussian(SIGMA), 3, compiled=True)).compiled
        with pytest.raises(ParameterError, match="compiled must be True or False, not 'yes'"):
            SmoothedClassifier(Rows(), Gaussian(SIGMA), 3, compiled="yes")  # type: ignore[arg-type]


class TestPrecision:
    """Votes of a network that computes in fewer bits are those of that network."""

    def model(self, precision: str) -> SmoothedClassifier:
        torch.manual_seed(0)
        return SmoothedClassifier(CifarResNet(8).eval(), Gaussian(0.5), 10, precision=precision)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_votes_are_those_of_the_network_under_autocast(self, precision: str) -> None:
        """Counted again by hand, from the very images that the network was given."""
        model = self.model(precision)
        image = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(1))
        seen: list[Tensor] = []

        def note(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if module is model.base:
                seen.append(args[0].clone())

        hook = nn.modules.module.register_module_forward_hook(note)
        try:
            (outcome,) = model.predict(image, n=300, alpha=0.5)
        finally:
            hook.remove()
        seen = seen[-2:]  # before them the network was shown a block to find how it likes its images
        blocks = torch.cat(seen)
        assert blocks.dtype == torch.float32  # noise is added before anything is rounded
        assert (blocks[:200] - image).std() == pytest.approx(0.5, rel=0.01)
        half = precision == "bfloat16"
        assert all(block.is_contiguous(memory_format=torch.channels_last) for block in seen)
        with single_threaded(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            answers = torch.cat([model.base(block).argmax(1) for block in seen])[:300]
            assert model.base(seen[0]).dtype == (torch.bfloat16 if half else torch.float32)
        assert outcome.votes.tolist() == torch.bincount(answers, minlength=10).tolist()

    def test_it_decides_the_key_of_a_run_and_float32_as_before(self) -> None:
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
        data = Dataset("x", images, torch.tensor([0, 1]), 10, torch.arange(2))
        runs = [evaluate(self.model(p), data, "L2", [0.1], n=100, store=None) for p in ("float32", "bfloat16")]
        assert [run.config["autocast"] for run in runs] == ["none", "bfloat16"]
        assert runs[0].key != runs[1].key and runs[0].config["model"] == runs[1].config["model"]
        with pytest.raises(InputError, match=r"is of gaussian\(sigma=0.5\) in bfloat16, the model of .* in float32"):
            attack_certificates(self.model("float32"), runs[1], data, n=10)

    def test_copies_keep_it(self) -> None:
        assert copy.deepcopy(self.model("bfloat16")).precision == "bfloat16"

    def test_images_without_channels(self) -> None:
        model = SmoothedClassifier(Rows(), Gaussian(SIGMA), 3, precision="bfloat16")
        assert model.predict(IMAGES.flatten(1).view(3, 1, 1, 4), n=50, alpha=0.5)[0].votes.sum() == 50

    def test_unknown(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown precision 'half'; known: float32, bfloat16, float16"):
            self.model("half")
