"""Robustness certificates by randomized smoothing, for L1, L2 and Linf."""

from rs_plugin.certificates import Certificate, certificate
from rs_plugin.distributions import (
    Gaussian,
    L1Exponential,
    L2Exponential,
    Laplace,
    LinfExponential,
    MaxTiltedExponential,
    MixedNorm,
    NormExponential,
    SmoothingDistribution,
    parse_noise,
)

__all__ = [
    "Certificate",
    "Gaussian",
    "L1Exponential",
    "L2Exponential",
    "Laplace",
    "LinfExponential",
    "MaxTiltedExponential",
    "MixedNorm",
    "NormExponential",
    "SmoothingDistribution",
    "certificate",
    "parse_noise",
]
