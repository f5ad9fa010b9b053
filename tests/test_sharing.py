"""Networks that keep something of a pass: threads must not mix their passes, wherever it is kept."""

from __future__ import annotations

import time
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rs_plugin.distributions import Gaussian
from rs_plugin.networks import build_network
from rs_plugin.streams import Stream
from rs_plugin.voting import Ask, DrawRange, VoteCounter
from rs_plugin.voting.sharing import copies_run_at_once, thread_copy
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


APART: dict[str, Callable[[], nn.Module]] = {
    "in itself": InItself, "cleared": Forgets, "in an object": InAnObject, "in a buffer": InABuffer,
    "rarely": Rarely, "methods as hooks": Tapped,
}  # fmt: skip
WAITING: dict[str, Callable[[], nn.Module]] = {
    "in its class": InItsClass, "in its module": InItsModule, "cannot be copied": CannotBeCopied,
    "hooks": lambda: hooked(False), "hooks that clear": lambda: hooked(True), "a forward": with_a_forward_of_its_own,
}  # fmt: skip


def counter(base: nn.Module) -> VoteCounter:
    return VoteCounter(base.eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64)


def votes(one: VoteCounter, threads: int) -> list[list[int]]:
    """Count draws of images that differ much, so that a mixed pass is seen."""
    part = [DrawRange(Stream.ESTIMATION, 0, 1280)]
    asks = [Ask(torch.full(SHAPE, (i % 2) * 1.0), i, 0, part) for i in range(8)]
    return [answer.counts[0].tolist() for answer in one.ask(asks, threads)]


@pytest.mark.parametrize("name", [*APART, *WAITING])
def test_threads_do_not_mix_their_passes(name: str) -> None:
    base = (APART | WAITING)[name]()
    one = counter(base)
    assert votes(one, 4) == votes(counter(Rows()), 1)
    assert one.manner(torch.zeros(SHAPE)).at_once == (name in APART)


@pytest.mark.parametrize("name", ["in itself", "in a buffer", "hooks", "in its module"])
def test_the_networks_are_such_that_threads_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without copies and without waiting, passes mix."""
    monkeypatch.setattr("rs_plugin.voting.counter.thread_copy", lambda network: network)
    monkeypatch.setattr("rs_plugin.voting.manner.copies_run_at_once", lambda network, images: True)
    monkeypatch.setattr("rs_plugin.voting.counter._due", lambda passes: False)
    assert votes(counter((APART | WAITING)[name]()), 4) != votes(counter(Rows()), 1)


def test_a_copy_shares_the_weights_alone() -> None:
    network = build_network("cifar_resnet20", 10).eval()
    copied = thread_copy(network)
    assert all(a is b for a, b in zip(network.parameters(), copied.parameters(), strict=True))
    for (name, a), (_, b) in zip(network.named_buffers(), copied.named_buffers(), strict=True):
        assert a.data_ptr() != b.data_ptr() and torch.equal(a, b), name
    assert not {*map(id, network.modules())} & {*map(id, copied.modules())}
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(images), copied(images))


def test_hooks_of_all_modules_wait() -> None:
    images, network = torch.rand(4, *SHAPE), Rows().eval()
    assert copies_run_at_once(network, images)
    seen: list[int] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(1))
    try:
        assert not copies_run_at_once(network, images)
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
