"""How long a file takes on this machine, and how much memory: what the exporter's table says of it."""

import contextlib
import ctypes
import gc
import time
from pathlib import Path

import numpy as np

from .runtime import open_interpreter

THREADS, RUNS = (1, 2), 5


def measure(path: Path, signature: str, inputs: list[dict]) -> dict:
    """The fastest of a few runs per number of threads, and the resident memory that one opened file adds.

    inputs: the manifest's tensors of that signature. Returns {"latency_ms": {"1": …, "2": …}, "memory_bytes": int or
    None where the system does not tell}. Beside other work both are too high; `python . bench mobile` measures each
    file in a process of its own.
    """
    arrays = {t["name"]: np.full(t["shape"], 0.5, np.float32) for t in inputs}
    latency, memory = {}, None
    before = _settled()
    for threads in THREADS:
        runner = open_interpreter(path, threads).get_signature_runner(signature)
        runner(**arrays)
        if memory is None and before is not None:  # of the first: the second opens it into what the first left
            memory = max(0, resident() - before)
        latency[str(threads)] = round(min(_timed(runner, arrays) for _ in range(RUNS)), 2)
    return {"latency_ms": latency, "memory_bytes": memory}


def _settled() -> int | None:
    """`resident`, after what was freed went back to the system: else a file would move into old rooms unseen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def _timed(runner, arrays: dict) -> float:
    start = time.perf_counter()
    runner(**arrays)
    return 1e3 * (time.perf_counter() - start)


def resident() -> int | None:
    """Bytes that this process holds, or None where /proc does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), None)
