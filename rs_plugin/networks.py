"""Base networks and the lookup by architecture. Inputs are images in [0, 1]; normalisation lives inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import Tensor, nn

from rs_plugin.errors import ModelError, ParameterError
from rs_plugin.registry import Registry


class DigitsNet(nn.Module):
    """A small convolutional classifier of 8 by 8 grey images, made for millions of forward passes on a CPU.

    Two convolutions (4 by 4 with stride 2, then 3 by 3) take 1 x 8 x 8 to 64 x 2 x 2, two linear layers end it:
    53 000 parameters, 116 000 multiplications an image.

    Args:
        num_classes: number of scores.
    """

    #: Mean and standard deviation of the grey values of the training images, rounded.
    MEAN: Final = 0.3
    STD: Final = 0.375

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Linear(128, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, shape (batch, classes), of images of shape (batch, 1, 8, 8)."""
        scores: Tensor = self.classifier(self.features((x - self.MEAN) / self.STD))
        return scores


Architecture = Callable[[int], nn.Module]

#: From a name to what makes a freshly initialised network for a number of classes; other packages add theirs under
#: the entry-point group.
architectures: Registry[Architecture] = Registry("architecture", callable, "rs_plugin.architectures")
architectures.register("digits_net", DigitsNet)


def build_network(architecture: str, num_classes: int) -> nn.Module:
    """Return a new network; its weights are drawn from torch's global generator.

    Raises:
        UnknownNameError: no architecture has that name.
        ParameterError: fewer than two classes.
        ModelError: what is registered under the name does not make networks.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ParameterError(f"num_classes must be an integer of 2 or more, not {num_classes!r}")
    network = architectures.get(architecture)(num_classes)
    if not isinstance(network, nn.Module):
        raise ModelError(f"architecture {architecture!r} made {network!r}, which is not a torch.nn.Module")
    return network
