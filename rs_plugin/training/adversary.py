"""What the network is trained on: noisy images, or noisy images around ones that the smoothed classifier does worse at.

Salman et al. (NeurIPS 2019), "Provably robust deep learning via adversarially trained smoothed classifiers".
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from rs_plugin.distributions import SmoothingDistribution
from rs_plugin.training.recipe import TrainConfig

#: Length of a step of the ascent, over the radius over the number of steps: the edge is reached with room to turn.
_STRIDE: Final = 2.0


def noisy_batch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    noise: SmoothingDistribution,
    config: TrainConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return images under the noise, and their labels: once each, or each as often as the adversary has draws."""
    if not config.adversary:
        return images + noise.sample(images.shape, generator=generator, dtype=images.dtype), labels  # in their layout
    many = config.adversary_draws
    draws = noise.sample((many * len(images), *images.shape[1:]), generator=generator, dtype=images.dtype)
    moved = adversarial_images(model, images, labels, draws, config.adversary, config.adversary_steps)
    return torch.cat([moved] * many) + draws, labels.repeat(many)


def adversarial_images(
    model: nn.Module, images: Tensor, labels: Tensor, draws: Tensor, radius: float, steps: int
) -> Tensor:
    """Return images within an L2 ball that lower the mean probability of their labels under given draws.

    Projected gradient ascent of ``-log mean_i softmax(f(x' + z_i))_y`` over ``x'``, in steps of ``2 radius / steps``
    along the gradient of each image (Salman et al. 2019, SmoothAdv-PGD). The network is in eval mode meanwhile.

    Args:
        model: the base network ``f``.
        images: ``x``, shape (batch, channels, height, width).
        labels: ``y``, shape (batch,).
        draws: ``z``, shape (m * batch, channels, height, width): the first draw of all images, then the second.
        radius: of the ball, in input units.
        steps: of the ascent.
    """
    many = len(draws) // len(images)
    training = model.training
    model.eval()
    moved = images
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        scores = model(torch.cat([moved] * many) + draws).float()
        logs = torch.log_softmax(scores, 1).view(many, len(images), -1)
        mean = torch.logsumexp(logs, 0) - torch.log(torch.tensor(float(many)))
        (gradient,) = torch.autograd.grad(nn.functional.nll_loss(mean, labels, reduction="sum"), moved)
        change = moved.detach() + _STRIDE * radius / steps * _unit(gradient) - images
        length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = images + change * (radius / length.clamp_min(radius))
    model.train(training)
    return moved.detach()


def _unit(gradient: Tensor) -> Tensor:
    length: Tensor = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)
