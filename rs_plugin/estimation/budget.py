"""How the failure probability of one image's certificate is shared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from rs_plugin.errors import ParameterError
from rs_plugin.estimation.arguments import check_alpha, check_number

#: What a Monte-Carlo certificate gets unless told: its draws are cheap, no network is evaluated on them.
CERTIFICATE_SHARE: Final = 0.1


@dataclass(frozen=True)
class AlphaBudget:
    """Total failure probability of an image, split between its votes and a Monte-Carlo certificate.

    An image's certificate is wrong only if the bound on its votes fails or the certificate's own estimate fails; by the
    union bound, with probability at most ``votes + certificate <= total``.

    Attributes:
        total: Failure probability per image, in (0, 1).
        certificate_share: Fraction of it for the certificate, in [0, 1); 0 for a deterministic certificate.

    Raises:
        ParameterError: A value outside its range.

    Example:
        >>> AlphaBudget.split(0.001, deterministic=True).votes
        0.001
        >>> AlphaBudget.split(0.001, deterministic=False).certificate
        0.0001
    """

    total: float
    certificate_share: float = CERTIFICATE_SHARE

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", check_alpha(self.total, name="total"))
        object.__setattr__(self, "certificate_share", check_number("certificate_share", self.certificate_share))
        if not 0.0 <= self.certificate_share < 1.0:
            raise ParameterError(
                f"certificate_share = {self.certificate_share} is outside [0, 1); leave something for the votes"
            )

    @classmethod
    def split(cls, total: float, *, deterministic: bool, certificate_share: float = CERTIFICATE_SHARE) -> AlphaBudget:
        """Return the budget for a deterministic certificate, all to the votes, or for a Monte-Carlo one.

        Raises:
            ParameterError: A value outside its range.
        """
        budget = cls(total, certificate_share)
        return cls(total, 0.0) if deterministic else budget

    @property
    def certificate(self) -> float:
        """The certificate's share of the failure probability; 0 for a deterministic one."""
        return self.total * self.certificate_share

    @property
    def votes(self) -> float:
        """What is left for the votes, rounded down: the two shares never exceed the total."""
        exact = Fraction(self.total) - Fraction(self.certificate)
        return _float_down(exact)


def _float_down(exact: Fraction) -> float:
    """Return the largest float that is not above ``exact``."""
    nearest = float(exact)
    return float(np.nextafter(nearest, -math.inf)) if Fraction(nearest) > exact else nearest
