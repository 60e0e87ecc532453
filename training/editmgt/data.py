"""Pairs of picture and caption, and edits, from tables; some are held out, and the best can be chosen by a score."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.errors import EditError
from .. import tables
from ..tables import split
from .examples import KEPT_PICTURES, Encoders, Example, Kept

SCORES = ("aesthetic", "aesthetic_score", "score")  # names that a column of scores may have
EDIT = ("source", "target", "instruction")


def best(rows: list[dict], share: float, column: str | None = None) -> list[dict]:
    """The share of rows that score highest, rounded up, in their own order; 1 keeps all.

    EditError for a share that is none, and where the column is missing or holds no numbers.
    """
    if not 0 < share <= 1:
        raise EditError(f"--best {share} is no share; use a number above 0, and at most 1 (all).")
    if share == 1:
        return rows
    column = column or next((name for name in SCORES if name in rows[0]), None)
    if column is None or column not in rows[0]:
        looked = f"column {column!r}" if column else f"column of scores ({', '.join(SCORES)})"
        raise EditError(
            f"There is no {looked} to choose the best {share:.0%} by, only {', '.join(map(str, rows[0]))}; name it "
            "with --score-column, or keep all with --best 1."
        )
    scores = [tables.number(row.get(column), column, index) for index, row in enumerate(rows)]
    order = sorted(range(len(rows)), key=lambda i: (-scores[i], i))
    chosen = set(order[: math.ceil(share * len(rows))])
    return [row for index, row in enumerate(rows) if index in chosen]


@dataclass(frozen=True)
class Rows:
    """Of a table, what is trained on and what is held out; edits or pairs."""

    trained: list[dict]
    held: list[dict]
    edits: bool


def read(path: str, *, edits: bool, share: float = 1.0, column: str | None = None) -> Rows:
    """A table of edits or of pairs, and the best share of it. EditError for what is not there."""
    if edits:
        rows = tables.read(path, "--edits", EDIT, ("mask",))
    else:
        rows = tables.read(path, "--pairs", ("image", "caption"))
    trained, held = split(rows)  # before the choice, so that every phase is measured alike
    return Rows(best(trained, share, column), held, edits)


class Files:
    """Examples of a table. An edit's two pictures and its mask are always cut alike."""

    def __init__(self, rows: Rows, encoders: Encoders):
        self.rows, self.encoders, self._kept = rows, encoders, Kept(KEPT_PICTURES)

    def draw(self, rng: np.random.Generator, size: int) -> Example:
        row = self.rows.trained[rng.integers(len(self.rows.trained))]
        return self._example(row, size, (rng.random(), rng.random()), rng)

    def held(self, size: int) -> list[Example]:
        return [self._example(row, size, (0.5, 0.5), None) for row in self.rows.held]

    def _example(self, row: dict, size: int, corner: tuple[float, float], rng) -> Example:
        if not self.rows.edits:
            return Example(self._ids(row["image"], size, corner), _said(row["caption"], rng))
        first = tables.opened(row["source"])
        ids = [self._ids(row[name], size, corner, first.size) for name in ("source", "target")]
        region = self._region(row["mask"], size, corner, first.size) if "mask" in row else None
        return Example(ids[1], _said(row["instruction"], rng), ids[0], region)

    def _ids(self, cell, size: int, corner: tuple[float, float], like: tuple[int, int] | None = None) -> Tensor:
        picture = tables.opened(cell)
        box = _box(like or picture.size, size * self.encoders.scale, corner)
        where = cell if not callable(cell) else (id(cell.file), cell.group, cell.column, cell.number)
        make = lambda: self._encode(_cut(_fitted(picture, like), *box))  # noqa: E731
        return self._kept((where, size, box), make)

    @torch.no_grad()
    def _encode(self, image: Tensor) -> Tensor:
        return self.encoders.ids(image).cpu()

    def _region(self, cell, size: int, corner: tuple[float, float], like: tuple[int, int]) -> Tensor:
        """A token belongs to the region if any of its pixels does."""
        mask = _fitted(tables.opened(cell, "L"), like)
        pixels = _cut(mask, *_box(like, size * self.encoders.scale, corner))
        return F.max_pool2d((pixels >= 0.5).float()[None], self.encoders.scale)[0, 0] > 0


def _said(text, rng: np.random.Generator | None) -> str:
    """A caption, or one of several: any in training, the first when measuring (Sec. C.2 gives each picture three)."""
    if isinstance(text, (list, tuple)):
        text = text[0 if rng is None else rng.integers(len(text))] if text else ""
    return str(text)


def _fitted(picture, like: tuple[int, int] | None):
    """A picture brought to the size of the one it belongs to."""
    from PIL import Image

    return picture if like in (None, picture.size) else picture.resize(like, Image.Resampling.BICUBIC)


def _box(size: tuple[int, int], side: int, corner: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(width, height) to scale a picture to, its shorter side at `side`, and the square to cut from that."""
    scale = side / min(size)
    width, height = (max(side, round(s * scale)) for s in size)
    left, top = int(corner[0] * (width - side + 1)), int(corner[1] * (height - side + 1))
    return (width, height), (left, top, left + side, top + side)


def _cut(picture, scaled: tuple[int, int], square: tuple[int, ...]) -> Tensor:
    """[c, side, side] in 0..1."""
    from PIL import Image

    if picture.size != scaled:
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture.crop(square), dtype=np.float32) / 255)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
