"""The contract of a smoothing distribution: what a family supplies and what every family can then do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rs_plugin.errors import InputError, ParameterError, UnsupportedThreatError
from rs_plugin.threats import THREATS, Threat

if TYPE_CHECKING:
    from rs_plugin.distributions.laws.base import ClosedFormLaw, LogRatioLaw

#: Number of values that a sampler fills at a time, so that its temporaries stay in the processor's cache.
BLOCK_VALUES = 1 << 17
_GPU_VALUES = 1 << 26  # the same on a GPU, which small fills leave idle

#: Part of every stored run's key: raised whenever the same generator state would give other draws.
SAMPLER_VERSION = 3

_CONSTRAINTS = ("positive", "nonnegative", "any")
_LEAST = 1e-4  # of an exponent other than 0: below it laws nearly have the atoms of 0, which rounding blurs
_SMALLEST, _LARGEST = 1e-300, 1e300  # scales: their multiples must be floats of full precision


class SmoothingDistribution(ABC):
    """A symmetric law ``π0`` of the noise ``z`` that is added to one input of ``d`` values.

    A family writes ``_sample`` and ``_log_prob``, lists its parameters in ``arg_constraints`` and declares in
    ``worst_shift_rules`` for which threat models the worst shift is *proven* to be the standard one:

    * ``"L1"``: ``(r, 0, …, 0)``. Holds if ``π0`` is invariant under signed permutations of the coordinates and its
      level sets are convex.
    * ``"L2"``: ``(r, 0, …, 0)``. Holds if ``π0`` is a decreasing function of ``‖z‖₂``.
    * ``"Linf"``: ``(r, …, r)``. Holds if ``π0`` depends on ``(|z₁|, …, |z_d|)`` only and does not increase in any.

    A rule that is declared and does not hold makes certificates wrong. With the rules alone the Monte-Carlo
    certificates work; a family that knows the law of its log likelihood ratio returns it from ``log_ratio_law`` and
    gets exact ones.

    Source: Zhang et al. (NeurIPS 2020), Theorems 1 to 3.
    """

    #: Snake-case name, as ``parse_noise`` and the command line spell it.
    name: ClassVar[str]
    #: Parameter name to ``"positive"``, ``"nonnegative"`` or ``"any"``, in the order of the constructor's arguments.
    arg_constraints: ClassVar[dict[str, str]] = {}
    #: Threat models whose worst shift is proven, see above.
    worst_shift_rules: frozenset[Threat] = frozenset()

    def __init_subclass__(cls, **arguments: object) -> None:
        super().__init_subclass__(**arguments)
        changed = _provider(cls, ("_sample", "_begin", "_finish", "_log_prob"))
        proven = _provider(cls, ("log_ratio_law", "closed_form_law", "simplified", "worst_shift_rules"))
        if proven is not SmoothingDistribution and changed is not proven and issubclass(changed, proven):
            raise ParameterError(
                f"{cls.__name__} draws or weighs its noise in a way of its own, but takes over what is proven for "
                f"{proven.__name__}; derive it from SmoothingDistribution and declare what holds for it"
            )

    def __init__(self, **parameters: float) -> None:
        kind = type(self)
        if not isinstance(getattr(kind, "name", None), str):
            raise ParameterError(f"{kind.__name__} has no name; set name = '...', as parse_noise is to spell it")
        _check_known(kind, "arg_constraints", kind.arg_constraints.values(), _CONSTRAINTS)
        if isinstance(rules := kind.worst_shift_rules, frozenset | set | list | tuple):
            _check_known(kind, "worst_shift_rules", rules, THREATS)
        self._parameters = {key: _checked(key, value, self.arg_constraints) for key, value in parameters.items()}

    # What a family writes -----------------------------------------------------------------------------------------

    def _sample(self, out: Tensor, generator: torch.Generator) -> None:
        """Fill ``out``, of shape (count, d), float32 or float64, with independent draws, one per row."""
        if type(self)._begin is SmoothingDistribution._begin:
            raise ParameterError(f"{type(self).__name__} writes no _sample, so that it has no draws; define it")
        self._finish(out, self._begin(out, generator))

    def _begin(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Make all random choices of ``_sample``: some in ``out``, others returned, float64 of shape (count, numbers).

        A family that writes ``_begin`` and ``_finish`` instead of ``_sample`` has the second step done for many chunks
        of draws at once, which matters where a network is small.
        """
        self._sample(out, generator)
        return torch.empty((out.shape[0], 0), dtype=torch.float64, device=out.device)

    def _finish(self, out: Tensor, choices: Tensor) -> None:  # noqa: B027  # nothing to do after a whole _sample
        """Turn what ``_begin`` left into draws, each row by itself and without randomness."""

    @abstractmethod
    def _log_prob(self, z: Tensor) -> Tensor:
        """Return ``log π0`` of each row of ``z``, of shape (count, d) and float64, as shape (count,)."""

    def log_ratio_law(self, threat: Threat, dim: int) -> LogRatioLaw | None:
        """Return the law of ``ℓ`` at the worst shift for noise of ``length_scale`` 1, or None if it is not known."""
        return None

    def closed_form_law(self, threat: Threat, dim: int) -> ClosedFormLaw | None:
        """Return the law of ``ℓ`` where certificates have a closed form, for ``length_scale`` 1, or None."""
        return None

    def simplified(self, dim: int) -> SmoothingDistribution:
        """Return a member of a simpler family with the same law in ``dim`` dimensions, or the distribution itself."""
        return self

    def _log_ratio(self, z: Tensor, threat: Threat) -> Callable[[float], Tensor]:
        """Return the function ``r ↦ ℓ(z)`` at the worst shift of size ``r``; a family may do it from fewer numbers."""
        base = self._log_prob(z)

        def at(radius: float) -> Tensor:
            shift = worst_shift(threat, radius, z.shape[1]).to(z)
            return self._log_prob(z - shift) - base

        return at

    # What every family has ----------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, float]:
        """The constructor's arguments by name."""
        return dict(self._parameters)

    @property
    def length_scale(self) -> float:
        """The length ``c`` such that ``z / c`` has a law free of scale; radii of certificates are multiples of it."""
        return 1.0

    def check_dim(self, dim: int) -> None:
        """Raise ParameterError unless the family exists in ``dim`` dimensions (``0 ≤ k < d``)."""
        if not math.isfinite(dim) or dim != int(dim) or dim < 1:
            raise ParameterError(f"dim must be a positive integer, not {dim!r}")
        k = self._parameters.get("k", 0)
        if k >= dim:
            raise ParameterError(
                f"k = {k:g} is not below the input's dimension d = {dim}: the density of {self} is not integrable "
                f"there; choose 0 <= k < {dim}"
            )

    def sample(
        self,
        shape: Sequence[int],
        *,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return independent draws of the noise.

        Args:
            shape: (count, …): the first axis counts independent draws, the rest is one event of ``d`` values.
            generator: source of all randomness; its device is where the draws are made.
            dtype: floating type of the result, torch's default type if None. Half types are drawn in float32.
            device: device of the result, the generator's if None.

        Raises:
            ParameterError: the shape has fewer than two axes, ``k >= d``, or a type that is not floating.
        """
        shape = tuple(int(size) for size in shape)
        if len(shape) < 2 or min(shape[1:]) < 1 or shape[0] < 0:
            raise ParameterError(f"shape must be (count, *event) with a non-empty event, not {shape}")
        if not isinstance(generator, torch.Generator):
            raise ParameterError(f"generator must be a torch.Generator, not {generator!r}")
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if not dtype.is_floating_point:
            raise ParameterError(f"dtype must be a floating type, not {dtype}")
        dim = math.prod(shape[1:])
        self.check_dim(dim)
        drawn = torch.float64 if dtype == torch.float64 else torch.float32
        out = torch.empty((shape[0], dim), dtype=drawn, device=generator.device)
        self.fill(out, generator)
        return out.to(dtype=dtype, device=device if device is not None else out.device).view(shape)

    def fill(self, out: Tensor, generator: torch.Generator) -> None:
        """Fill ``out``, of shape (count, d), float32 or float64, of the generator's device; ``sample`` unchecked."""
        rows = _block_of(out)
        for start in range(0, out.shape[0], rows):
            self._sample(out[start : start + rows], generator)

    def fill_chunks(self, out: Tensor, seeds: Sequence[int], generator: torch.Generator) -> None:
        """Fill ``out`` with equal chunks of rows, each from the generator at one of ``seeds``, as ``fill`` would."""
        chunks = out.view(len(seeds), -1, out.shape[1])
        rows = _block_of(out)
        choices: list[Tensor] = []
        for chunk, seed in zip(chunks, seeds, strict=True):
            generator.manual_seed(seed)
            choices.extend(self._begin(block, generator) for block in chunk.split(rows))
        numbers = torch.cat(choices)
        for start in range(0, out.shape[0], rows):
            self._finish(out[start : start + rows], numbers[start : start + rows])

    def log_prob(self, z: Tensor) -> Tensor:
        """Return ``log π0(z)`` in float64, shape (count,), for ``z`` of shape (count, …)."""
        if z.ndim < 2:
            raise InputError(f"z must have shape (count, *event), not {tuple(z.shape)}")
        flat = z.reshape(z.shape[0], -1).to(torch.float64)
        self.check_dim(flat.shape[1])
        return self._log_prob(flat)

    def log_ratio(self, z: Tensor, threat: Threat) -> Callable[[float], Tensor]:
        """Return ``r ↦ ℓ(z) = log π0(z - δ) - log π0(z)`` at the worst shift ``δ`` of size ``r``.

        Args:
            z: draws of shape (count, d), float64.
            threat: a threat model in ``worst_shift_rules``.

        Raises:
            UnsupportedThreatError: the worst shift of this family is not proven for ``threat``.
        """
        if threat not in self.worst_shift_rules:
            raise UnsupportedThreatError(f"{self} declares no worst shift for {threat}")
        return self._log_ratio(z, threat)

    def second_moment(self, dim: int) -> float:
        """Return ``E‖z‖₂² / d``, the mean square of one coordinate, in squared input units."""
        raise ParameterError(f"{self} states no second moment; define second_moment(dim) in {type(self).__name__}")

    def mean_norm(self, threat: Threat, dim: int) -> float:
        """Return ``E‖z‖`` in the norm of ``threat``, in input units."""
        raise ParameterError(f"{self} states no mean norm; define mean_norm(threat, dim) in {type(self).__name__}")

    def rescaled(self, factor: float) -> SmoothingDistribution:
        """Return the law of ``factor · z``, in the same family."""
        raise ParameterError(f"{self} states no scale; define rescaled(factor) in {type(self).__name__}")

    def with_second_moment(self, value: float, dim: int) -> SmoothingDistribution:
        """Return the same family re-scaled so that ``second_moment(dim)`` is ``value``."""
        if not (value > 0 and math.isfinite(value)):
            raise ParameterError(f"the second moment must be positive and finite, not {value!r}")
        return self.rescaled(math.sqrt(value / self.second_moment(dim)))

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={_number(value)}" for key, value in self._parameters.items())
        return f"{self.name}({arguments})"

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={_number(value)}" for key, value in self._parameters.items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and self._parameters == other._parameters

    def __hash__(self) -> int:
        return hash((type(self), tuple(self._parameters.items())))


def _block_of(out: Tensor) -> int:
    """Return how many rows are made at a time: what a processor's cache holds, or what fills a GPU."""
    values = BLOCK_VALUES if out.device.type == "cpu" else _GPU_VALUES
    return max(1, values // out.shape[1])


def worst_shift(threat: Threat, radius: float, dim: int) -> Tensor:
    """Return the standard worst shift of size ``radius``: ``(r, …, r)`` for Linf, ``(r, 0, …, 0)`` otherwise."""
    if threat == "Linf":
        return torch.full((dim,), float(radius), dtype=torch.float64)
    shift = torch.zeros(dim, dtype=torch.float64)
    shift[0] = radius
    return shift


def _check_known(kind: type, attribute: str, values: Iterable[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(values) - set(known)):
        raise ParameterError(f"{kind.__name__}.{attribute} has {unknown[0]!r}; known: {', '.join(known)}")


def _provider(cls: type, names: Sequence[str]) -> type:
    """Return the most derived class that defines one of the attributes."""
    return next(base for base in cls.__mro__ if any(name in vars(base) for name in names))


def check_scale(noise: SmoothingDistribution, scale: float, power: float) -> None:
    """Raise ParameterError unless ``scale``, ``scale^{1/power}`` and multiples of them are floats of full precision."""
    try:
        length = float(scale) ** (1.0 / power)
    except OverflowError:
        length = math.inf
    if not (_SMALLEST <= scale <= _LARGEST and _SMALLEST <= length <= _LARGEST):
        raise ParameterError(f"the scale of {noise} leaves the range of a float; choose one nearer 1")


def _number(value: float) -> str:
    return repr(int(value)) if isinstance(value, int) else repr(float(value))


def _checked(name: str, value: float, constraints: dict[str, str]) -> float:
    if isinstance(value, str):
        raise ParameterError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ParameterError(f"{name} must be a number in the range of a float, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = number
    constraint = constraints.get(name)
    if constraint == "positive" and not (value > 0 and math.isfinite(value)):
        raise ParameterError(f"{name} must be positive and finite, not {value!r}")
    if constraint == "nonnegative" and not (value >= 0 and math.isfinite(value)):
        why = " (a negative exponent breaks the monotonicity that every certificate rests on)" if name == "k" else ""
        raise ParameterError(f"{name} must be 0 or more and finite, not {value!r}{why}")
    if constraint == "nonnegative" and 0 < value < _LEAST:
        raise ParameterError(f"{name} must be 0 or at least {_LEAST:g}, not {value!r}; choose 0")
    return value
