"""The registry: lazy targets, plug-ins, collisions and messages."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import rs_plugin.registry
from rs_plugin.errors import ParameterError, RSPluginError, UnknownNameError
from rs_plugin.registry import Registry


class Animal:
    """What the registry of these tests holds."""


class Cat(Animal):
    """One that is registered."""


class Plugged(Animal):
    """One that another package brings."""


class Point:
    """An entry point as importlib.metadata returns it."""

    def __init__(self, name: str, load: Callable[[], object]) -> None:
        self.name, self.load = name, load


def is_animal(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, Animal)


def refuse() -> object:
    raise AssertionError("a plug-in that nobody asked for was loaded")


@pytest.fixture
def animals(monkeypatch: pytest.MonkeyPatch) -> Registry[type[Animal]]:
    """A registry of a group with three plug-ins."""
    points = {"test.animals": [Point("plugged", lambda: Plugged), Point("wrong", lambda: 7), Point("heavy", refuse)]}
    monkeypatch.setattr(rs_plugin.registry, "entry_points", lambda *, group: points.get(group, []))
    registry: Registry[type[Animal]] = Registry("animal", is_animal, "test.animals")
    registry.register("cat", Cat)
    registry.register("ordered", "collections:OrderedDict")
    registry.register("lazy", f"{__name__}:Cat")
    return registry


def test_names_are_sorted_with_those_of_plugins(animals: Registry[type[Animal]]) -> None:
    assert animals.names() == ["cat", "heavy", "lazy", "ordered", "plugged", "wrong"]


def test_targets_and_plugins(animals: Registry[type[Animal]]) -> None:
    assert animals.get("cat") is Cat
    assert animals.get("plugged") is Plugged


def test_lazy_target_is_imported_when_asked_for() -> None:
    registry: Registry[type] = Registry("mapping", lambda target: isinstance(target, type))
    registry.register("ordered", "collections:OrderedDict")
    registry.register("broken", "no_such_module_at_all:Thing")
    assert registry.get("ordered").__name__ == "OrderedDict"
    with pytest.raises(ParameterError, match="mapping 'broken' cannot be imported: No module named 'no_such"):
        registry.get("broken")
    registry.register("missing", "collections:Nothing")
    with pytest.raises(ParameterError, match=r"'missing' cannot be imported: .*Nothing"):
        registry.get("missing")


def test_a_name_of_the_package_goes_before_a_plugin(animals: Registry[type[Animal]]) -> None:
    animals.register("plugged", Cat)
    assert animals.get("plugged") is Cat
    assert animals.names().count("plugged") == 1


@pytest.mark.parametrize("name", ["ordered", "wrong"])
def test_targets_of_another_kind_are_refused(animals: Registry[type[Animal]], name: str) -> None:
    with pytest.raises(ParameterError, match=f"animal '{name}' points to .*not a animal"):
        animals.get(name)


def test_registering_twice(animals: Registry[type[Animal]]) -> None:
    animals.register("cat", Cat)
    with pytest.raises(ParameterError, match=r"'cat' is already taken by .*Cat"):
        animals.register("cat", Plugged)
    assert animals.get("cat") is Cat


def test_unknown_names(animals: Registry[type[Animal]]) -> None:
    message = "unknown animal 'caat'. Did you mean 'cat'? Known: cat, heavy, lazy, ordered, plugged, wrong"
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        animals.get("caat")
    with pytest.raises(KeyError):
        animals.get("caat")
    with pytest.raises(RSPluginError) as caught:
        animals.get("zzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert not str(caught.value).startswith("'")


def test_long_lists_of_names_are_cut() -> None:
    registry: Registry[type[Animal]] = Registry("animal", is_animal)
    for number in range(9):
        registry.register(f"cat{number}", Cat)
    with pytest.raises(UnknownNameError) as caught:
        registry.get("dog")
    assert str(caught.value) == "unknown animal 'dog'; known: cat0, cat1, cat2, cat3, cat4, cat5 and 3 more"


def test_a_registry_without_a_group_asks_for_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rs_plugin.registry, "entry_points", lambda *, group: refuse())
    registry: Registry[type[Animal]] = Registry("animal", is_animal)
    assert registry.names() == []
    with pytest.raises(UnknownNameError, match="unknown animal 'cat'"):
        registry.get("cat")
