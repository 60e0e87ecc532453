"""Diptychs of a prepared folder. A batch holds latents of one shape; some examples are held out."""

import json
from pathlib import Path

import numpy as np

from ...models.errors import EditError
from .. import prepared
from ..tables import split
from .examples import Example


class Prepared:
    """What `train icedit prepare` wrote."""

    def __init__(self, folder: str):
        """EditError for a folder that holds no prepared diptychs, or fewer than two."""
        self.root = Path(folder).expanduser()
        rows = prepared.rows(self.root, "train icedit prepare")
        if any("masked" not in row["shapes"] for row in rows):
            raise EditError(f"{self.root} holds no diptychs; make it with `train icedit prepare`.")
        trained, self._held = split(rows)
        self._groups = prepared.grouped(trained)
        self.scale = json.loads((self.root / prepared.CARD).read_text(encoding="utf-8"))["scale"]
        empty = prepared.read(self.root / prepared.EMPTY)
        self.empty = (empty["states"], empty["pooled"])

    def draw(self, rng: np.random.Generator, count: int) -> list[Example]:
        """A shape as often as it has examples, and some of these, each as often as any."""
        sizes = np.array([len(group) for group in self._groups])
        group = self._groups[rng.choice(len(sizes), p=sizes / sizes.sum())]
        return [self._example(group[i]) for i in rng.integers(len(group), size=count)]

    def held(self) -> list[Example]:
        return [self._example(row) for row in self._held]

    def widths(self) -> tuple[int, int, int]:
        """Channels of the latents, and widths of the text's states and of the pooled vector."""
        return self._held[0]["shapes"]["target"][0], self.empty[0].shape[-1], self.empty[1].shape[-1]

    def _example(self, row: dict) -> Example:
        found = prepared.read(self.root / row["file"])
        return Example(found["target"], found["masked"], found["states"], found["pooled"], row["text"])
