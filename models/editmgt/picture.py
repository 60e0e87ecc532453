"""Photographs of any size on the trained square, or on a canvas of overlapping ones, and brought back exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError
from ..image import resize
from ..masks import fit as fit_mask

TOKEN = 16  # pixels per token and side
PAIR = 2 * TOKEN  # the network halves the grid


@dataclass(frozen=True)
class Square:
    """A picture on the square: pixels [b, 3, side, side], of which the first `inner` (height, width) are its own.

    tile: 0, or the side in pixels of the tiles in which this canvas, larger than one square, is edited.
    """

    pixels: Tensor
    inner: tuple[int, int]
    original: tuple[int, int]
    tile: int = 0

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) in tokens."""
        return self.pixels.shape[-2] // TOKEN, self.pixels.shape[-1] // TOKEN

    def restored(self, decoded: Tensor) -> Tensor:
        """A decoded square [b, 3, side, side] as a picture of the original size."""
        return resize(decoded[..., : self.inner[0], : self.inner[1]], self.original)

    def tokens_in(self, mask: Tensor, threshold: float = 0.5) -> Tensor:
        """A mask [b, H, W] of the original at the tokens: bool [b, h, w], True where its mean is at least `threshold`.

        What lies in the mirrored part is never new.
        """
        small = resize(fit_mask(mask, *self.original)[:, None], self.inner, "area")
        height, width = self.pixels.shape[-2:]
        padded = torch.nn.functional.pad(small, (0, width - self.inner[1], 0, height - self.inner[0]))
        # a token at the picture's edge lies in it in part: its mean counts over that part alone
        inside = torch.zeros(1, 1, height, width, device=mask.device)
        inside[..., : self.inner[0], : self.inner[1]] = 1
        pooled, share = (torch.nn.functional.avg_pool2d(x, TOKEN)[:, 0] for x in (padded, inside))
        return (pooled / share.clamp_min(1e-6) >= threshold) & (share > 0)

    def tokens_out(self, values: Tensor, smooth: bool = False) -> Tensor:
        """Values [b, h, w] of tokens, or of any coarser grid, at the original's size [b, H, W]."""
        mode = "bilinear" if smooth else "nearest"
        large = torch.nn.functional.interpolate(values[:, None].float(), size=self.pixels.shape[-2:], mode=mode)
        own = large[..., : self.inner[0], : self.inner[1]]
        return resize(own, self.original, mode)[:, 0].clamp(0, 1)


def fit(picture: Tensor, side: int) -> Square:
    """Scales [b, 3, h, w] so that its longer side is `side` pixels, and mirrors it up to the square.

    EditError for a side that is no even number of tokens.
    """
    _check(side)
    height, width = picture.shape[-2:]
    factor = side / max(height, width)
    inner = tuple(max(1, min(side, round(length * factor))) for length in (height, width))
    return Square(_mirrored(resize(picture, inner), (side, side)), inner, (height, width))


def canvas(picture: Tensor, side: int) -> Square:
    """[b, 3, h, w] at its own size, mirrored up to pairs of tokens and one tile at least, if it is larger than a tile.

    side: of a tile; smaller pictures are made to `fit` it. EditError for one that is no even number of tokens.
    """
    _check(side)
    size = tuple(picture.shape[-2:])
    if max(size) <= side:
        return fit(picture, side)
    whole = tuple(max(side, -(-length // PAIR) * PAIR) for length in size)
    return Square(_mirrored(picture, whole), size, size, side)


def _check(side: int) -> None:
    if side < PAIR or side % PAIR:
        raise EditError(f"The side {side} is not a multiple of {PAIR} px, which the tokens need; use 1024 or 512.")


def _mirrored(x: Tensor, size: tuple[int, int]) -> Tensor:
    """[b, c, h, w] continued by its mirror image to the right and below."""
    for axis, length in zip((-2, -1), size):
        if x.shape[axis] != length:
            x = x.index_select(axis, _mirror(x.shape[axis], length).to(x.device))
    return x


def _mirror(length: int, wanted: int) -> Tensor:
    """The indices 0..n-1, n-1..0, 0.. of a mirrored axis."""
    position = torch.arange(wanted) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
