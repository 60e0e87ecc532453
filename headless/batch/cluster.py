"""Ray itself: starting it here or finding it elsewhere, and what of it the workers get."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import EditError
from . import shipping
from .progress import in_place

if TYPE_CHECKING:
    from .driver import Resources

STORE = 128 << 20  # bytes of shared memory for what travels between processes, where that is names and reports
MOST_WORKERS = 8  # that start by themselves on a machine without GPUs; each is a process with its own models
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would send them to its makers
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


def imported():
    """Ray, with Ray Data. EditError that says what to install."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=r"ray\.")  # about settings of its own that Ray itself touches
    try:
        import ray
        import ray.data
    except ImportError as problem:
        raise EditError(
            f"`batch` needs {problem.name or 'Ray'}, which is not installed: pip install -r requirements-batch.txt."
        ) from problem
    return ray


@contextmanager
def connected(address: str | None, wanted: "Resources", held: int) -> Iterator:
    """Ray, connected to a cluster, or started on this machine for as long as the `with` lasts."""
    ray = imported()
    _check_reachable(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": False}
    if address is None:
        quiet |= _local(wanted, held)
    try:
        in_place(f"Joining Ray at {address} …" if address else "Starting Ray …")
        with _hushed():
            ray.init(address=address or "local", **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as problem:
        what = f"Cannot join the Ray cluster at {address}" if address else "Cannot start Ray on this machine"
        raise EditError(f"{what}: {first_line(problem)}") from problem
    finally:
        in_place("")
    ray.cloudpickle.register_pickle_by_value(shipping)
    try:
        yield ray
    finally:
        ray.cloudpickle.unregister_pickle_by_value(shipping)
        ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps what Ray's C++ half says as it starts off the terminal; what goes wrong comes as an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _local(wanted: "Resources", held: int) -> dict:
    """Ray's settings on this machine: as many CPUs as the workers ask for, and one for the reader."""
    needed = (wanted.workers or len(wanted.servers) or 1) * wanted.cpus
    workers = wanted.workers or len(wanted.servers) or _cpus()
    store = STORE + held * (workers + 1)
    return {"num_cpus": int(max(_cpus(), needed)) + 1, "include_dashboard": False, "object_store_memory": store}


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_reachable(address: str | None) -> None:
    """EditError for HOST:PORT where nobody listens; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    if not port.isdecimal():
        raise EditError(f"--ray {address} is no address; write HOST:PORT, or auto for the cluster of this machine.")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise EditError(
            f"There is no Ray at {address} ({reason}); start one with `ray start --head`, or leave --ray out."
        ) from problem


def fitted(ray, wanted: "Resources", local: bool) -> "Resources":
    """What was wanted, with the rest from what the cluster has. EditError for more than this machine has."""
    has = ray.cluster_resources()
    gpus = wanted.gpus
    if gpus is None:
        gpus = 1.0 if has.get("GPU") and not wanted.servers else 0.0
    if local and gpus > has.get("GPU", 0):
        raise EditError(f"This machine has {has.get('GPU', 0):g} GPUs; lower --gpus-per-worker {gpus:g}.")
    fitting = int(has.get("GPU", 0) / gpus) if gpus else min(MOST_WORKERS, int(has.get("CPU", 2) - 1) // wanted.cpus)
    workers = wanted.workers or len(wanted.servers) or max(1, int(fitting))
    return replace(wanted, workers=workers, gpus=gpus)


def servers(ray, addresses: tuple[str, ...]):
    """The actor that deals servers out, or None without servers."""
    return ray.remote(num_cpus=0)(shipping.Servers).remote(list(addresses)) if addresses else None


def first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines or [type(problem).__name__])[-1 if "Traceback" in str(problem) else 0].rstrip(".") + "."
