"""Noise whose density is a function of one norm, and its named cases: Gaussian, Laplace and [Z] Eqs. 10 to 12."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from scipy import special, stats
from torch import Tensor

from rs_plugin.distributions import sphere
from rs_plugin.distributions.base import SmoothingDistribution, check_scale
from rs_plugin.distributions.draws import (
    log_gamma_draws,
    put_extreme_,
    to_laplace_,
    to_symmetric_,
    uniform_columns,
)
from rs_plugin.distributions.laws.base import ClosedFormLaw, LogRatioLaw
from rs_plugin.distributions.laws.gaussian import GaussianLaw
from rs_plugin.distributions.laws.laplace import LaplaceLaw
from rs_plugin.distributions.laws.radial import RadialLaw
from rs_plugin.errors import ParameterError
from rs_plugin.threats import Threat

_PROVEN: dict[float, frozenset[Threat]] = {
    1.0: frozenset({"L1", "Linf"}),
    2.0: frozenset({"L1", "L2", "Linf"}),
    math.inf: frozenset({"L1", "Linf"}),
}
_THREAT_OF_NORM: dict[float, Threat] = {1.0: "L1", 2.0: "L2", math.inf: "Linf"}


#: Powers nearer to 1 than this nearly have the atoms of 1, which rounding blurs.
_NEAR_ONE = 1e-4


class NormExponential(SmoothingDistribution):
    """Density ``∝ ‖z‖^{-k} exp(-‖z‖^power / scale)`` for one norm of 1, 2 or ∞.

    ``‖z‖^power / scale ~ Gamma((d - k) / power)``, independent of the direction ``z / ‖z‖``, which is uniform on the
    norm's unit sphere (cone measure). Level sets are norm balls, so the worst shift is proven for L1 and Linf, and for
    L2 when the norm is 2.

    Args:
        norm: 1, 2 or ``math.inf``.
        power: exponent of the norm in the exponential, positive.
        k: exponent of the norm's inverse, ``0 <= k < d``.
        scale: divisor in the exponential, in input units to the ``power``.

    Raises:
        ParameterError: a parameter outside its range.

    Source: Zhang et al. (NeurIPS 2020), Section 4.1, with ``n1 = n2``.
    """

    name: ClassVar[str] = "norm_exponential"
    arg_constraints: ClassVar[dict[str, str]] = {"power": "positive", "k": "nonnegative", "scale": "positive"}

    norm: float
    power: float
    k: float
    scale: float

    def __init__(self, norm: float, power: float, k: float, scale: float) -> None:
        super().__init__(norm=norm, power=power, k=k, scale=scale)
        self._set_up(self._parameters["norm"], power, k, scale)

    def _set_up(self, norm: float, power: float, k: float, scale: float) -> None:
        if norm not in _PROVEN:
            raise ParameterError(f"norm must be 1, 2 or inf, not {norm!r}")
        check_scale(self, scale, power)
        if power != 1.0 and abs(power - 1.0) < _NEAR_ONE:
            raise ParameterError(f"power must be 1 or differ from it by {_NEAR_ONE:g} or more, not {power!r}; choose 1")
        self.norm, self.power, self.k, self.scale = float(norm), float(power), float(k), float(scale)
        self.worst_shift_rules = _PROVEN[self.norm]

    @property
    def length_scale(self) -> float:
        """``scale^{1/power}``: ``z / length_scale`` has scale 1."""
        return float(self.scale ** (1.0 / self.power))

    def radial_law(self, dim: int) -> Any:
        """Return the law of ``‖z‖`` as a frozen ``scipy.stats.gengamma``.

        Its density is ``power x^{d-k-1} exp(-x^power / scale) / (scale^{(d-k)/power} Γ((d-k)/power))``.
        """
        self.check_dim(dim)
        return stats.gengamma((dim - self.k) / self.power, self.power, scale=self.length_scale)

    def _radial_moment(self, order: float, dim: int) -> float:
        """Return ``E‖z‖^order = scale^{order/power} Γ((d-k+order)/power) / Γ((d-k)/power)``."""
        self.check_dim(dim)
        shape, step = (dim - self.k) / self.power, order / self.power
        if step in (1.0, 2.0):  # Γ(a + 1) = a Γ(a) is exact, where the difference of two large logarithms is not
            return float(shape * (shape + 1.0) ** (step - 1.0) * self.scale**step)
        log_ratio = special.gammaln(shape + step) - special.gammaln(shape)
        return float(math.exp(log_ratio) * self.length_scale**order)

    def second_moment(self, dim: int) -> float:
        """Return ``E‖z‖₂² / d``, in squared input units."""
        return self._radial_moment(2.0, dim) * sphere.second_moment(self.norm, dim)

    def mean_norm(self, threat: Threat, dim: int) -> float:
        """Return ``E‖z‖`` in the norm of ``threat``: the mean radius times the mean norm of the direction."""
        return self._radial_moment(1.0, dim) * sphere.mean_norm(self.norm, threat, dim)

    def rescaled(self, factor: float) -> SmoothingDistribution:
        """Return the law of ``factor · z``: ``scale`` times ``factor^power``."""
        return NormExponential(self.parameters["norm"], self.power, self.k, self.scale * factor**self.power)

    def log_ratio_law(self, threat: Threat, dim: int) -> LogRatioLaw | None:
        """Return the law of ``ℓ`` for the norm's own threat, and for L1 too where the norm is ∞."""
        self.check_dim(dim)
        if threat == _THREAT_OF_NORM[self.norm] or (self.norm == math.inf and threat == "L1") or dim == 1:
            return RadialLaw(self.norm, self.power, self.k, dim, threat)
        return None

    def closed_form_law(self, threat: Threat, dim: int) -> ClosedFormLaw | None:
        """Return the law of ``ℓ`` in closed form: Gaussian for L2, Laplace for L1, else None."""
        self.check_dim(dim)
        if self.k == 0 and self.power == 2 and threat == "L2" and (self.norm == 2 or dim == 1):
            return GaussianLaw()
        if self.k == 0 and self.power == 1 and threat == "L1" and (self.norm == 1 or dim == 1):
            return LaplaceLaw()
        return None

    @property
    def _is_product(self) -> bool:
        """Whether the coordinates are independent normal or Laplace draws."""
        return self.k == 0 and self.norm == self.power and self.norm != math.inf

    def _draws_normals(self, dim: int) -> bool:
        # In one dimension only the sign matters, and torch's float32 normals can be 0.
        return self.norm == 2 and (dim > 1 or self._is_product)

    def _begin(self, out: Tensor, generator: torch.Generator) -> Tensor:
        count, dim = out.shape
        choices = []
        if not self._is_product:
            choices.append(log_gamma_draws((dim - self.k) / self.power, count, generator))
        if self._draws_normals(dim):
            out.normal_(generator=generator)
        else:
            out.uniform_(generator=generator)
        if self.norm == math.inf:
            choices.append(torch.rand(count, dtype=torch.float64, device=out.device, generator=generator))
        return (
            torch.stack(choices, dim=1) if choices else torch.empty((count, 0), dtype=torch.float64, device=out.device)
        )

    def _finish(self, out: Tensor, choices: Tensor) -> None:
        if not self._draws_normals(out.shape[1]):
            to_symmetric_(out)
        if self.norm == 1:
            to_laplace_(out)
        if self._is_product:
            out.mul_(self.scale if self.norm == 1 else math.sqrt(self.scale / 2.0))
            return
        radius = (choices[:, 0] + math.log(self.scale)).div_(self.power).exp_()
        if self.norm == math.inf:
            size = radius.to(out.dtype)
            put_extreme_(out.mul_(size.view(-1, 1)), uniform_columns(choices[:, 1], out.shape[1]), size)
            return
        length = torch.linalg.vector_norm(out, ord=self.norm, dim=1)
        out.mul_((radius / length.to(torch.float64)).to(out.dtype).view(-1, 1))

    def _log_density_of_norm(self, q: Tensor) -> Tensor:
        return -self.k * torch.log(q) - q**self.power / self.scale if self.k else -(q**self.power) / self.scale

    def log_normaliser(self, dim: int) -> float:
        """Return ``log ∫ ‖z‖^{-k} exp(-‖z‖^power / scale) dz = log(d V_d scale^a Γ(a) / power)``.

        Here ``a = (d - k) / power``, and ``V_d`` is the volume of the norm's unit ball.
        """
        self.check_dim(dim)
        shape = (dim - self.k) / self.power
        log_integral = shape * math.log(self.scale) + float(special.gammaln(shape)) - math.log(self.power)
        return math.log(dim) + sphere.log_ball_volume(self.norm, dim) + log_integral

    def _log_prob(self, z: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(z, ord=self.norm, dim=1)
        return self._log_density_of_norm(norm) - self.log_normaliser(z.shape[1])

    def _log_ratio(self, z: Tensor, threat: Threat) -> Callable[[float], Tensor]:
        shifted = sphere.shifted_norm(z, self.norm, threat)
        base = self._log_density_of_norm(torch.linalg.vector_norm(z, ord=self.norm, dim=1))
        return lambda radius: self._log_density_of_norm(shifted(radius)) - base


class Gaussian(NormExponential):
    """Isotropic Gaussian noise, density ``∝ exp(-‖z‖₂² / 2σ²)``; ``sigma`` in input units.

    Source: Cohen, Rosenfeld & Kolter (ICML 2019); Zhang et al. (NeurIPS 2020), Eq. 8.
    """

    name: ClassVar[str] = "gaussian"
    arg_constraints: ClassVar[dict[str, str]] = {"sigma": "positive"}

    def __init__(self, sigma: float) -> None:
        SmoothingDistribution.__init__(self, sigma=sigma)
        self.sigma = float(sigma)
        self._set_up(2.0, 2.0, 0.0, 2.0 * self.sigma * self.sigma)

    def rescaled(self, factor: float) -> Gaussian:
        """Return the law of ``factor · z``."""
        return Gaussian(self.sigma * factor)


class Laplace(NormExponential):
    """Independent Laplace coordinates, density ``∝ exp(-‖z‖₁ / b)``; ``b`` in input units.

    Source: Teng, Lee & Yuan (2020); Zhang et al. (NeurIPS 2020), Eq. 7.
    """

    name: ClassVar[str] = "laplace"
    arg_constraints: ClassVar[dict[str, str]] = {"b": "positive"}

    def __init__(self, b: float) -> None:
        SmoothingDistribution.__init__(self, b=b)
        self.b = float(b)
        self._set_up(1.0, 1.0, 0.0, self.b)

    def rescaled(self, factor: float) -> Laplace:
        """Return the law of ``factor · z``."""
        return Laplace(self.b * factor)


class L1Exponential(NormExponential):
    """Density ``∝ ‖z‖₁^{-k} exp(-‖z‖₁ / b)``; ``b`` in input units, ``0 <= k < d``.

    Source: Zhang et al. (NeurIPS 2020), Eq. 10.
    """

    name: ClassVar[str] = "l1_exponential"
    arg_constraints: ClassVar[dict[str, str]] = {"k": "nonnegative", "b": "positive"}

    def __init__(self, k: float, b: float) -> None:
        SmoothingDistribution.__init__(self, k=k, b=b)
        self.b = float(b)
        self._set_up(1.0, 1.0, float(k), self.b)

    def rescaled(self, factor: float) -> L1Exponential:
        """Return the law of ``factor · z``."""
        return L1Exponential(self.parameters["k"], self.b * factor)


class L2Exponential(NormExponential):
    """Density ``∝ ‖z‖₂^{-k} exp(-‖z‖₂² / 2σ²)``; ``sigma`` in input units, ``0 <= k < d``.

    Source: Zhang et al. (NeurIPS 2020), Eq. 11.
    """

    name: ClassVar[str] = "l2_exponential"
    arg_constraints: ClassVar[dict[str, str]] = {"k": "nonnegative", "sigma": "positive"}

    def __init__(self, k: float, sigma: float) -> None:
        SmoothingDistribution.__init__(self, k=k, sigma=sigma)
        self.sigma = float(sigma)
        self._set_up(2.0, 2.0, float(k), 2.0 * self.sigma * self.sigma)

    def rescaled(self, factor: float) -> L2Exponential:
        """Return the law of ``factor · z``."""
        return L2Exponential(self.parameters["k"], self.sigma * factor)


class LinfExponential(NormExponential):
    """Density ``∝ ‖z‖∞^{-k} exp(-‖z‖∞² / 2σ²)``; ``sigma`` in input units, ``0 <= k < d``.

    Source: Zhang et al. (NeurIPS 2020), Eq. 12.
    """

    name: ClassVar[str] = "linf_exponential"
    arg_constraints: ClassVar[dict[str, str]] = {"k": "nonnegative", "sigma": "positive"}

    def __init__(self, k: float, sigma: float) -> None:
        SmoothingDistribution.__init__(self, k=k, sigma=sigma)
        self.sigma = float(sigma)
        self._set_up(math.inf, 2.0, float(k), 2.0 * self.sigma * self.sigma)

    def rescaled(self, factor: float) -> LinfExponential:
        """Return the law of ``factor · z``."""
        return LinfExponential(self.parameters["k"], self.sigma * factor)
