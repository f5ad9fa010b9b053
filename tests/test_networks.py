"""Architectures: sizes that were published, shapes, and where the normalisation lives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from rs_plugin.errors import ParameterError
from rs_plugin.networks import CifarResNet, Normalized, build_network


@pytest.mark.parametrize(("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")])
def test_numbers_of_parameters(depth: int, millions: str) -> None:
    """He et al. (2016), Table 6, whose shortcuts have no parameters; and so it is without those of option B."""
    network = CifarResNet(depth)
    shortcuts = sum(p.numel() for name, p in network.named_parameters() if "downsample" in name)
    # Two shortcuts, 16 to 32 and 32 to 64 channels, each with scale and shift.
    assert shortcuts == 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
    total = sum(p.numel() for p in network.parameters()) - shortcuts
    half_a_unit = 0.5 * 10.0 ** -len(millions.partition(".")[2])
    assert total / 1e6 == pytest.approx(float(millions), abs=half_a_unit)


@pytest.mark.parametrize("depth", [20, 110])
def test_layers_of_weights(depth: int) -> None:
    network = CifarResNet(depth)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    assert sum("downsample" not in name for name in names) + 1 == depth  # the last layer is linear


def functional(state: dict[str, Tensor], x: Tensor, depth: int) -> Tensor:
    """The network written out with functions, from the description in the paper."""

    def norm(name: str, y: Tensor) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (state[f"{name}.{part}"].view(-1, 1, 1) for part in names)
        return (y - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    x = f.relu(norm("bn1", f.conv2d(x, state["conv1.weight"], padding=1)))
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = f.relu(norm(f"{name}.bn1", f.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)))
            y = norm(f"{name}.bn2", f.conv2d(y, state[f"{name}.conv2.weight"], padding=1))
            if f"{name}.downsample.0.weight" in state:
                shortcut = f.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(f"{name}.downsample.1", shortcut)
            x = f.relu(x + y)
    assert x.shape[1:] == (64, 8, 8)
    return x.flatten(2).mean(2) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("depth", [8, 20])
def test_forward_against_functions(depth: int) -> None:
    generator = torch.Generator().manual_seed(1)
    network = CifarResNet(depth, 7).double().eval()
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) * 0.2 + 0.1)
        x = torch.randn((2, 3, 32, 32), generator=generator, dtype=torch.float64)
        got, expected = network(x), functional(network.state_dict(), x, depth)
    assert got.shape == (2, 7)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)  # sums of some thousand terms


@pytest.mark.parametrize("depth", [3, 19, 2, 111])
def test_depths_that_are_none(depth: int) -> None:
    with pytest.raises(ParameterError, match=rf"depth must be 6 n \+ 2, as in 20, 56 or 110, not {depth}"):
        CifarResNet(depth)


def test_normalisation_is_inside() -> None:
    network = build_network("cifar_resnet20", 10)
    assert isinstance(network, Normalized)
    plain = Normalized(nn.Identity(), (0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    x = torch.ones(1, 3, 2, 2)
    assert plain(x)[0, :, 0, 0].tolist() == [1.0, 3.0, 0.5]
    assert set(network.state_dict()) >= {"mean", "std", "network.layer3.2.bn2.weight"}
