"""The diptych that FLUX Fill completes (§3.1): the picture on the left, what is to be made of it on the right."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import masks, region
from ..errors import EditError
from ..image import resize

TRAINED_WIDTH = 512
MULTIPLE = 16  # pixels of a token: the autoencoder's 8 times the transformer's 2


@dataclass(frozen=True, eq=False)
class Diptych:
    """What was made of a picture, and all that is needed to put the edit back into it.

    rgb [b, 3, H, W] and alpha [b, H, W] or None: the picture as it came; mask [b, H, W] or None: where to edit;
    size: (h, w) of one panel.
    """

    rgb: Tensor
    alpha: Tensor | None
    mask: Tensor | None
    size: tuple[int, int]

    @property
    def panel(self) -> Tensor:
        """The left panel [b, 3, h, w]."""
        return resize(self.rgb, self.size).clamp(0, 1)

    def pair(self) -> Tensor:
        """The diptych [b, 3, h, 2·w], with the picture on both sides."""
        return torch.cat([self.panel] * 2, -1)

    def edited(self) -> Tensor:
        """Where FLUX Fill paints [b, h, 2·w]: in the right panel, all of it or inside the mask."""
        left = torch.zeros(len(self.rgb), *self.size, device=self.rgb.device)
        right = torch.ones_like(left) if self.mask is None else masks.fit(self.mask, *self.size)
        return torch.cat([left, right.to(left)], -1)


def panel_size(height: int, width: int, wanted: int = TRAINED_WIDTH) -> tuple[int, int]:
    """(h, w) of a panel for a picture: w is `wanted`, h keeps the shape; both rounded to a multiple of 16 px.

    wanted: 0 keeps the picture's own width. EditError below 16.
    """
    if wanted != 0 and wanted < MULTIPLE:
        raise EditError(f"A panel cannot be {wanted} px wide; use at least {MULTIPLE}, or 0 for the picture's width.")
    panel = _rounded(wanted or width)
    return _rounded(height * panel / width), panel


def _rounded(side: float) -> int:
    return max(MULTIPLE, int(side / MULTIPLE + 0.5) * MULTIPLE)


def diptych(rgb: Tensor, alpha: Tensor | None, mask: Tensor | None, wanted: int = TRAINED_WIDTH) -> Diptych:
    """Scales a picture [b, 3, H, W] of any size to a panel, never cropping. mask: [1 or b, H', W'], white is edited.

    EditError for a mask larger than the picture, of another number, or all black.
    """
    if mask is not None:
        height, width = rgb.shape[-2:]
        if mask.shape[-2] > height or mask.shape[-1] > width:
            raise EditError(
                f"The mask is {mask.shape[-1]}x{mask.shape[-2]} px, larger than the picture of {width}x{height}; "
                "give the mask of this picture."
            )
        mask = masks.fit(mask, height, width, len(rgb))
        if not bool((mask > 0).any()):
            raise EditError("The mask is empty (all black); paint the region to edit white, or leave the mask open.")
    return Diptych(rgb, alpha, mask, panel_size(*rgb.shape[-2:], wanted))


def uncropped(made: Tensor, record: Diptych, feather: int = 0) -> tuple[Tensor, Tensor | None, Tensor]:
    """Takes the right panel of a sampled diptych [n, 3, h, 2·w] back into the picture, at the picture's own size.

    Returns (rgb [n, 3, H, W], alpha, changed [n, H, W]). With a mask, pixels outside it are the picture's, bit for
    bit; `feather` blends inward over so many pixels. The diptych may have been enlarged. n: one or several edits per
    picture, in the order of the batch. EditError for a diptych of another shape or number.
    """
    _check(made, record)
    several = max(1, len(made) // len(record.rgb))
    rgb, alpha, mask = (None if x is None else x.repeat(several, *[1] * (x.ndim - 1)).to(made.device)
                        for x in (record.rgb, record.alpha, record.mask))  # fmt: skip
    right = resize(made[..., made.shape[-1] // 2 :], tuple(rgb.shape[-2:])).clamp(0, 1)
    if mask is None:
        return right, alpha, torch.ones(len(rgb), *rgb.shape[-2:], device=rgb.device)
    changed = masks.invert(masks.feather(masks.invert(mask), feather)) if feather else mask
    return region.composite(rgb, right, changed), alpha, changed


def _check(made: Tensor, record: Diptych) -> None:
    height, width = record.size
    if len(made) % len(record.rgb):
        raise EditError(f"{len(made)} diptychs do not fit {len(record.rgb)} pictures; give as many of each picture.")
    if abs(made.shape[-1] * height - made.shape[-2] * 2 * width) > 2 * (height + 2 * width):
        raise EditError(
            f"A picture of {made.shape[-1]}x{made.shape[-2]} px is not this diptych of {2 * width}x{height}; wire the "
            "decoded diptych as it comes, or enlarged with both panels."
        )


def panels(length: int, width: int) -> tuple[Tensor, Tensor]:
    """The tokens' numbers of the left and of the right panel: `length` tokens in rows of 2 · `width`."""
    columns = torch.arange(length) % (2 * width)
    return (columns < width).nonzero()[:, 0], (columns >= width).nonzero()[:, 0]
