"""Smoothing distributions: the families of Zhang et al. (NeurIPS 2020) beside Gaussian and Laplace noise."""

from rs_plugin.distributions.base import SmoothingDistribution
from rs_plugin.distributions.max_tilted import MaxTiltedExponential, MixedNorm
from rs_plugin.distributions.norm_exponential import (
    Gaussian,
    L1Exponential,
    L2Exponential,
    Laplace,
    LinfExponential,
    NormExponential,
)
from rs_plugin.distributions.parsing import distributions, parse_noise

#: Adds a family under a name, for ``parse_noise`` and the command line in this process.
register_noise = distributions.register

__all__ = [
    "Gaussian",
    "L1Exponential",
    "L2Exponential",
    "Laplace",
    "LinfExponential",
    "MaxTiltedExponential",
    "MixedNorm",
    "NormExponential",
    "SmoothingDistribution",
    "distributions",
    "parse_noise",
    "register_noise",
]
