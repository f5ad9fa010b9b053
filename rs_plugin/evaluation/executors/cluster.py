"""A Ray cluster: connected to or started, its room, and what its workers return."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from rs_plugin.errors import DependencyError, RSPluginError, WorkerError, first_line

_CONNECT_SECONDS: Final = 5.0


class LostError(Exception):
    """A worker, or its machine, is gone."""


def import_ray() -> Any:
    """Return the package.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise DependencyError(f"the executor 'ray' needs Ray ({error}); pip install 'rs-plugin[ray]'") from error
    return ray


def connect(ray: Any, workers: int | None) -> bool:
    """Connect to a cluster, and return whether it was done here and is to be undone.

    Args:
        ray: the package.
        workers: that a cluster of this machine has room for, if one is to be started; as it has processors if None.

    Raises:
        WorkerError: there is none at ``RAY_ADDRESS``, or none can be started.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody of itself
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address="auto", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address or not isinstance(error, ConnectionError):
            where = f"at RAY_ADDRESS = {address!r}" if address else "that runs on this machine"
            raise WorkerError(
                f"the Ray cluster {where} cannot be used: {first_line(error)}; set RAY_ADDRESS to host:port of a "
                f"cluster's head, or unset it for a cluster of this machine"
            ) from error
        try:
            ray.init(num_cpus=workers or os.cpu_count(), include_dashboard=False, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as failure:
            raise WorkerError(
                f"no Ray cluster could be started on this machine: {first_line(failure)}; start one with "
                f"'ray start --head', or use executor='local'"
            ) from failure
    return True


def _check_reachable(address: str) -> None:
    """Raise WorkerError where nobody listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdigit()):  # "auto", "local" or nothing
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise WorkerError(
            f"nobody answers at RAY_ADDRESS = {address!r} ({first_line(error)}); start the cluster, or unset "
            f"RAY_ADDRESS, for one on this machine"
        ) from error


def room(ray: Any, needs: dict[str, int]) -> int:
    """Return how many workers the cluster has room for.

    Raises:
        WorkerError: for none.
    """
    has = ray.cluster_resources()
    kinds = {"num_cpus": "CPU", "num_gpus": "GPU"}
    workers = min(int(has.get(kinds[name], 0)) // count for name, count in needs.items() if count)
    if workers < 1:
        raise WorkerError(f"the Ray cluster has no room for a worker: it has {shown(has)}")
    return workers


def shown(resources: dict[str, float]) -> str:
    """Return a cluster's processors in words."""
    return ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))


def got(ray: Any, ref: Any) -> Any:
    """Return what a worker returned.

    Raises:
        LostError: the worker is gone.
        RSPluginError: it failed; the error it raised, or WorkerError for one that is not this package's.
    """
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RSPluginError):
            raise cause from None
        raise WorkerError(f"a worker failed: {type(cause).__name__}: {first_line(cause)}") from error
    except ray.exceptions.RayError as error:
        raise LostError(first_line(error)) from error
