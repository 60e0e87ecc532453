"""What an edit did to a picture: how much it changed inside the mask, and what it left of the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from .. import measures
from ..image import resize


@dataclass(frozen=True)
class Change:
    """inside: mean |difference| weighted by the mask, 0 to 1. psnr (dB), ssim: outside the mask; NaN if there is none.
    size: (width, height) of an edit that was scaled to the original to be measured."""

    inside: float
    psnr: float = math.nan
    ssim: float = math.nan
    size: tuple[int, int] | None = None


def measure(original: Tensor, edited: Tensor, mask: Tensor | None = None) -> Change:
    """Means over a batch [b, 3, h, w] and its edits [b, 3, H, W], which are scaled to the original's size.

    mask: [b, h, w], 0..1; outside is where it is 0. Without one the whole picture counts as inside.
    """
    size = tuple(original.shape[-2:])
    scaled = None if tuple(edited.shape[-2:]) == size else (edited.shape[-1], edited.shape[-2])
    edited = resize(edited, size)
    masks = [None] * len(original) if mask is None else mask
    each = [_one(*three) for three in zip(original, edited, masks, strict=True)]
    inside, psnr, ssim = (_mean(column) for column in zip(*each, strict=True))
    return Change(inside, psnr, ssim, scaled)


def _mean(values: Sequence[float]) -> float:
    """The mean of those that are numbers: a picture of the batch whose mask covers all of it has no outside."""
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def _one(original: Tensor, edited: Tensor, mask: Tensor | None) -> tuple[float, float, float]:
    """(change inside, PSNR outside, SSIM outside) of one picture [3, h, w]. An empty mask changes nothing inside."""
    change = (original - edited).abs().mean(0)
    if mask is None:
        return float(change.mean()), math.nan, math.nan
    inside = float((change * mask).sum() / mask.sum().clamp_min(1e-6))
    before, after = (_pixels(picture) for picture in (original, edited))
    outside = mask <= 0
    return inside, measures.psnr(after, before, outside.cpu().numpy()), measures.ssim(after, before, _apart(outside))


def _apart(outside: Tensor) -> np.ndarray:
    """Where SSIM's whole window lies outside, so that an edit's own pixels do not count against the rest."""
    side = 2 * measures.WINDOW + 1
    near = F.max_pool2d((~outside)[None, None].float(), side, 1, measures.WINDOW)
    return (near[0, 0] <= 0).cpu().numpy()


def _pixels(picture: Tensor) -> np.ndarray:
    return picture.movedim(0, -1).float().cpu().numpy()
