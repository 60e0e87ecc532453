"""Keeping the context tokens' keys and values over steps: when they are made anew, where they lie, how large they are.

Approximate for Kontext-dev, whose references see the noisy target and its time; the step that fills the cache is exact.
"""

import contextlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import EditError

STORES = ("device", "cpu", "fp8")
GIB = 2**30
FP8 = getattr(torch, "float8_e4m3fn", None)
FP8_LARGEST = 448.0


@dataclass(frozen=True)
class Reuse:
    """When and where.

    refresh: the keys and values are made anew every so many steps; 1 is always (off), 0 never. threshold: and when the
    target has moved further than this since, as |x - x'| / |x'|; 0 is never. store: where they lie. limit: GiB that
    they may take together.
    """

    refresh: int = 2
    threshold: float = 0.0
    store: str = "device"
    limit: float = 8.0

    def __post_init__(self):
        if self.store not in STORES:
            raise EditError(f"The store {self.store!r} is unknown; choose one of {', '.join(STORES)}.")
        if self.refresh < 0:
            raise EditError(f"The context is refreshed every {self.refresh} steps; give 0 for never, or 1 and above.")
        if self.store == "fp8" and FP8 is None:
            raise EditError("This torch has no fp8; choose the store device or cpu.")

    @property
    def off(self) -> bool:
        return self.refresh == 1


def megabytes(layers: int, hidden: int, tokens: int, rows: int, store: str, bytes_each: int) -> float:
    """MiB that the keys and values of so many context tokens take in all attention layers, for a batch of `rows`."""
    each = 1 if store == "fp8" else bytes_each
    return layers * 2 * hidden * tokens * rows * each / 2**20


class Kept:
    """One layer's tensor [b, heads, n, d] where the store puts it."""

    def __init__(self, tensor: Tensor, store: str):
        self.dtype, self.device, self.scale = tensor.dtype, tensor.device, None
        if store == "fp8":
            largest = tensor.abs().amax((2, 3), keepdim=True).float()
            self.scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / FP8_LARGEST
            self.values = (tensor.float() / self.scale).to(FP8)
        elif store == "cpu":
            self.values = _pinned(tensor)
        else:
            self.values = tensor.clone()  # of its own: a view would hold all tokens in memory

    def get(self) -> Tensor:
        if self.scale is not None:
            return (self.values.float() * self.scale).to(self.dtype)
        return self.values.to(self.device, non_blocking=True)

    @property
    def bytes(self) -> int:
        scale = 0 if self.scale is None else self.scale.numel() * self.scale.element_size()
        return self.values.numel() * self.values.element_size() + scale


def _pinned(tensor: Tensor) -> Tensor:
    """A copy in the CPU's memory, pinned where there is a GPU to copy it back to and memory left to pin."""
    kept = None
    if tensor.device.type == "cuda":
        with contextlib.suppress(RuntimeError):
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
    return tensor.to("cpu", copy=True) if kept is None else kept.copy_(tensor)


@dataclass
class Entry:
    """What one conditioning keeps: the layers' keys and values, and the step that they are from."""

    start: Tensor  # the target at that step
    layout: object  # whose context it is: with other references it is of no use
    sigmas: list[float]  # the noise levels since, that step's first
    layers: list[tuple[Kept, Kept]] = field(default_factory=list)
    complete: bool = False

    @property
    def bytes(self) -> int:
        return sum(k.bytes + v.bytes for k, v in self.layers)


class Cache:
    """The entries of one run by conditioning; at the end of the run nothing is left."""

    def __init__(self, settings: Reuse):
        self.settings, self.entries = settings, {}
        self.fills, self.reuses = 0, 0

    def clear(self) -> None:
        self.entries.clear()

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries.values())

    def usable(self, key, sigma: float, x: Tensor, layout=None) -> Entry | None:
        """The entry that may stand in for the context at this noise level, or None where it is to be made anew.

        A level that is not below the entry's own is another run, or the same step at another point: as exact as it.
        """
        entry = self.entries.get(key)
        if entry is None or not entry.complete or entry.layout is not layout or sigma >= entry.sigmas[0]:
            return None
        steps = len(entry.sigmas) - (entry.sigmas[-1] == sigma)
        if self.settings.refresh and steps >= self.settings.refresh:
            return None
        if self.settings.threshold and moved(x, entry.start) > self.settings.threshold:
            return None
        if entry.sigmas[-1] != sigma:
            entry.sigmas.append(sigma)
        self.reuses += 1
        return entry

    def fill(self, key, sigma: float, x: Tensor, layout=None) -> Entry:
        """A new, empty entry, in the place of the old."""
        self.entries.pop(key, None)
        self.entries[key] = entry = Entry(x.detach().clone(), layout, [sigma])
        self.fills += 1
        return entry

    def keep(self, entry: Entry, k: Tensor, v: Tensor) -> None:
        """Adds a layer. EditError when that is more than the limit."""
        entry.layers.append((Kept(k, self.settings.store), Kept(v, self.settings.store)))
        if self.bytes > self.settings.limit * GIB:
            raise EditError(
                f"The context's keys and values take more than the {self.settings.limit:g} GiB that Kontext Context "
                "Reuse may keep; raise the limit, choose the store fp8 or cpu, or give the references smaller budgets."
            )


def moved(x: Tensor, start: Tensor) -> float:
    """|x - start| / |start|, how far the target has moved; infinite where the sizes differ."""
    if x.shape != start.shape:
        return float("inf")
    length = start.float().norm()
    return float((x.float() - start.float()).norm() / length.clamp(min=1e-12))
