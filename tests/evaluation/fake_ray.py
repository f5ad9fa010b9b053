"""A stand-in for Ray without processes: what its workers do next, and which of them die or hang, is drawn at random."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorDiedError(RayError):
    pass


class Ref:
    """The result of a call, when it is there."""

    def __init__(self) -> None:
        self.ready, self.value = False, None

    def set(self, value: Any) -> None:
        self.ready, self.value = True, value


class Actor:
    """A worker: calls are answered one after the other, when the cluster says so."""

    def __init__(self, cluster: FakeRay, made: Any) -> None:
        self.cluster, self.made = cluster, made
        self.calls: deque[tuple[str, tuple[Any, ...], Ref]] = deque()
        self.dead = self.hung = False
        self.wakes = float("inf")

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: self._call(name, given))

    def _call(self, name: str, given: tuple[Any, ...]) -> Ref:
        ref = Ref()
        if self.dead:
            ref.set(ActorDiedError("the actor is dead"))
        else:
            self.calls.append((name, tuple(pickle.loads(pickle.dumps(part)) for part in given), ref))
        return ref

    def step(self) -> None:
        name, given, ref = self.calls.popleft()
        self.cluster.log.append(name)
        try:
            ref.set(getattr(self.made, name)(*given))
        except Exception as error:
            ref.set(RayTaskError(error))

    def die(self) -> None:
        self.dead = True
        while self.calls:
            self.calls.popleft()[2].set(ActorDiedError("the actor died"))


class FakeRay:
    """The package, and a cluster of one kind of machine.

    Args:
        seed: of what happens next.
        deaths: how many actors die, before they answer a call.
        hangs: how many actors hang for good.
        naps: how many hang for a quarter of a minute, and then answer.
        early: whether actors may die before they have joined.
        cpus: room for as many actors.
    """

    def __init__(
        self, seed: int = 0, deaths: int = 0, hangs: int = 0, naps: int = 0, early: bool = False, cpus: int = 3,
        when: Callable[[str], bool] | None = None,
    ) -> None:  # fmt: skip
        self.generator = np.random.default_rng(seed)
        self.deaths, self.hangs, self.naps, self.early, self.cpus = deaths, hangs, naps, early, cpus
        self.when = when or (lambda name: self.generator.random() < 0.3)
        self.actors: list[Actor] = []
        self.log: list[str] = []
        self.seconds = 0.0
        self.running = False
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **how: Any) -> None:
        if how.get("address") == "auto":
            raise ConnectionError("there is none")
        self.running = True

    def shutdown(self) -> None:
        self.running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)}

    available_resources = cluster_resources

    def put(self, value: Any) -> Any:
        return copy.deepcopy(value)

    def remote(self, kind: type) -> Any:
        def make(*given: Any) -> Actor:
            self.actors.append(Actor(self, kind(*given)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=make))

    def kill(self, actor: Actor) -> None:
        actor.die()

    def wait(
        self, refs: list[Ref], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Ref], list[Ref]]:
        assert refs, "Ray refuses an empty list"
        self.seconds += 0.01
        if timeout:
            self._happen()
        ready = [ref for ref in refs if ref.ready]
        if timeout and not ready:
            self.seconds += timeout
        return ready[:num_returns], [ref for ref in refs if not ref.ready]

    def get(self, ref: Ref) -> Any:
        assert ref.ready
        if isinstance(ref.value, Exception):
            raise ref.value
        return pickle.loads(pickle.dumps(ref.value))

    def _happen(self) -> None:
        for actor in self.actors:
            if actor.wakes <= self.seconds:
                actor.hung, actor.wakes = False, float("inf")
        at_work = [actor for actor in self.actors if actor.calls and not actor.hung]
        if not at_work:
            return
        actor = at_work[self.generator.integers(len(at_work))]
        name = actor.calls[0][0]
        joined = name != "look"
        if self.deaths and (joined or self.early) and self.when(name):
            self.deaths -= 1
            actor.die()
        elif self.hangs and joined and self.when(name):
            self.hangs -= 1
            actor.hung = True
        elif self.naps and joined and self.when(name):
            self.naps -= 1
            actor.hung, actor.wakes = True, self.seconds + 16.0
        else:
            actor.step()
