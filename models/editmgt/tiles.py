"""Canvases larger than the trained square: overlapping tiles that go through a run in step with each other.

MultiDiffusion's idea (Bar-Tal et al., 2023, Eq. 5) for tokens. There is one canvas of tokens. At every step each tile
is shown its part of it, what the network says is averaged where tiles overlap, and the canvas is drawn and settled
once: two tiles never disagree about a token. The mean is taken before the projection to the vocabulary, which is
linear, so it is the mean of their logits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError

SHARE = 4  # tiles overlap by at least this part of their side


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size (height, width) on a canvas of a size; `at` are their upper left corners, row by row."""

    size: tuple[int, int]
    tile: tuple[int, int]
    at: tuple[tuple[int, int], ...]

    def on(self, size: tuple[int, int]) -> "Tiles":
        """The same tiles where the canvas has another size, such as its pixels. EditError where they do not fit."""
        def scaled(pair):
            found = [n * new / old for n, new, old in zip(pair, size, self.size)]
            if any(n != int(n) for n in found):
                raise EditError(f"Tiles of a canvas of {self.size} do not fit one of {tuple(size)}; use even sides.")
            return tuple(int(n) for n in found)

        return Tiles(tuple(size), scaled(self.tile), tuple(map(scaled, self.at)))

    def cut(self, x: Tensor, number: int) -> Tensor:
        """What a tile sees of [..., h, w]."""
        return x[self._where(number)]

    def window(self, device=None) -> Tensor:
        """How much a tile counts at each of its places [h, w]: more towards its middle, and nowhere 0."""
        rows, columns = (torch.arange(1.0, n + 1, device=device) for n in self.tile)
        return torch.minimum(rows, rows.flip(0))[:, None] * torch.minimum(columns, columns.flip(0))

    def mean(self, parts: Iterable[Tensor | None]) -> Tensor:
        """The tiles' values [b, c, h, w], in order, as one canvas [b, c, H, W], averaged by `window` in float32.

        None leaves a tile out; where no tile is left the canvas is 0. A single tile is what it is.
        """
        if len(self.at) == 1:
            return next(iter(parts))
        total, weight = None, None
        for number, part in enumerate(parts):
            if part is None:
                continue
            if total is None:
                total = torch.zeros(*part.shape[:-2], *self.size, device=part.device)
                weight, window, kind = torch.zeros(self.size, device=part.device), self.window(part.device), part.dtype
            total[self._where(number)] += part * window
            weight[self._where(number)] += window
        return total.div_(weight.clamp_min_(1e-6)).to(kind)

    def inmost(self, parts: Iterable[Tensor]) -> Tensor:
        """The tiles' values [b, h, w], in order, as one canvas: each place from the tile it is most inside."""
        out, best = None, None
        for number, part in enumerate(parts):
            if out is None:
                out = part.new_zeros(*part.shape[:-2], *self.size)
                best, window = torch.zeros(self.size, device=part.device), self.window(part.device)
            where = self._where(number)
            out[where] = torch.where(window > best[where], part, out[where])
            best[where] = torch.maximum(window, best[where])
        return out

    def _where(self, number: int) -> tuple:
        (top, left), (height, width) = self.at[number], self.tile
        return ..., slice(top, top + height), slice(left, left + width)


def tiles(size: tuple[int, int], tile: int | tuple[int, int] | None = None, overlap: int | None = None) -> Tiles:
    """Tiles for a canvas (height, width) of tokens, evenly spread, on even places: pairs of tokens stay together.

    tile: their side, or (height, width); None or 0 for one that is the whole canvas. overlap: the least, by default a
    quarter. EditError for an overlap that leaves no way forward.
    """
    sides = (tile, tile) if not isinstance(tile, tuple) else tile
    sides = tuple(min(side or length, length) for side, length in zip(sides, size))
    starts = [_starts(n, side, side // SHARE if overlap is None else overlap) for n, side in zip(size, sides)]
    return Tiles(tuple(size), sides, tuple((top, left) for top in starts[0] for left in starts[1]))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if tile == length:
        return [0]
    if not 0 <= overlap < tile:
        raise EditError(f"Tiles of {tile} tokens cannot overlap by {overlap}; use less than a tile.")
    steps = -(-(length - tile) // (tile - overlap))
    return [(length - tile) * i // (2 * steps) * 2 for i in range(steps)] + [length - tile]


def encoded(encode: Callable[[Tensor], Tensor], image: Tensor, layout: Tiles) -> Tensor:
    """Token ids [b, h, w] of a picture [b, c, 16h, 16w], each tile encoded by itself, as large as in training."""
    if len(layout.at) == 1:
        return encode(image)
    pixels = layout.on(tuple(image.shape[-2:]))
    return layout.inmost(encode(pixels.cut(image, number)) for number in range(len(layout.at)))


def decoded(decode: Callable[[Tensor], Tensor], vectors: Tensor, layout: Tiles, scale: int = 16) -> Tensor:
    """A picture [b, c, H, W] of vectors [b, d, h, w], a tile at a time: memory is one tile's, and the picture's."""
    pixels = layout.on(tuple(scale * n for n in layout.size))
    return pixels.mean(decode(layout.cut(vectors, number)) for number in range(len(layout.at)))
