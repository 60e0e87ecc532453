"""Examples of a prepared folder. A batch holds latents of the same shapes; some examples are held out."""

from pathlib import Path

import numpy as np

from .. import prepared
from ..tables import split
from .examples import KINDS, Example


class Prepared:
    """What `train kontext prepare` wrote."""

    def __init__(self, folder: str):
        """EditError for a folder that holds no prepared examples, or fewer than two of a kind."""
        self.root = Path(folder).expanduser()
        rows = prepared.rows(self.root, "train kontext prepare")
        self.kinds = tuple(kind for kind in KINDS if any(row["kind"] == kind for row in rows))
        self._groups: dict[str, list[list[dict]]] = {}
        self._held: list[dict] = []
        for kind in self.kinds:
            trained, held = split([row for row in rows if row["kind"] == kind])
            self._groups[kind], self._held = prepared.grouped(trained), self._held + held
        empty = prepared.read(self.root / prepared.EMPTY)
        self.empty = (empty["states"], empty["pooled"])

    def draw(self, rng: np.random.Generator, kind: str, count: int) -> list[Example]:
        """A shape as often as it has examples, and some of these, each as often as any."""
        groups = self._groups[kind]
        sizes = np.array([len(group) for group in groups])
        group = groups[rng.choice(len(groups), p=sizes / sizes.sum())]
        return [self._example(group[i]) for i in rng.integers(len(group), size=count)]

    def held(self) -> list[Example]:
        return [self._example(row) for row in self._held]

    def widths(self) -> tuple[int, int, int]:
        """Channels of the latents, and widths of the text's states and of the pooled vector."""
        row = next(iter(self._groups.values()))[0][0]
        return row["shapes"]["target"][0], self.empty[0].shape[-1], self.empty[1].shape[-1]

    def _example(self, row: dict) -> Example:
        found = prepared.read(self.root / row["file"])
        references = tuple(found[name] for name in sorted(n for n in found if n.startswith("reference_")))
        return Example(found["target"], found["states"], found["pooled"], references, row["text"])
