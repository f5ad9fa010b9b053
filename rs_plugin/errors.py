"""The project's errors. Each is also the builtin that a caller would expect to catch."""

from __future__ import annotations


class RSPluginError(Exception):
    """Base of every error that this package raises on purpose."""


class ParameterError(RSPluginError, ValueError):
    """An argument has a value that the mathematics or the method does not allow."""


class UnknownNameError(RSPluginError, KeyError):
    """A name that a user typed is not registered."""

    def __str__(self) -> str:
        """Return the message itself; KeyError would show it in quotes."""
        return str(self.args[0]) if self.args else ""


class UnsupportedThreatError(RSPluginError, ValueError):
    """No proven rule gives a certificate for this noise and threat model."""


class InputError(RSPluginError, ValueError):
    """Images or labels have a wrong shape, type or range."""


class ModelError(RSPluginError, ValueError):
    """A base network answered with something that is not a row of class scores."""


class ChecksumError(RSPluginError, ValueError):
    """A file's content is not what its card or manifest says."""


class StoreError(RSPluginError, OSError):
    """The vote store cannot be opened, read or written."""


class WorkerError(RSPluginError, RuntimeError):
    """Workers that count votes cannot be had, do not agree, or fail again and again."""


class DependencyError(RSPluginError, ImportError):
    """An optional package is needed for what was asked."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another package says, its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def counted(number: int, thing: str) -> str:
    """Return a number of things in words.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {thing}" + ("" if number == 1 else "s")


class UndecidedRadiusWarning(UserWarning):
    """Votes were stopped before they had shown all they could of a radius that is asked for now."""


class WorkerWarning(UserWarning):
    """A worker is not used, since it differs from the others."""


class UncertifiableRadiusWarning(UserWarning):
    """No outcome of the draws that were asked for can certify a radius that was asked for.

    Attributes:
        radius: the radius, None where only the text says it.
        required: the probability that it requires.
        need: the least number of draws that could certify it, None where no practical number could.
    """

    def __init__(
        self, message: str, radius: float | None = None, required: float | None = None, need: int | None = None
    ) -> None:
        super().__init__(message)
        self.radius, self.required, self.need = radius, required, need
