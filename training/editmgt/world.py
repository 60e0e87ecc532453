"""A small world of shapes, captions and edits: what is trained and shown on one CPU, with nothing to download.

A picture is 8x8 tokens: a floor of four greys, and two to four things, each 2x2 tokens, on a chessboard of 4x4 cells.
Each token is a patch of 4x4 pixels, so pictures and ids turn into each other exactly.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...models.editmgt.config import MGTConfig
from ...models.editmgt.options import Text
from ..words import vector
from .examples import Example

COLOURS = {"red": (0.9, 0.2, 0.2), "green": (0.2, 0.7, 0.3), "blue": (0.2, 0.3, 0.9), "yellow": (0.9, 0.8, 0.2)}
SHAPES = ("circle", "square", "triangle")
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
FLOORS = (0.85, 0.75, 0.65, 0.55)  # ids 0 to 3; where a thing was taken away is 0
CELLS, SIDE, PATCH = 4, 8, 4  # cells and tokens a side, pixels a token
CODES = len(FLOORS) + 4 * len(SHAPES) * len(COLOURS)
WORDS, JOINT, POOLED = 20, 32, 16  # the text's tokens and widths
HELD = 128
SCORED = 2000  # edits with an aesthetic score

CONFIG = MGTConfig(
    num_layers=2, num_single_layers=2, num_attention_heads=2, attention_head_dim=32, joint_attention_dim=JOINT,
    pooled_projection_dim=POOLED, axes_dims_rope=(8, 12, 12), vocab_size=CODES + 4, codebook_size=CODES,
    connector="none",
)  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A shape of a colour in a cell (row, column)."""

    colour: str
    shape: str
    cell: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def ids(self) -> Tensor:
        """Its four tokens [2, 2]."""
        kind = SHAPES.index(self.shape) * len(COLOURS) + list(COLOURS).index(self.colour)
        return len(FLOORS) + 4 * kind + torch.arange(4).view(2, 2)


def place(ids: Tensor, cell: tuple[int, int], tokens: Tensor | int) -> None:
    """Writes a cell's tokens into ids [8, 8]."""
    row, column = (2 * c for c in cell)
    ids[row : row + 2, column : column + 2] = tokens


def scene(rng: np.random.Generator) -> tuple[Tensor, list[Thing]]:
    """Ids [8, 8] and the things in them, no two of a name or in a cell."""
    count = int(rng.integers(1, 3))
    kinds = rng.choice(len(SHAPES) * len(COLOURS), count, replace=False)
    cells = rng.choice(CELLS * CELLS, count, replace=False)
    things = [
        Thing(list(COLOURS)[k % len(COLOURS)], SHAPES[k // len(COLOURS)], divmod(int(c), CELLS))
        for k, c in zip(kinds, cells)
    ]
    floor = torch.from_numpy(rng.integers(0, len(FLOORS), (CELLS, CELLS)))
    ids = floor.repeat_interleave(2, 0).repeat_interleave(2, 1)
    for thing in things:
        place(ids, thing.cell, thing.ids())
    return ids, things


def caption(things: list[Thing]) -> str:
    """`a red circle in b2 and a blue square in d4`."""
    return " and ".join(f"a {t.name} in {'abcd'[t.cell[1]]}{t.cell[0] + 1}" for t in things)


def described(rng: np.random.Generator) -> Example:
    """A picture with its caption; at most three things, for the text is short."""
    ids, things = scene(rng)
    while len(things) > 3:
        ids, things = scene(rng)
    return Example(ids, caption(things))


def edited(rng: np.random.Generator) -> Example:
    """A picture, an instruction, what becomes of the picture, and where."""
    ids, things = scene(rng)
    kind, thing = rng.choice(["make", "remove", "move"]), things[rng.integers(len(things))]
    target, region = ids.clone(), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    place(region, thing.cell, True)
    if kind == "make":
        other = str(rng.choice([c for c in COLOURS if c != thing.colour]))
        place(target, thing.cell, replace(thing, colour=other).ids())
        return Example(target, f"make the {thing.name} {other}", ids, region)
    place(target, thing.cell, 0)
    free = _free(thing, things) if kind == "move" else {}
    if not free:
        return Example(target, f"remove the {thing.name}", ids, region)
    way = str(rng.choice(list(free)))
    place(target, free[way], thing.ids())
    place(region, free[way], True)
    return Example(target, f"move the {thing.name} {way}", ids, region)


def _free(thing: Thing, things: list[Thing]) -> dict[str, tuple[int, int]]:
    """Ways that a thing can move, each with the cell it leads to."""
    taken = {t.cell for t in things}
    cells = {way: (thing.cell[0] + d[0], thing.cell[1] + d[1]) for way, d in WAYS.items()}
    inside = range(CELLS)
    return {w: c for w, c in cells.items() if c not in taken and c[0] in inside and c[1] in inside}


class Drawn:
    """Endless examples of one kind. One picture in sixteen is held out, by its ids, whoever draws it."""

    def __init__(self, make):
        self.make = make

    def draw(self, rng: np.random.Generator, size: int) -> Example:
        return next(e for e in iter(lambda: self.make(rng), None) if not _is_held(e))

    def held(self, size: int) -> list[Example]:
        rng, found = np.random.default_rng(1), []
        while len(found) < HELD:
            example = self.make(rng)
            if _is_held(example):
                found.append(example)
        return found


class Scored:
    """A fixed set of edits with an aesthetic score each, the best of which are trained on; the same are held out."""

    def __init__(self, share: float):
        from .data import best

        rng, edits = np.random.default_rng(2), Drawn(edited)
        rows = [{"example": edits.draw(rng, SIDE), "score": float(rng.normal(5))} for _ in range(SCORED)]
        self.edits, self.chosen = edits, [row["example"] for row in best(rows, share, "score")]

    def draw(self, rng: np.random.Generator, size: int) -> Example:
        return self.chosen[rng.integers(len(self.chosen))]

    def held(self, size: int) -> list[Example]:
        return self.edits.held(size)


def _is_held(example: Example) -> bool:
    ids = example.target if example.source is None else example.source
    return zlib.crc32(ids.numpy().tobytes()) % 16 == 0


def patches() -> Tensor:
    """Every token's pixels [codes, 3, 4, 4]."""
    floors = torch.tensor(FLOORS)[:, None, None, None].expand(-1, 3, PATCH, PATCH)
    y, x = (torch.arange(2 * PATCH).float() - PATCH + 0.5).view(1, -1, 1), torch.arange(2 * PATCH) - PATCH + 0.5
    x = x.view(1, 1, -1)
    inside = {"circle": x**2 + y**2 < 13, "square": (x.abs() < 3) & (y.abs() < 3), "triangle": 2 * x.abs() < y + 4}
    things = []
    for shape in SHAPES:
        for colour in COLOURS.values():
            drawn = torch.where(inside[shape], torch.tensor(colour)[:, None, None], torch.tensor(0.95))
            things.append(rearrange(drawn, "c (i h) (j w) -> (i j) c h w", i=2, j=2))
    return torch.cat([floors, *things])


class World:
    """The encoders of the small world: hashed words padded on the left as Gemma's, and patches for tokens."""

    scale = PATCH

    def __init__(self):
        self.patches = patches()

    def text(self, text: str) -> Text:
        """A vector for each word plus one for its place, so that the order counts."""
        words = ["<pad>"] * WORDS + text.lower().split()
        count = len(words) - WORDS
        rows = [vector(w, JOINT) + vector(f"place {i}", JOINT) * (i >= 0) for i, w in enumerate(words, -WORDS)]
        pooled = torch.stack([vector(w, POOLED) for w in words[-count:] or ["<none>"]]).mean(0)
        return Text(torch.stack(rows[count:])[None], pooled[None])

    def ids(self, image: Tensor) -> Tensor:
        found = rearrange(image, "c (h p) (w q) -> (h w) (c p q)", p=PATCH, q=PATCH)
        nearest = torch.cdist(found, self.patches.flatten(1)).argmin(-1)
        return nearest.view(image.shape[-2] // PATCH, -1)

    def picture(self, ids: Tensor) -> Tensor:
        return rearrange(self.patches[ids.cpu()], "b h w c p q -> b c (h p) (w q)")
