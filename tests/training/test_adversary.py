"""Adversarial training: the adversary against linear classifiers, whose worst point is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rs_plugin import load_base, load_dataset
from rs_plugin.distributions import Gaussian
from rs_plugin.errors import ModelError, ParameterError, RSPluginError
from rs_plugin.training import TrainConfig, command_line, default_name, train
from rs_plugin.training.adversary import adversarial_images, noisy_batch

SHAPE = (1, 3, 4)


class Linear(nn.Module):
    """Two classes, told apart by the sign of ``<w, x> - b``."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight - 0.3
        return torch.stack([-score, score], 1)


def images(count: int = 5) -> Tensor:
    return torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_worst_point_of_a_linear_classifier_is_found(steps: int, draws: int) -> None:
    """Whatever the draws, the mean probability falls fastest along the normal."""
    model, x, labels, radius = Linear(), images(), torch.tensor([0, 1, 1, 0, 1]), 0.4
    noise = 0.2 * torch.randn((draws * 5, *SHAPE), generator=torch.Generator().manual_seed(2))
    moved = adversarial_images(model, x, labels, noise, radius, steps)
    normal = model.weight.detach() / model.weight.detach().norm()
    expected = x + radius * (1.0 - 2.0 * labels).view(-1, 1, 1, 1) * normal.view(1, *SHAPE)
    torch.testing.assert_close(moved, expected, rtol=0.0, atol=1e-5)  # float32, five steps


def test_moved_images_stay_in_their_balls_and_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, labels = images(20), torch.arange(20) % 2
    moved = adversarial_images(model, x, labels, torch.randn(40, *SHAPE), 0.3, 4)
    # Twelve pixels of about 1 are rounded to 6e-8 each: 2e-7 in all, 1e-6 of the radius.
    assert (moved - x).flatten(1).norm(dim=1).max() <= 0.3 * (1 + 1e-6)
    assert model.training and not moved.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_gradient_moves_nothing() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * x.flatten(1)[:, :2]

    x = images()
    assert torch.equal(adversarial_images(Constant(), x, torch.zeros(5, dtype=torch.int64), 0 * x, 0.3, 2), x)


def test_batches_are_noisy_copies_around_the_moved_images() -> None:
    config = TrainConfig(adversary=0.4, adversary_draws=3)
    model, x, labels, noise = Linear(), images(), torch.tensor([0, 1, 1, 0, 1]), Gaussian(0.2)
    batch, repeated = noisy_batch(model, x, labels, noise, config, torch.Generator().manual_seed(4))
    assert batch.shape == (15, *SHAPE) and repeated.tolist() == labels.tolist() * 3
    draws = noise.sample((15, *SHAPE), generator=torch.Generator().manual_seed(4))
    moved = (batch - draws).view(3, 5, *SHAPE)
    torch.testing.assert_close((moved[0] - x).flatten(1).norm(dim=1), torch.full((5,), 0.4))
    torch.testing.assert_close(moved[0], moved[2])
    plain, once = noisy_batch(model, x, labels, noise, TrainConfig(), torch.Generator().manual_seed(4))
    torch.testing.assert_close(plain - x, noise.sample(x.shape, generator=torch.Generator().manual_seed(4)))
    assert once is labels


def test_fine_tuning_begins_with_the_weights_it_names(tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, start="digits_gaussian_0.25", lr=1e-30, weight_decay=0.0)
    tuned = train(config).model.state_dict()
    for name, value in load_base("digits_gaussian_0.25").state_dict().items():
        assert torch.equal(tuned[name], value), name  # a rate of 1e-30 is below the last bit of any weight
    with pytest.raises(ModelError, match="is a digits_net, not a cifar_resnet20"):
        train(dataclasses.replace(config, dataset="digits", architecture="cifar_resnet20"))
    with pytest.raises(RSPluginError, match="unknown"):
        train(dataclasses.replace(config, start="no_such_model"))


def test_fine_tuning_is_gentle_by_default() -> None:
    """The rate that freshly drawn weights take undoes much of what was learnt: here the loss is 1.4 times as high."""
    assert (TrainConfig().lr, TrainConfig(start="digits_gaussian_0.25").lr) == (3e-3, 3e-4)
    assert TrainConfig(start="digits_gaussian_0.25", lr=0.05).lr == 0.05
    cards = [train(TrainConfig(epochs=10, start="digits_gaussian_0.25", lr=lr)).card for lr in (3e-4, 3e-3)]
    gentle, rough = (sum(card.losses.values()) for card in cards)
    assert gentle < 0.9 * rough


def test_a_model_of_other_classes_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_dataset("digits_train")
    few = dataclasses.replace(whole, labels=whole.labels % 3, num_classes=3)
    monkeypatch.setattr("rs_plugin.training.fit.load_dataset", lambda name: few)
    with pytest.raises(ModelError, match=r"start = .* has 10 classes, 'digits' 3; begin with a model of as many"):
        train(TrainConfig(epochs=1, start="digits_gaussian_0.25"))


def test_adversarial_training_helps_against_its_adversary() -> None:
    """From the same weights, as many steps with and without: accuracy at moved images, on a surrogate of 20 draws.

    Twenty epochs move it by 6 points; the standard error of one accuracy on 360 images is below 2.6.
    """
    data, noise = load_dataset("digits"), Gaussian(0.25)
    radius, shares = 0.75, []
    for adversary in (0.0, radius):
        config = TrainConfig(epochs=20, start="digits_gaussian_0.25", lr=1e-3, adversary=adversary, augmentation="none")
        model = train(config).model
        generator = torch.Generator().manual_seed(0)
        draws = noise.sample((20 * len(data), *data.image_shape), generator=generator)
        moved = adversarial_images(model, data.images, data.labels, draws, radius, 10)
        fresh = noise.sample((20 * len(data), *data.image_shape), generator=generator)
        with torch.inference_mode():
            right = model(moved.repeat(20, 1, 1, 1) + fresh).argmax(1) == data.labels.repeat(20)
        shares.append(float(right.double().mean()))
    assert shares[1] > shares[0] + 0.03, shares


def test_names_commands_and_refusals() -> None:
    config = TrainConfig(start="digits_gaussian_0.25", adversary=0.5)
    assert default_name(config) == "digits_gaussian_0.25_adv"
    assert "--start digits_gaussian_0.25 --adversary 0.5 --seed 0" in command_line(config, "x")
    assert "--start" not in command_line(TrainConfig(), "x") and "--adversary" not in command_line(TrainConfig(), "x")
    assert default_name(TrainConfig(start="digits_gaussian_0.25")) == "digits_gaussian_0.25_tuned"
    for name in ("adversary_steps", "adversary_draws"):
        assert getattr(TrainConfig(adversary=0.1, **{name: 3}), name) == 3  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match=f"{name} = 3 needs adversary, the radius, which is 0"):
            TrainConfig(**{name: 3})  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="adversary must be 0 or more and finite, not -1"):
        TrainConfig(adversary=-1)
    with pytest.raises(ParameterError, match="adversary_steps must be an integer of 1 or more, not 0"):
        TrainConfig(adversary_steps=0)
