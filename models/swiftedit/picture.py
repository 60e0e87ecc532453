"""Photographs of any size at the size that the networks were trained for, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import masks
from ..errors import EditError
from ..image import Padding, pad_to_multiple, resize, unpad

CELL = 8  # pixels of a picture per latent


@dataclass(frozen=True)
class Fitted:
    """A picture scaled and padded for the networks: pixels [b, 3, h, w], sides multiples of 8."""

    pixels: Tensor
    padding: Padding
    original: tuple[int, int]

    @property
    def inner(self) -> tuple[int, int]:
        """(height, width) without the padding."""
        return self.pixels.shape[-2] - self.padding.bottom, self.pixels.shape[-1] - self.padding.right

    @property
    def cells(self) -> tuple[int, int]:
        """(height, width) of its latent."""
        return self.pixels.shape[-2] // CELL, self.pixels.shape[-1] // CELL

    def trimmed(self, decoded: Tensor) -> Tensor:
        """A decoded picture [b, 3, h, w] of the fitted size without the padding."""
        return unpad(decoded, self.padding)

    def restored(self, decoded: Tensor) -> Tensor:
        """A decoded picture [b, 3, h, w] of the fitted size at the original size."""
        return resize(self.trimmed(decoded), self.original)

    def mask_in(self, mask: Tensor) -> Tensor:
        """A mask [b, H, W] of the original at the fitted size, averaged where it shrinks: [b, h, w]."""
        small = masks.fit(mask, *self.original)
        mode = "area" if self.inner[0] <= self.original[0] else "bilinear"
        small = resize(small[:, None], self.inner, mode).clamp(0, 1)
        height, width = self.pixels.shape[-2:]
        padded = torch.nn.functional.pad(
            small, (0, width - small.shape[-1], 0, height - small.shape[-2]), mode="replicate"
        )
        return padded[:, 0]

    def mask_out(self, mask: Tensor, smooth: bool = False) -> Tensor:
        """A mask of the latent's size [b, h/8, w/8] at the original's: cells as they are, or smooth between them."""
        cells = torch.nn.functional.interpolate(
            mask[:, None], size=self.pixels.shape[-2:], mode="bilinear" if smooth else "nearest"
        )
        return resize(unpad(cells, self.padding), self.original, "bilinear" if smooth else "nearest")[
            :, 0
        ].clamp(0, 1)


def fit(picture: Tensor, side: int = 512) -> Fitted:
    """Scales [b, 3, h, w] to about side² pixels, keeping its shape, and pads it at most 7 px to multiples of 8.

    side: 0 keeps the size. EditError for a side below 64.
    """
    if side and side < 64:
        raise EditError(
            f"The side {side} is too small for Stable Diffusion; use 512, or 0 for the picture's own size."
        )
    height, width = picture.shape[-2:]
    factor = side / (height * width) ** 0.5 if side else 1.0
    # a very long picture keeps at least one latent row of every scale
    inner = tuple(max(CELL, round(length * factor)) for length in (height, width))
    pixels, padding = pad_to_multiple(resize(picture, inner), CELL)
    return Fitted(pixels, padding, (height, width))
