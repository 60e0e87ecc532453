"""A 12-megapixel photograph from decoded pixels to the edited tensor: seconds and peak memory, in a fresh process.

The peak is the process's own, counted from what it holds after importing the pack and torch, before the weights.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from ..models.errors import EditError

ROOT = Path(__file__).resolve().parent.parent
SIDES = (3000, 4000)
LOADER = """
import importlib.util, sys
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("editkit", root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["editkit"] = module
from editkit.benchmarks import large_photo
large_photo.child(*sys.argv[2:])
"""


def measure(task: str, sides=SIDES, weights: Path | None = None, threads: int = 0) -> dict[str, float]:
    """Runs one edit in a child process. Returns {"seconds", "bytes"}. EditError with its last line if it fails."""
    command = [
        sys.executable,
        "-c",
        LOADER,
        str(ROOT),
        task,
        *map(str, sides),
        str(weights or ""),
        str(threads),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EditError(f"The edit of a large photograph ({task}) failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(task: str, height: str, width: str, weights: str, threads: str) -> None:
    """What the child process does; prints one line of JSON."""
    import torch

    from ..models.blazeedit import checkpoint, pipeline

    if int(threads):
        torch.set_num_threads(int(threads))
    before = resident_bytes()
    model = checkpoint.load(weights or None)
    edit(pipeline, model, task, 96, 128)  # loads kernels; the photograph is timed warm
    seconds = edit(pipeline, model, task, int(height), int(width))
    print(json.dumps({"seconds": seconds, "bytes": peak_bytes() - before}))


def edit(pipeline, model, task: str, height: int, width: int) -> float:
    """Edits a made-up photograph of that size and returns the seconds, without making it."""
    image, mask = photograph(height, width)
    start = time.perf_counter()
    if task == "outpaint":
        pipeline.outpaint(model, image, right=width // 8 * 2)
    elif task in ("remove", "sticker"):
        getattr(pipeline, task)(model, image, mask)
    else:
        getattr(pipeline, task)(model, image)
    return time.perf_counter() - start


def photograph(height: int, width: int):
    """A smooth picture with fine texture [1, 3, h, w] and an elliptic mask of 6 % [1, h, w], made without waste."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 12, generator=generator)
    image = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    tile = torch.rand(128, 128, generator=generator) * 0.1 - 0.05
    repeats = -(-height // 128), -(-width // 128)
    image.add_(tile.repeat(*repeats)[:height, :width]).clamp_(0, 1)
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return image, ((y - 0.1).square() / 0.28**2 + x.square() / 0.28**2 < 1).float()[None]


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
