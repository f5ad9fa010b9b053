"""Networks that keep something of a pass: threads must not mix their passes, wherever it is kept."""

from __future__ import annotations

import time
import types
from collections import deque
from collections.abc import Callable
from functools import partial, wraps
from threading import Thread, current_thread, main_thread

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torchvision import transforms as v1
from torchvision.transforms import v2

import rs_plugin as rs
from rs_plugin.distributions import Gaussian
from rs_plugin.networks import build_network
from rs_plugin.streams import Stream
from rs_plugin.voting import Ask, DrawRange, VoteCounter
from rs_plugin.voting.sharing import threads_may_share
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


class InADefault(Rows):
    def forward(self, x: Tensor, kept: list[Tensor] = []) -> Tensor:  # noqa: B006
        kept.append(x)
        pause()
        return super().forward(kept.pop(0))


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


KEEPERS: dict[str, Callable[[], nn.Module]] = {
    "in itself": InItself, "cleared": Forgets, "in an object": InAnObject, "in its class": InItsClass,
    "in its module": InItsModule, "in a buffer": InABuffer, "in a weight": InAWeight, "rarely": Rarely,
    "methods as hooks": Tapped, "hooks": lambda: hooked(False), "hooks that clear": lambda: hooked(True),
    "a forward": with_a_forward_of_its_own, "the state of all chance": Seeded, "a default": InADefault,
}  # fmt: skip


def counter(base: nn.Module) -> VoteCounter:
    return VoteCounter(base.eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64)


def votes(one: VoteCounter, threads: int) -> list[list[int]]:
    """Count draws of images that differ much, so that a mixed pass is seen."""
    part = [DrawRange(Stream.ESTIMATION, 0, 1280)]
    asks = [Ask(torch.full(SHAPE, (i % 2) * 1.0), i, 0, part) for i in range(8)]
    return [answer.counts[0].tolist() for answer in one.ask(asks, threads)]


class Heavier(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.weight.data[0].add_(1.0)


class Shifted(Rows):
    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
        return super().forward(x + 0.1 * drawn)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "in a weight": Heavier, "the state of all chance": Shifted,
}  # fmt: skip


@pytest.mark.parametrize("name", KEEPERS)
def test_threads_do_not_mix_their_passes(name: str) -> None:
    assert votes(counter(KEEPERS[name]()), 4) == votes(counter(PLAIN.get(name, Rows)()), 1)


@pytest.mark.parametrize("name", ["in itself", "in a buffer", "hooks", "in its module", "in a weight", "a default"])
def test_the_networks_are_such_that_threads_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: were the networks run at the same time, passes would mix."""
    monkeypatch.setattr("rs_plugin.voting.counter.threads_may_share", lambda network: True)
    monkeypatch.setattr("rs_plugin.voting.counter._due", lambda passes: False)
    assert votes(counter(KEEPERS[name]()), 4) != votes(counter(PLAIN.get(name, Rows)()), 1)


def test_counters_of_one_network_wait_for_each_other() -> None:
    base = InItself().eval()
    expected, found = votes(counter(Rows()), 1), []
    threads = [Thread(target=lambda: found.append(votes(counter(base), 1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def vision(name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=10)


KNOWN: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(vision, name) for name in ("resnet18", "vit_b_32", "swin_t", "convnext_tiny")},
    **{name: partial(build_network, name, 10) for name in ("cifar_resnet20", "wide_resnet40_2")},
    "digits": lambda: rs.load_base("digits_gaussian_0.25"),
    "cifar": lambda: rs.load_base("cifar10_jpeg_gaussian_0.25"),
    "sequence": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True)),
    "attention": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, activation=nn.functional.gelu), 2, enable_nested_tensor=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_networks_of_known_code_are_run_at_once(name: str) -> None:
    assert threads_may_share(KNOWN[name]().eval())


class Own(nn.ReLU):
    """No module of torch's, whatever it is called."""


class Heir(Rows):
    """A promise is not inherited: this one's forward is its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Promised(Heir):
    pure_forward = True


class Called(nn.Linear):
    pure_forward = True

    def __call__(self, *args: Tensor) -> Tensor:
        return super().__call__(*args)


class OfItsOwn(Tensor):
    """Operators of such a tensor may be anybody's code."""


def weighed(network: nn.Sequential) -> None:
    network[1].weight = nn.Parameter(network[1].weight.detach().as_subclass(OfItsOwn))


def buffered(network: nn.Sequential) -> None:
    network[1].register_buffer("mine", torch.zeros(1).as_subclass(OfItsOwn))


def wrapped(network: nn.Sequential) -> None:
    """What wraps says of a function is a copy; only its code is its own."""
    plain = network[1].forward

    @wraps(plain)
    def forward(x: Tensor) -> Tensor:
        return plain(x)

    network[1].forward = forward


class Act(torch.autograd.Function):
    """Its ``apply`` is a builtin."""


@torch.library.custom_op("rs_plugin_tests::act", mutates_args=())
def act(x: Tensor) -> Tensor:
    return x.clamp_min(0.0)


def forward_of(network: nn.Sequential, forward: Callable[..., Tensor]) -> None:
    network[2].forward = forward


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "a wrapped forward": wrapped,
    "an own function behind torch's class": lambda network: forward_of(network, Act.apply),
    "an own operator": lambda network: forward_of(network, act),
    "an own operator by its name": lambda network: forward_of(network, torch.ops.rs_plugin_tests.act),
    "an own function given to torch's": lambda network: forward_of(network, partial(checkpoint, lambda x: x)),
    "a module given to torch's": lambda network: forward_of(network, partial(functional_call, Rows())),
    "a forward of another module": lambda network: forward_of(network, nn.Sequential(Own()).forward),
    "a compiled function": lambda network: forward_of(network, torch.compile(lambda x: x)),
    "a compiled method": lambda network: forward_of(network, torch.compile(Own().forward)),
    "a method of a list": lambda network: setattr(network[2], "helper", [].append),
    "a class of one's own": lambda network: network.append(Own()),
    "a promise that is inherited": lambda network: network.append(Heir()),
    "a promise under another call": lambda network: network.append(Called(3, 3)),
    "training": lambda network: network[1].train(),
    "a forward hook": lambda network: network[1].register_forward_hook(lambda *_: None),
    "a forward pre-hook": lambda network: network[1].register_forward_pre_hook(lambda *_: None),
    "a backward hook": lambda network: network[1].register_full_backward_hook(lambda *_: None),
    "another forward": lambda network: setattr(network[2], "forward", lambda x: x * 2.0),
    "a function": lambda network: setattr(network[2], "helper", lambda x: x),
    "a part of a function": lambda network: setattr(network[2], "helper", partial(lambda x: x)),
    "compiled": lambda network: network[1].compile(),
    "weight norm": lambda network: nn.utils.parametrizations.weight_norm(network[1]),
    "an embedding that shrinks": lambda network: network.append(nn.Embedding(3, 3, max_norm=1.0)),
    "a weight of its own kind": weighed,
    "a buffer of its own kind": buffered,
    "a graph": lambda network: network.append(fx.symbolic_trace(nn.Linear(3, 3)).eval()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_is_not_known_waits(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()).eval()
    assert threads_may_share(network)
    CHANGES[name](network)
    if name != "training":
        network.eval()
    assert not threads_may_share(network)


def test_a_promise_is_taken() -> None:
    assert threads_may_share(nn.Sequential(nn.Flatten(), Promised()).eval())


class Helped(Rows):
    """It was made with a function, and its promise speaks of that too."""

    pure_forward = True

    def __init__(self) -> None:
        super().__init__()
        self.helper = lambda x: x


def test_a_promise_covers_what_a_network_was_made_with() -> None:
    network = Helped().eval()
    assert threads_may_share(network)
    network.forward = lambda x: x
    assert not threads_may_share(network)


@pytest.mark.parametrize("transforms", [v1, v2])
def test_normalisation_of_torchvisions_is_known(transforms: types.ModuleType) -> None:
    network = nn.Sequential(transforms.Normalize([0.5], [0.5]), nn.Conv2d(1, 3, 2), nn.Flatten()).eval()
    assert threads_may_share(network)


def test_transforms_of_chance_are_not() -> None:
    assert not threads_may_share(nn.Sequential(torchvision.transforms.RandomCrop(2), nn.Flatten()).eval())


PLACES: dict[str, tuple[object, str]] = {
    "a forward": (nn.Linear, "forward"),
    "another method": (nn.Conv2d, "_conv_forward"),
    "a method of a class below": (nn.modules.conv._ConvNd, "extra_repr"),
    "every call": (nn.Module, "__call__"),
    "a function of torch": (torch, "relu"),
    "a functional": (nn.functional, "linear"),
    "a method of tensors": (Tensor, "add"),
    "a name of its module": (nn.modules.conv, "_single"),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("how", ["a function", "wraps", "an object"])
def test_code_of_torchs_that_was_replaced_waits(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 3)).eval()
    assert threads_may_share(network)
    place, attribute = PLACES[name]
    plain = getattr(place, attribute)

    def changed(*args: object, **kwargs: object) -> object:
        return plain(*args, **kwargs)

    class Callee:
        def __call__(self, *args: object, **kwargs: object) -> object:
            return plain(*args, **kwargs)

    new = {"a function": changed, "wraps": wraps(plain)(changed), "an object": Callee()}[how]
    monkeypatch.setattr(place, attribute, new)
    assert not threads_may_share(network)


def test_another_print_is_nobodys_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress bars and the like replace it for the whole process."""
    monkeypatch.setattr("builtins.print", lambda *_, **__: None)
    assert threads_may_share(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval())


@pytest.mark.parametrize("method", ["_forward_impl", "_make_layer"])
def test_code_of_torchvisions_that_was_replaced_waits(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = vision("resnet18").eval()
    monkeypatch.setattr(torchvision.models.ResNet, method, lambda self, x: x)
    assert not threads_may_share(network)


def test_code_of_this_packages_networks_that_was_replaced_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network("cifar_resnet20", 10).eval()
    assert threads_may_share(network)
    monkeypatch.setattr(type(network), "forward", lambda self, x: x)
    assert not threads_may_share(network)


class Doubling(TorchFunctionMode):
    def __torch_function__(self, func: object, kinds: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return func(*args, **(kwargs or {}))


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func: object, kinds: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Doubling, Watching])
def test_modes_of_the_calling_thread_keep_the_work_there(mode: type) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    with mode():
        assert not threads_may_share(network)
    assert threads_may_share(network)


class Local(Rows):
    """Reads what is the calling thread's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if current_thread() is main_thread() else -super().forward(x)


def test_what_waits_runs_on_the_thread_that_asks() -> None:
    assert votes(counter(Local()), 4) == votes(counter(Rows()), 1)


def test_networks_that_share_something_wait_for_each_other() -> None:
    expected, found = votes(counter(Rows()), 1), []
    networks = [InItsClass().eval() for _ in range(3)]
    threads = [Thread(target=lambda base=base: found.append(votes(counter(base), 1))) for base in networks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


@pytest.mark.parametrize("kind", ["hook", "pre_hook"])
def test_hooks_of_all_modules_wait(kind: str) -> None:
    network = Rows().eval()
    assert threads_may_share(network)
    handle = getattr(nn.modules.module, f"register_module_forward_{kind}")(lambda *_: None)
    try:
        assert not threads_may_share(network)
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


@pytest.mark.parametrize("base", [Rows, Torn, WritesABuffer])
def test_compiled_networks_are_counted_alike_by_any_number_of_threads(base: type[nn.Module]) -> None:
    one = VoteCounter(base().eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64, compiled=True)
    assert votes(one, 4) == votes(counter(Rows()), 1)
