"""Certificates: closed form, quadrature and Monte Carlo behind one public entry."""

from rs_plugin.certificates.certificate import METHODS, Certificate, certificate

__all__ = ["METHODS", "Certificate", "certificate"]
