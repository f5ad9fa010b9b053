"""Independent generalised normal coordinates tilted by the largest of them, and MixedNorm ([Z] Eq. 13)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from rs_plugin.distributions.base import SmoothingDistribution, check_scale
from rs_plugin.distributions.draws import (
    put_extreme_,
    to_symmetric_,
    to_truncated_normal_,
    uniform_columns,
    wide_truncated_normal_,
)
from rs_plugin.distributions.laws.base import LogRatioLaw
from rs_plugin.distributions.laws.max_tilted import MaxTiltedLaw
from rs_plugin.distributions.maximum import MaximumLaw, log_normaliser, maximum_law
from rs_plugin.distributions.norm_exponential import NormExponential
from rs_plugin.numerics import Array, log_gammainc
from rs_plugin.threats import Threat


class MaxTiltedExponential(SmoothingDistribution):
    """Density ``∝ ‖z‖∞^{-k} exp(-Σ|z_i|^power / scale)``.

    Sampling is exact in O(d): ``m = ‖z‖∞`` has a one-dimensional law, one coordinate, uniformly chosen, is ``±m``, and
    the others are independent generalised normals conditioned on ``[-m, m]``. The worst shift is proven for Linf.

    Args:
        power: exponent of each coordinate, positive.
        k: exponent of the maximum's inverse, ``0 <= k < d``.
        scale: divisor in the exponential, in input units to the ``power``.

    Raises:
        ParameterError: a parameter outside its range.

    Source: Zhang et al. (NeurIPS 2020), Section 4.1, with ``n1 = ∞`` and ``n2 = p``.
    """

    name: ClassVar[str] = "max_tilted_exponential"
    arg_constraints: ClassVar[dict[str, str]] = {"power": "positive", "k": "nonnegative", "scale": "positive"}
    worst_shift_rules = frozenset[Threat]({"Linf"})

    power: float
    k: float
    scale: float

    def __init__(self, power: float, k: float, scale: float) -> None:
        super().__init__(power=power, k=k, scale=scale)
        self._set_up(power, k, scale)

    def _set_up(self, power: float, k: float, scale: float) -> None:
        check_scale(self, scale, power)
        self.power, self.k, self.scale = float(power), float(k), float(scale)

    @property
    def length_scale(self) -> float:
        """``scale^{1/power}``: ``z / length_scale`` has scale 1."""
        return float(self.scale ** (1.0 / self.power))

    def radial_law(self, dim: int) -> MaximumLaw:
        """Return the law of ``‖z‖∞ / length_scale``, by quadrature."""
        self.check_dim(dim)
        return maximum_law(self.power, self.k, dim)

    def simplified(self, dim: int) -> SmoothingDistribution:
        """Return the one-norm family with the same law where there is one: ``k = 0`` and power 1 or 2, or ``d = 1``."""
        self.check_dim(dim)
        if dim == 1:
            return NormExponential(2.0, self.power, self.k, self.scale)
        if self.k == 0 and self.power in (1.0, 2.0):
            return NormExponential(self.power, self.power, 0.0, self.scale)
        return self

    def _truncated_moment(self, order: float, log_m: Array) -> Array:
        """Return ``E|x|^order`` of one coordinate conditioned on ``[-m, m]``, for scale 1.

        ``Γ((order+1)/p) P((order+1)/p, m^p) / (Γ(1/p) P(1/p, m^p))``.
        """
        low, high = 1.0 / self.power, (order + 1.0) / self.power
        log_x = self.power * log_m
        gain = special.gammaln(high) - special.gammaln(low)
        return np.asarray(np.exp(gain + log_gammainc(high, log_x) - log_gammainc(low, log_x)))

    def _sum_of_powers(self, dim: int) -> float:
        """Return ``E Σ|z_i|^power = scale (d - k) / power``.

        The tilt is homogeneous, so the sum over ``scale`` is Gamma((d - k) / power) as under ``‖z‖^{-k}`` of any norm.
        """
        self.check_dim(dim)
        return (dim - self.k) / self.power * self.scale

    def second_moment(self, dim: int) -> float:
        """Return ``E‖z‖₂² / d = E[m² + (d-1) E(x² | |x| <= m)] / d``, in squared input units.

        At power 2 this is the mean of a gamma law, without quadrature.
        """
        if self.power == 2.0:
            return self._sum_of_powers(dim) / dim
        law = self.radial_law(dim)
        values = law.nodes**2 + (dim - 1) * self._truncated_moment(2.0, law.log_nodes)
        return law.mean(values) / dim * self.length_scale**2

    def mean_norm(self, threat: Threat, dim: int) -> float:
        """Return ``E‖z‖`` in the norm of ``threat``, in input units; for L2 with ``power = 2`` only."""
        if threat == "L1" and self.power == 1.0:
            return self._sum_of_powers(dim)
        law = self.radial_law(dim)
        if threat == "Linf":
            return law.mean(law.nodes) * self.length_scale
        if threat == "L1":
            return law.mean(law.nodes + (dim - 1) * self._truncated_moment(1.0, law.log_nodes)) * self.length_scale
        if self.power != 2.0:
            return super().mean_norm(threat, dim)
        # The tilt is homogeneous, so ‖z‖₂² / scale ~ Gamma((d - k) / 2) as if it were ‖z‖₂^{-k}.
        shape = (dim - self.k) / 2.0
        return math.exp(special.gammaln(shape + 0.5) - special.gammaln(shape)) * self.length_scale

    def rescaled(self, factor: float) -> SmoothingDistribution:
        """Return the law of ``factor · z``: ``scale`` times ``factor^power``."""
        return MaxTiltedExponential(self.power, self.k, self.scale * factor**self.power)

    def log_ratio_law(self, threat: Threat, dim: int) -> LogRatioLaw | None:
        """Return the law of ``ℓ`` for Linf at power 2 and ``d >= 2``."""
        self.check_dim(dim)
        return MaxTiltedLaw(self.k, dim) if threat == "Linf" and self.power == 2.0 and dim > 1 else None

    def _is_wide(self, out: Tensor) -> bool:
        """Whether the maximum cuts so little off a normal coordinate that few draws fall outside.

        A GPU would wait for the number of these; inversion of all draws costs it nothing.
        """
        wide = self.power == 2.0 and self.radial_law(out.shape[1]).small > 2.5 / math.sqrt(2.0)
        return wide and out.device.type == "cpu"

    def _sizes(self, uniform: Tensor, dim: int) -> Tensor:
        """Return the maxima for scale 1 at probabilities ``uniform``."""
        quantiles = self.radial_law(dim).quantile(uniform.cpu().numpy())
        return torch.from_numpy(np.atleast_1d(quantiles)).to(uniform.device)

    def _begin(self, out: Tensor, generator: torch.Generator) -> Tensor:
        count, dim = out.shape
        choices = torch.rand((count, 2), dtype=torch.float64, device=out.device, generator=generator)
        if self._is_wide(out):
            wide_truncated_normal_(out, self._sizes(choices[:, 0], dim) * math.sqrt(2.0), generator)
        else:
            out.uniform_(generator=generator)
        return choices

    def _finish(self, out: Tensor, choices: Tensor) -> None:
        dim = out.shape[1]
        size = self._sizes(choices[:, 0], dim)
        if self._is_wide(out):
            out.mul_(self.length_scale / math.sqrt(2.0))
        elif self.power == 2.0:
            to_truncated_normal_(to_symmetric_(out), size * math.sqrt(2.0), self.length_scale / math.sqrt(2.0))
        elif self.power == 1.0:
            inside = torch.expm1(-size).to(out.dtype).view(-1, 1)
            magnitude = to_symmetric_(out).abs().mul_(inside).add_(1.0).log_().mul_(-self.length_scale)
            torch.copysign(magnitude, out, out=out)
        else:
            self._invert(to_symmetric_(out), size)
        put_extreme_(out, uniform_columns(choices[:, 1], dim), (size * self.length_scale).to(out.dtype))

    def _invert(self, out: Tensor, size: Tensor) -> None:
        """Invert ``P(|x| <= a | |x| <= m) = P(1/p, a^p) / P(1/p, m^p)``; general powers have no faster way here."""
        shape = 1.0 / self.power
        bound = size.cpu().numpy()[:, None]
        inside = np.abs(out.cpu().double().numpy()) * special.gammainc(shape, bound**self.power)
        magnitude = np.minimum(special.gammaincinv(shape, inside) ** shape, bound) * self.length_scale
        torch.copysign(torch.from_numpy(magnitude).to(out), out, out=out)

    def _log_prob(self, z: Tensor) -> Tensor:
        dim = z.shape[1]
        normaliser = log_normaliser(self.power, self.k, dim) + (dim - self.k) * math.log(self.length_scale)
        return self._log_density(z.abs().amax(1), (z.abs() ** self.power).sum(1)) - normaliser

    def _log_density(self, extreme: Tensor, total: Tensor) -> Tensor:
        return -self.k * torch.log(extreme) - total / self.scale if self.k else -total / self.scale

    def _log_ratio(self, z: Tensor, threat: Threat) -> Callable[[float], Tensor]:
        high, low = z.amax(1), z.amin(1)
        base = self._log_density(z.abs().amax(1), (z.abs() ** self.power).sum(1))
        squares, total = (z * z).sum(1), z.sum(1)

        def at(radius: float) -> Tensor:
            extreme = torch.maximum((high - radius).abs(), (low - radius).abs())
            if self.power == 2.0:
                powers = squares - 2.0 * radius * total + z.shape[1] * radius * radius
            else:
                powers = ((z - radius).abs() ** self.power).sum(1)
            return self._log_density(extreme, powers) - base

        return at


class MixedNorm(MaxTiltedExponential):
    """Density ``∝ ‖z‖∞^{-k} exp(-‖z‖₂² / 2σ²)``; ``sigma`` in input units, ``0 <= k < d``.

    Source: Zhang et al. (NeurIPS 2020), Eq. 13.
    """

    name: ClassVar[str] = "mixed_norm"
    arg_constraints: ClassVar[dict[str, str]] = {"k": "nonnegative", "sigma": "positive"}

    def __init__(self, k: float, sigma: float) -> None:
        SmoothingDistribution.__init__(self, k=k, sigma=sigma)
        self.sigma = float(sigma)
        self._set_up(2.0, float(k), 2.0 * self.sigma * self.sigma)

    def rescaled(self, factor: float) -> MixedNorm:
        """Return the law of ``factor · z``."""
        return MixedNorm(self.parameters["k"], self.sigma * factor)
