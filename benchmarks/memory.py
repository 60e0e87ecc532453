"""Memory of a process, and of one LiteRT file in a process of its own.

This file imports nothing of the pack: the child that opens a LiteRT file shall hold the runtime and numpy alone.
"""

import json
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Memory that this process holds now (its peak so far where the system does not say)."""
    found = _status("VmRSS")
    return found if found is not None else peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    found = _status("VmHWM")  # unlike ru_maxrss it starts anew in a child process
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return _windows_peak()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def child(path: str, threads: str) -> None:
    """Opens, allocates and runs a .tflite file once; prints {"bytes": peak above the bare runtime} as JSON."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    before = resident_bytes()
    interpreter = Interpreter(model_path=path, num_threads=int(threads))
    interpreter.allocate_tensors()
    keys = list(interpreter.get_signature_list())
    runner = interpreter.get_signature_runner("serving_default" if "serving_default" in keys else keys[0])
    shapes = {name: detail["shape"] for name, detail in runner.get_input_details().items()}
    runner(**{name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()})
    print(json.dumps({"bytes": peak_bytes() - before, "torch": "torch" in sys.modules}))


def _status(key: str) -> int | None:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    values = [line.split()[1] for line in text.splitlines() if line.startswith(key + ":")]
    return int(values[0]) * 1024 if values else None


def _windows_peak() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("cb", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t)
            for name in ("peak", "now", "pool_peak", "pool", "other_peak", "other", "page", "page_peak")
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    handle = ctypes.windll.kernel32.GetCurrentProcess
    handle.restype = wintypes.HANDLE
    ctypes.windll.psapi.GetProcessMemoryInfo(
        wintypes.HANDLE(handle()), ctypes.byref(counters), ctypes.sizeof(Counters)
    )
    return int(counters.peak)
