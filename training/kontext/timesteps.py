"""p(t; μ, σ) of A.1 and A.2: the logit-normal distribution of training times, with μ by the target's resolution."""

import math

import numpy as np
import torch
from torch import Tensor

from ...models.kontext import ids, schedule


def mu_of(target: tuple[int, int], chosen: float | None = None) -> float:
    """μ for a target latent of (height, width): as chosen, or on the line that sampling takes it from."""
    rows, columns = ids.grid(target)
    return schedule.mu_of_tokens(rows * columns) if chosen is None else chosen


def density(time: Tensor, mu: float = 0.0, sigma: float = 1.0) -> Tensor:
    """p(t) of A.1, for 0 < t < 1, of any shape: exp(-(logit(t) - μ)² / 2σ²) / (σ·√2π·(1 - t)·t)."""
    away = (torch.logit(time) - mu) / sigma
    return torch.exp(-0.5 * away.square()) / (sigma * math.sqrt(2 * math.pi) * (1 - time) * time)


def draw(rng: np.random.Generator, count: int, mu: float, sigma: float) -> Tensor:
    """Times [count]: logit(t) ~ N(μ, σ), by Eq. 12 from those of N(0, 1), as training and sampling share it."""
    return _times(torch.from_numpy(rng.standard_normal(count)), mu, sigma)


def spread(count: int, mu: float, sigma: float) -> Tensor:
    """The same distribution without chance: its evenly spaced quantiles [count], for measuring."""
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return _times(torch.special.ndtri(middle), mu, sigma)


def _times(normal: Tensor, mu: float, sigma: float) -> Tensor:
    return schedule.shifted(torch.sigmoid(normal), mu, sigma)
