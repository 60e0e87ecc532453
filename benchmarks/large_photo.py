"""A 12-megapixel photograph from decoded pixels to the edited tensor: seconds and peak memory, in a fresh process.

The peak is the process's own, counted from what it holds after importing the pack and torch, before the weights.
"""

import json
import time
from pathlib import Path

from . import children
from .memory import peak_bytes, resident_bytes

SIDES = (3000, 4000)


def measure(task: str, sides=SIDES, weights: Path | None = None, threads: int = 0) -> dict[str, float]:
    """Runs one edit in a child process. Returns {"seconds", "bytes"}. EditError with its last line if it fails."""
    arguments = [task, *sides, weights or "", threads]
    return children.of_pack("large_photo", arguments, f"The edit of a large photograph ({task})")


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
