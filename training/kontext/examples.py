"""What the stages train on: latents and encoded texts, of prepared tables or of the small world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

KINDS = ("edit", "pair")  # with references, and text to image without any


@dataclass(frozen=True)
class Example:
    """A target latent [c, h, w] in what the network takes, its encoded text, and references [c, h_i, w_i].

    right: all results that the text allows [n, c, h, w], where more than the target are known; wrong: other results.
    """

    target: Tensor
    states: Tensor  # [t, joint]
    pooled: Tensor  # [p]
    references: tuple[Tensor, ...] = ()
    text: str = ""
    right: Tensor | None = None
    wrong: Tensor | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """What examples of one batch have in common."""
        return tuple(tuple(x.shape) for x in (self.target, *self.references))


class Examples(Protocol):
    """Examples to train on, and some that never are."""

    kinds: tuple[str, ...]  # that there are
    empty: tuple[Tensor, Tensor]  # states [t, joint] and pooled [p] of the empty prompt

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[Example]:
        """Some to train on, of one kind, all of the same shapes."""

    def held(self) -> list[Example]:
        """All that are held out, of every kind."""


def batches(examples: Sequence[Example], most: int) -> list[list[Example]]:
    """Examples in their order, those of the same shapes together and at most so many at once."""
    groups: dict[tuple, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.shapes, []).append(example)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def stacked(chosen: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Targets [b, c, h, w], states [b, t, joint], pooled [b, p], and references [b, c, h_i, w_i] in fp32."""
    references = [torch.stack(r).float() for r in zip(*(e.references for e in chosen))]
    fields = (torch.stack([getattr(e, name) for e in chosen]).float() for name in ("target", "states", "pooled"))
    return (*fields, references)
