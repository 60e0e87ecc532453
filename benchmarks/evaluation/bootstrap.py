"""Means over samples with bootstrap intervals, and paired differences. Everything is seeded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL, CHUNK = 2000, 0.95, 250


@dataclass(frozen=True)
class Mean:
    """A mean, its 95 % bootstrap interval and how many samples it is of. NaN for none; one has no interval."""

    value: float
    low: float
    high: float
    count: int


NOTHING = Mean(float("nan"), float("nan"), float("nan"), 0)


def mean(values: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> Mean:
    """Of the values that are numbers (percentile bootstrap over samples)."""
    kept = np.asarray([v for v in values if v is not None and np.isfinite(v)], np.float64)
    if not len(kept):
        return NOTHING
    low, high = interval(kept, resamples, seed) if len(kept) > 1 else (float("nan"),) * 2
    return Mean(float(kept.mean()), low, high, len(kept))


def interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of the means of samples drawn with replacement; some at a time, for memory's sake."""
    draw, means = np.random.default_rng(seed), []
    for first in range(0, resamples, CHUNK):
        picked = draw.integers(0, len(values), (min(CHUNK, resamples - first), len(values)))
        means.append(values[picked].mean(1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """B minus A over the samples that both have. wins: of B; ties count half."""

    a: float
    b: float
    difference: Mean
    wins: float

    @property
    def clear(self) -> bool:
        """Whether the interval, if there is one, leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0


def paired(a: Sequence[float], b: Sequence[float], better: str, resamples: int = 10000, seed: int = 0) -> Paired | None:
    """None where no pair has two numbers. better: "higher" or "lower", for the wins."""
    both = [(x, y) for x, y in zip(a, b, strict=True) if None not in (x, y) and np.isfinite(x) and np.isfinite(y)]
    if not both:
        return None
    first, second = (np.asarray(column, np.float64) for column in zip(*both))
    difference = second - first
    gain = difference if better == "higher" else -difference
    wins = float(((gain > 0) + 0.5 * (gain == 0)).mean())
    return Paired(float(first.mean()), float(second.mean()), mean(difference, resamples, seed), wins)
