"""The whole edit in one inversion and one generation step, on any two UNets. Used by benchmarks, parity and training.

A network here is a function (sample [b, 4, h, w], timestep, context [b, n, c]) -> [b, 4, h, w].
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from . import mask as masks
from .aram import OFFICIAL, Aram
from .generators import GENERATORS, INVERSION_TIMESTEP, OneStep

Network = Callable[[Tensor, int, Tensor], Tensor]


@dataclass(frozen=True)
class Inversion:
    """What the inversion net predicts for the source and the edit prompt, each [b, 4, h, w]; edit may be left out."""

    source: Tensor
    edit: Tensor | None

    def mask(self, clamp: float = masks.CLAMP, threshold: float = masks.THRESHOLD) -> Tensor:
        """The self-guided mask [b, h, w]."""
        return masks.self_guided(self.source, self.edit, clamp, threshold)


def invert(network: Network, latent: Tensor, source: Tensor, edit: Tensor) -> Inversion:
    """One call of F for both prompts (Sec. 4.1): the clean latent [b, 4, h, w], text embeddings [b, n, c] each."""
    noise = network(torch.cat([latent, latent]), INVERSION_TIMESTEP, torch.cat([source, edit]))
    return Inversion(*noise.chunk(2))


@dataclass(frozen=True)
class Edit:
    """The edited and the reconstructed latent, and the x_T that both came from; [b, 4, h, w] each."""

    edit: Tensor
    reconstruction: Tensor
    start: Tensor


def generate(
    network: Network,
    rescaled: Callable[[Tensor, Aram], AbstractContextManager],
    latent: Tensor,
    noise: Tensor,
    source: Tensor,
    edit: Tensor,
    mask: Tensor,
    aram: Aram = OFFICIAL,
    generator: OneStep = GENERATORS["swiftbrush_v2"],
) -> Edit:
    """One call of G^IP for both rows under ARaM (Sec. 4.2).

    source, edit: text embeddings with the image tokens behind them [b, n + 4, c]. rescaled(mask, aram) switches ARaM
    on. noise: the inverted noise of the source prompt.
    """
    start = generator.mixed(latent, noise)
    with rescaled(mask, aram):
        out = network(torch.cat([start, start]), generator.timestep, torch.cat([source, edit]))
    made = generator.latent(torch.cat([start, start]), out)
    return Edit(made[len(start) :], made[: len(start)], start)
