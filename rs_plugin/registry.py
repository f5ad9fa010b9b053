"""One small registry for every kind of name that a user types.

A target is an object or a lazy ``"module:attribute"`` string; third parties add targets through an entry-point group.
A name of the package's own goes before one of an entry point.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Final, Generic, TypeVar

from rs_plugin.errors import ParameterError, UnknownNameError

T = TypeVar("T")

_LISTED: Final = 6  # names that a message tells


class Registry(Generic[T]):
    """Maps names to targets of one kind.

    Args:
        kind: what the names stand for, in words, for messages ("noise", "data set").
        check: returns whether a loaded target is of the right kind.
        group: entry-point group that third parties may add names under.
    """

    def __init__(self, kind: str, check: Callable[[object], bool], group: str | None = None) -> None:
        self._kind = kind
        self._check = check
        self._group = group
        self._targets: dict[str, T | str] = {}

    def register(self, name: str, target: T | str) -> None:
        """Add ``target`` under ``name``; the same target may be added again, another one may not.

        Raises:
            ParameterError: ``name`` already stands for something else, or the target is not of the registry's kind.
        """
        if not isinstance(target, str) and not self._check(target):
            raise ParameterError(f"{self._kind} {name!r} would point to {target!r}, which is not a {self._kind}")
        known = self._targets.get(name)
        if known is not None and known != target:
            raise ParameterError(f"{self._kind} name {name!r} is already taken by {known!r}; choose another name")
        self._targets[name] = target

    def names(self) -> list[str]:
        """Return all names, those of entry points included, sorted."""
        return sorted({*self._targets, *(name for name, _ in self._plugins())})

    def get(self, name: str) -> T:
        """Return the target of ``name``, importing it if it is lazy.

        Raises:
            UnknownNameError: nothing is registered under ``name``.
            ParameterError: the target cannot be imported, or is not of the registry's kind.
        """
        own = self._targets.get(name)
        load = (lambda: _resolved(own)) if own is not None else dict(self._plugins()).get(name)
        if load is None:
            raise UnknownNameError(f"unknown {self._kind} {name!r}{known_names(name, self.names())}")
        try:
            target = load()
        except (ImportError, AttributeError) as error:
            raise ParameterError(f"{self._kind} {name!r} cannot be imported: {error}") from error
        if not self._check(target):
            raise ParameterError(f"{self._kind} {name!r} points to {target!r}, which is not a {self._kind}")
        return target  # type: ignore[return-value]  # what _check has just established

    def _plugins(self) -> Iterator[tuple[str, Callable[[], object]]]:
        if self._group is not None:
            for point in entry_points(group=self._group):
                yield point.name, point.load


def known_names(name: str, names: Sequence[str]) -> str:
    """Return how a message on an unknown name goes on: the name that was meant, if one is close, and some of all.

    >>> known_names("cta", ["cat", "dog"]), known_names("x", ["cat", "dog"])
    (". Did you mean 'cat'? Known: cat, dog", '; known: cat, dog')
    """
    close = difflib.get_close_matches(str(name), names, n=1)
    head = f". Did you mean {close[0]!r}? Known" if close else "; known"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{head}: {', '.join(names[:_LISTED])}{more}"


def _resolved(target: object) -> object:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
