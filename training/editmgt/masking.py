"""Eq. 1: how many tokens are masked, which, what the network is told of it, and the loss on them."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.editmgt.options import TIMES
from ...models.editmgt.schedule import SCHEDULES

STEPS = 16  # of the sampling whose step numbers `time="step"` tells; the paper's


def rates(rng: np.random.Generator, count: int, schedule: str = "cosine") -> Tensor:
    """Masking rates r in 0..1, [count]: the share that is masked at a uniformly random moment of the sampling.

    cosine: r = cos(pi·u/2), the truncated arccos distribution p(r) = 2/pi·(1 - r²)^(-1/2) of Sec. 3.1. linear: 1 - u.
    """
    return _rate(rng.random(count), schedule)


def spread_rates(count: int, schedule: str = "cosine") -> Tensor:
    """The same distribution without chance: its evenly spaced quantiles [count], for measuring."""
    return _rate((np.arange(count) + 0.5) / count, schedule)


def _rate(moment: np.ndarray, schedule: str) -> Tensor:
    assert schedule in SCHEDULES, schedule
    rate = np.cos(math.pi / 2 * moment) if schedule == "cosine" else 1 - moment
    return torch.from_numpy(rate.astype(np.float32))


def masks(rng: np.random.Generator, rate: Tensor, size: tuple[int, int]) -> Tensor:
    """m of Eq. 1: [b, *size] bool with round(r·n) tokens of each picture, at least one, anywhere."""
    length = size[0] * size[1]
    count = (rate * length).round().clamp(1, length)
    order = torch.from_numpy(rng.random((len(rate), length))).argsort(-1).argsort(-1)
    return (order < count[:, None]).view(-1, *size)


def told(rate: Tensor, time: str, schedule: str = "cosine", steps: int = STEPS) -> Tensor:
    """What the network is told of masking rates [b]; it multiplies by 1000 again.

    ratio: 1000·r, as the released weights were trained. step: the number, counted down to 0, of the one of `steps`
    sampling steps that starts from so many masked tokens, as the released weights are sampled.
    """
    assert time in TIMES, time
    if time == "ratio":
        return 1000 * rate
    moment = torch.arccos(rate.clamp(0, 1)) * 2 / math.pi if schedule == "cosine" else 1 - rate
    return steps - 1 - torch.floor(steps * moment).clamp(0, steps - 1)


def loss(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p of the true ids [m] of masked tokens under logits [m, v], in float32; a mean for Eq. 1's sum."""
    return F.cross_entropy(logits.float(), ids)
