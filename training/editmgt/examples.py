"""What a phase trains on, and the encoders in front of it: the same words for files, releases and the small world."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...models.editmgt.options import Text

KEPT_TEXTS, KEPT_PICTURES = 512, 65536  # encoded ones kept in memory: 2.4 MB and 8 kB each at full size
Made = TypeVar("Made")


@dataclass(frozen=True)
class Example:
    """A picture's token ids [h, w] and its text; in an edit also the ids it was made of and, if known, where."""

    target: Tensor
    text: str
    source: Tensor | None = None
    region: Tensor | None = None  # bool [h, w], True where the edit may change something

    def changed(self) -> Tensor:
        """Where the edit changes something, bool [h, w]: as the mask says, else where the ids differ."""
        return self.target != self.source if self.region is None else self.region


class Examples(Protocol):
    """Examples to train on, and some that never are."""

    def draw(self, rng: np.random.Generator, size: int) -> Example:
        """One to train on, size² tokens."""

    def held(self, size: int) -> list[Example]:
        """All that are held out."""


class Encoders(Protocol):
    """Text and pictures to what the transformer takes, and back."""

    scale: int  # pixels per token and side

    def text(self, text: str) -> Text:
        """One instruction: states [1, t, joint], pooled [1, p]."""

    def ids(self, image: Tensor) -> Tensor:
        """A picture [3, h, w] in 0..1 to ids [h/scale, w/scale]."""

    def picture(self, ids: Tensor) -> Tensor:
        """Ids [b, h, w] to pictures [b, 3, h·scale, w·scale] in 0..1."""


class Kept:
    """The last results of something slow.

    Each is made alone: in a batch it could differ in its last bits, and a resumed run starts with nothing kept.
    """

    def __init__(self, most: int):
        self.most, self._kept = most, OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], Made]) -> Made:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class Texts:
    """Encodes instructions, and remembers them."""

    def __init__(self, encoders: Encoders):
        self.encoders, self._kept = encoders, Kept(KEPT_TEXTS)

    def __call__(self, texts: list[str]) -> Text:
        """[b] instructions, in float32, on the CPU: at full size one takes 2.4 MB."""
        found = [self._kept(text, lambda t=text: self._encode(t)) for text in texts]
        return Text(torch.cat([t.states for t in found]), torch.cat([t.pooled for t in found]))

    @torch.no_grad()
    def _encode(self, text: str) -> Text:
        made = self.encoders.text(text)
        return Text(made.states.float().cpu(), made.pooled.float().cpu())
