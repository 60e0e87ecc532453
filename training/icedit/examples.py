"""What is trained on: diptychs as latents, with their encoded texts, of prepared tables or of the small world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """Latents [c, h, 2·w] of a diptych, and of the same with its right panel grey; both as the network takes them.

    wrong: right panels [n, c, h, w] that other instructions would have given, where they are known.
    """

    target: Tensor
    masked: Tensor
    states: Tensor  # [t, joint]
    pooled: Tensor  # [p]
    text: str = ""
    wrong: Tensor | None = None

    @property
    def shapes(self) -> tuple[int, ...]:
        """What examples of one batch have in common."""
        return tuple(self.target.shape)


class Examples(Protocol):
    """Examples to train on, and some that never are."""

    scale: int  # pixels per side of a latent
    empty: tuple[Tensor, Tensor]  # states [t, joint] and pooled [p] of what stands for a dropped text

    def draw(self, rng: np.random.Generator, count: int) -> list[Example]:
        """Some to train on, all of the same shape."""

    def held(self) -> list[Example]:
        """All that are held out."""


def stacked(chosen: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets and masked [b, c, h, 2·w], states [b, t, joint], pooled [b, p], in fp32."""
    names = ("target", "masked", "states", "pooled")
    return tuple(torch.stack([getattr(e, name) for e in chosen]).float() for name in names)
