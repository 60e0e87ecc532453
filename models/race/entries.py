"""One system of a race: its name, what it changed, its time and memory, and what a judge says of it."""

import math
from dataclasses import dataclass

from .measuring import Change

SATURATION = 0.05  # mean change at which the term is 0.63; far beyond it more hardly counts
FULL_PSNR = 40.0  # dB; beyond it no eye sees a difference
CLIP_SCALE = 2.5  # CLIPScore's weight w (Hessel 2021)


@dataclass(frozen=True)
class Lap:
    """What making one picture took. seconds: None when it was there already.

    bound: "" for its own nodes and no others, "<=" when others ran meanwhile, ">=" when some of its own had run before,
    "~" for both, or not known. memory: bytes at the peak, on the GPU or of the whole process; at_most: the process had
    held more before, so that the peak is at most that.
    """

    seconds: float | None = None
    bound: str = ""
    memory: int | None = None
    on_gpu: bool = False
    at_most: bool = False
    note: str = ""

    @property
    def exact(self) -> bool:
        return self.seconds is not None and not self.bound


@dataclass(frozen=True)
class Marks:
    """A judge's word on one edit. kind: VIE (overall, 0 to 10) or CLIP (cosine with the text); value NaN: none."""

    kind: str
    value: float
    said: str = ""

    @property
    def term(self) -> float:
        """0 to 1; NaN without a value."""
        if math.isnan(self.value):
            return math.nan
        return self.value / 10 if self.kind == "VIE" else min(max(CLIP_SCALE * self.value, 0.0), 1.0)


@dataclass(frozen=True)
class Entry:
    """number: of the input, from 1. marks: None without a judge."""

    number: int
    name: str
    change: Change
    lap: Lap = Lap()
    marks: Marks | None = None

    @property
    def changed(self) -> float:
        """The change inside as a term of 0 to 1 that saturates: twice the change is not twice as good an edit."""
        return 1 - math.exp(-self.change.inside / SATURATION)

    @property
    def preserved(self) -> float:
        """How much of the outside is left, 0 to 1: the worse of SSIM and PSNR / 40 dB; NaN without an outside.

        SSIM alone does not see colour shift, PSNR alone hardly sees lost texture.
        """
        signal = min(self.change.psnr, FULL_PSNR) / FULL_PSNR
        return signal if math.isnan(self.change.ssim) else min(max(self.change.ssim, 0.0), signal)
