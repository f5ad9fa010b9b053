"""Networks that keep something of a pass: threads must not mix their passes, wherever it is kept; what is followed."""

from __future__ import annotations

import operator
import time
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from rs_plugin.distributions import Gaussian
from rs_plugin.errors import ModelError
from rs_plugin.networks import build_network
from rs_plugin.streams import Stream
from rs_plugin.voting import Ask, DrawRange, VoteCounter
from rs_plugin.voting.purity import pure_graph
from tests.evaluation.toys import SHAPE, Rows

KEPT: dict[str, Tensor] = {}  # a module's own, as hooks of other people's code have it


def pause() -> None:
    """Let the other thread in."""
    time.sleep(1e-4)


class InItself(Rows):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        pause()
        return super().forward(self.kept)


class Forgets(Rows):
    """Nothing of it can be seen between passes."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        pause()
        scores = super().forward(self.kept)
        del self.kept
        return scores


class InAnObject(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.notes = types.SimpleNamespace(last=deque())

    def forward(self, x: Tensor) -> Tensor:
        self.notes.last.append(x)
        pause()
        return super().forward(self.notes.last.pop())


class InABuffer(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(64, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        self.kept.copy_(x)
        pause()
        return super().forward(self.kept)


class InItsClass(Rows):
    kept = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        InItsClass.kept = x
        pause()
        return super().forward(InItsClass.kept)


class InItsModule(Rows):
    def forward(self, x: Tensor) -> Tensor:
        KEPT["x"] = x
        pause()
        return super().forward(KEPT["x"])


class Rarely(Rows):
    """One pass in a hundred or so of those that are counted, and none of the first."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x[0].max()) > 2.2:
            self.kept = x
            pause()
            return super().forward(self.kept)
        return super().forward(x)


class InAWeight(Rows):
    """A defence that rounds its weights for the pass."""

    def forward(self, x: Tensor) -> Tensor:
        kept = self.weight.detach().clone()
        self.weight.data[0].add_(1.0)
        pause()
        scores = super().forward(x)
        self.weight.data.copy_(kept)
        return scores


class Seeded(Rows):
    """Chance, but the same at each pass: a function of its images."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        pause()
        return super().forward(x + 0.1 * torch.rand_like(x[:1]))


class Rebuilt(Rows):
    """What a copy of it answers is not what it answers."""

    def __init__(self, shift: float = 0.5) -> None:
        super().__init__()
        self.shift = shift

    def __deepcopy__(self, memo: object) -> Any:
        return Rebuilt(0.0).eval()


class CannotBeCopied(InItself):
    def __deepcopy__(self, memo: object) -> Any:
        raise TypeError("no")


def hooked(clear: bool) -> nn.Module:
    """Features that a hook stores, read by another one, and cleared if wanted: the usual way to tap a network."""
    stored: dict[str, Tensor] = {}
    base = nn.Sequential(nn.Identity(), Rows())

    def store(module: nn.Module, inputs: object, output: Tensor) -> None:
        stored["features"] = output

    def read(module: nn.Module, inputs: object) -> tuple[Tensor]:
        pause()
        return (stored.pop("features") if clear else stored["features"],)

    base[0].register_forward_hook(store)
    base[1].register_forward_pre_hook(read)
    return base


class Tapped(nn.Module):
    """The same with hooks that are methods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Identity(), Rows()
        self.first.register_forward_hook(self.store)

    def store(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.features = output

    def forward(self, x: Tensor) -> Tensor:
        self.first(x)
        pause()
        return self.last(self.features)


def with_a_forward_of_its_own() -> nn.Module:
    base, stored = Rows(), []
    plain = base.forward

    def forward(x: Tensor) -> Tensor:
        stored.append(x)
        pause()
        return plain(stored.pop())

    base.forward = forward  # type: ignore[method-assign]
    return base


AT_ONCE: dict[str, Callable[[], nn.Module]] = {
    "in itself": InItself, "cleared": Forgets, "in an object": InAnObject, "in its class": InItsClass,
    "in its module": InItsModule,
}  # fmt: skip
WAITING: dict[str, Callable[[], nn.Module]] = {
    "in a buffer": InABuffer, "in a weight": InAWeight, "rarely": Rarely, "methods as hooks": Tapped,
    "cannot be copied": CannotBeCopied, "hooks": lambda: hooked(False), "hooks that clear": lambda: hooked(True),
    "a forward": with_a_forward_of_its_own, "the state of all chance": Seeded, "another when copied": Rebuilt,
}  # fmt: skip


def counter(base: nn.Module) -> VoteCounter:
    return VoteCounter(base.eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64)


def votes(one: VoteCounter, threads: int) -> list[list[int]]:
    """Count draws of images that differ much, so that a mixed pass is seen."""
    part = [DrawRange(Stream.ESTIMATION, 0, 1280)]
    asks = [Ask(torch.full(SHAPE, (i % 2) * 1.0), i, 0, part) for i in range(8)]
    return [answer.counts[0].tolist() for answer in one.ask(asks, threads)]


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "in a weight": lambda: Heavier(), "the state of all chance": lambda: Shifted(),
}  # fmt: skip


class Heavier(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.weight.data[0].add_(1.0)


class Shifted(Rows):
    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
        return super().forward(x + 0.1 * drawn)


@pytest.mark.parametrize("name", [*AT_ONCE, *WAITING])
def test_threads_do_not_mix_their_passes(name: str) -> None:
    one = counter((AT_ONCE | WAITING)[name]())
    assert votes(one, 4) == votes(counter(PLAIN.get(name, Rows)()), 1)
    assert one.manner(torch.zeros(SHAPE)).at_once == (name in AT_ONCE)


@pytest.mark.parametrize("name", ["in itself", "in a buffer", "hooks", "in its module", "in a weight"])
def test_the_networks_are_such_that_threads_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: were the networks themselves run at the same time, passes would mix."""
    monkeypatch.setattr("rs_plugin.voting.manner.pure_graph", lambda network, images: network)
    monkeypatch.setattr("rs_plugin.voting.counter._due", lambda passes: False)
    assert votes(counter((AT_ONCE | WAITING)[name]()), 4) != votes(counter(PLAIN.get(name, Rows)()), 1)


@pytest.mark.parametrize("architecture", ["cifar_resnet20", "wide_resnet40_2"])
def test_a_graph_has_the_weights_themselves(architecture: str) -> None:
    network = build_network(architecture, 10).eval()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        graph = pure_graph(network, images)
        assert graph is not None
        of_network = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
        assert {id(tensor) for tensor in (*graph.parameters(), *graph.buffers())} <= of_network
        first = network(images)
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(0.9)
        assert not torch.equal(first, network(images))
        assert torch.equal(graph(images), network(images))


def test_votes_are_of_the_weights_and_statistics_at_the_time() -> None:
    base = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    one = counter(base)
    before = votes(one, 1)
    with torch.no_grad():
        base[1].running_mean.add_(torch.tensor([3.0, -2.0, 1.0, 0.0]))
    assert votes(one, 1) == votes(counter(base), 1) != before


def tangled(change: Callable[[nn.Module], object]) -> nn.Module:
    """A plain network, changed."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()).eval()
    change(network)
    return network


class Calls(nn.Module):
    """Applies a function to its images."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("kept", torch.zeros(1, 4))
        self.loose = torch.zeros(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x.flatten(1))[:, :3]


@fx.wrap
def opaque(x: Tensor) -> Tensor:
    """Code that torch.fx is told not to look into."""
    return x * 1.0


FOLLOWED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "writes into what it has made": lambda self, x: (x - self.kept).mul_(2.0),
    "writes into its images": lambda self, x: x.sub_(0.5),
    "adds in place": lambda self, x: operator.iadd(x * 2.0, self.kept),
    "reads a buffer": lambda self, x: torch.cat([x, self.kept.expand(2, 4)])[: x.shape[0]],
}  # fmt: skip
NOT_FOLLOWED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "writes into a buffer": lambda self, x: self.kept.mul_(0.0) + x,
    "writes into a view of it": lambda self, x: self.kept[:, : x.shape[1]].zero_() + x,
    "sets an item of it": lambda self, x: (operator.setitem(self.kept, 0, x[0]), x)[1],
    "writes with out": lambda self, x: torch.add(x, 1.0, out=self.kept.expand(x.shape)),
    "relu in place": lambda self, x: nn.functional.relu(self.kept, inplace=True) + x,
    "opaque code": lambda self, x: opaque(x),
    "writes into a tensor that is no buffer": lambda self, x: self.loose.mul_(0.0) + x,
    "code as an argument": lambda self, x: x.clone().apply_(abs),
    "branches": lambda self, x: x if float(x.sum()) > -1e9 else -x,
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOLLOWED, *NOT_FOLLOWED])
def test_what_writes_into_the_networks_memory_is_not_pure(name: str) -> None:
    network = Calls((FOLLOWED | NOT_FOLLOWED)[name]).eval()
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (pure_graph(network, images) is not None) == (name in FOLLOWED)


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.train(),
        lambda network: network[1].register_forward_hook(lambda *_: None),
        lambda network: network[1].register_forward_pre_hook(lambda *_: None),
        lambda network: setattr(network[2], "forward", lambda x: x * 2.0),
        lambda network: setattr(network[2], "helper", lambda x: x),
        lambda network: network[1].compile(),
        lambda network: nn.utils.parametrizations.weight_norm(network[1]),
    ],
)
def test_modules_that_are_not_as_torch_made_them_are_not_pure(change: Callable[[nn.Module], object]) -> None:
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert pure_graph(tangled(lambda network: None), images) is not None
        assert pure_graph(tangled(change), images) is None


def test_a_graph_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the two blocks that it is compared on not enough, a check in mid-run compares it again."""
    other = Rows(seed=1).eval()
    monkeypatch.setattr("rs_plugin.voting.manner.pure_graph", lambda network, images: other)
    with pytest.raises(ModelError, match="answers otherwise than the graph"):
        votes(counter(Rows()), 2)


def test_hooks_of_all_modules_wait() -> None:
    images, network = torch.rand(4, *SHAPE), Rows().eval()
    assert pure_graph(network, images) is not None
    seen: list[int] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(1))
    try:
        assert pure_graph(network, images) is None
    finally:
        handle.remove()


class Torn(Rows):
    """What it keeps is read after code that no compiler follows."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        if float(x.sum()) > 1e9:
            return x.flatten(1)[:, :3]
        return super().forward(self.kept)


class WritesABuffer(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(64, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        self.kept.copy_(x)
        return super().forward(self.kept)


@pytest.mark.parametrize(("base", "at_once"), [(Rows, True), (Torn, False), (WritesABuffer, False)])
def test_what_is_compiled_of_several_graphs_or_keeps_something_waits(base: type[nn.Module], at_once: bool) -> None:
    one = VoteCounter(base().eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64, compiled=True)
    assert one.manner(torch.zeros(SHAPE)).at_once == at_once
    assert votes(one, 4) == votes(counter(Rows()), 1)
