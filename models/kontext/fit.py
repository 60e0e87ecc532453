"""Photographs at about the size that Kontext was trained on, and back: nothing is cropped, nothing squashed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import masks, region
from ..errors import EditError
from ..image import Padding, pad_to_multiple, resize, unpad

MULTIPLE = 16  # px: 8 per latent, and 2 latents per token and side
# (width, height) that FLUX.1 Kontext was trained on
TRAINED = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688),
    (1568, 672),
)  # fmt: skip
MEGAPIXEL, NEAREST, OWN = "1 megapixel", "nearest trained size", "own size"
SIZES = (MEGAPIXEL, NEAREST, OWN, *(f"{width} x {height}" for width, height in TRAINED))


@dataclass(frozen=True)
class Fitted:
    """How a picture was scaled and padded, with the picture itself: rgb [b, 3, H, W], alpha [b, H, W] or None."""

    rgb: Tensor
    alpha: Tensor | None
    inner: tuple[int, int]  # (height, width) without the padding
    size: tuple[int, int]  # (height, width) with it

    @property
    def original(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return tuple(self.rgb.shape[-2:])

    @property
    def padding(self) -> Padding:
        return Padding(self.size[1] - self.inner[1], self.size[0] - self.inner[0])

    def restored(self, edited: Tensor) -> Tensor:
        """An edit [b, 3, k·h, k·w] of the fitted size, or a whole multiple of it, at the original size.

        EditError for another size.
        """
        return resize(unpad(edited, self.padding, self._scale(edited)), self.original)

    def mask_in(self, mask: Tensor) -> Tensor:
        """A mask of the original, of any size, at the fitted size: [b, h, w]. It goes on into the padding."""
        small = masks.fit(mask, *self.inner)
        padded = torch.nn.functional.pad(
            small[:, None], (0, self.padding.right, 0, self.padding.bottom), mode="replicate"
        )
        return padded[:, 0]

    def mask_out(self, mask: Tensor, batch: int) -> Tensor:
        """A mask of the original's size, of the fitted one (which loses its padding), or any other: [batch, H, W]."""
        shape = tuple(mask.shape[-2:])
        if shape != self.original and self._factor(shape) is not None:
            mask = unpad(mask, self.padding, self._factor(shape))
        return masks.fit(mask, *self.original, batch=batch)

    def _factor(self, shape: tuple[int, int]) -> int | None:
        factor = shape[0] // self.size[0]
        return factor if factor and shape == (factor * self.size[0], factor * self.size[1]) else None

    def _scale(self, edited: Tensor) -> int:
        height, width = edited.shape[-2:]
        factor = self._factor((height, width))
        if factor is None:
            raise EditError(
                f"A picture of {width}x{height} px is not the fitted one: that is {self.size[1]}x{self.size[0]}; "
                "edit it at that size, or enlarge it by a whole number."
            )
        return factor


def fit(rgb: Tensor, alpha: Tensor | None, size: str = MEGAPIXEL, multiple: int = MULTIPLE) -> tuple[Tensor, Fitted]:
    """Scales [b, 3, H, W] as `size` says, keeping its shape, and repeats its edge up to a multiple of pixels.

    At most multiple - 1 px are added on the right and at the bottom. Returns ([b, 3, h, w], what `Fitted` undoes).
    EditError for a size that is none of SIZES.
    """
    inner = _inner(tuple(rgb.shape[-2:]), size)
    pixels, _ = pad_to_multiple(resize(rgb, inner), multiple)
    return pixels, Fitted(rgb, alpha, inner, tuple(pixels.shape[-2:]))


def nearest(height: int, width: int) -> tuple[int, int]:
    """The trained (width, height) whose shape is nearest, by the difference of width / height as BFL's code has it."""
    return min(TRAINED, key=lambda size: abs(width / height - size[0] / size[1]))


def _inner(original: tuple[int, int], size: str) -> tuple[int, int]:
    """(height, width) that a picture is scaled to: inside the trained size, or of about 1024² px."""
    height, width = original
    if size == OWN:
        return original
    if size == MEGAPIXEL:
        factor = 1024 / (height * width) ** 0.5
        return max(1, round(height * factor)), max(1, round(width * factor))
    if size not in SIZES:
        raise EditError(f"The size {size!r} is unknown; choose one of {', '.join(SIZES)}.")
    wide, high = nearest(height, width) if size == NEAREST else TRAINED[SIZES.index(size) - 3]
    factor = min(wide / width, high / height)
    return max(1, min(high, round(height * factor))), max(1, min(wide, round(width * factor)))


def unfit(edited: Tensor, fitted: Fitted, mask: Tensor | None = None, feather: int = 0):
    """An edit [b, 3, h, w] of the fitted picture at the original's size, inside the mask only.

    Returns (rgb [b, 3, H, W], alpha [b, H, W] or None, changed [b, H, W]); where changed is 0 the original is
    bit-identical. feather: pixels over which the edit fades inward from the mask's rim. EditError for another size
    and for batches that do not fit.
    """
    edited, batch = fitted.restored(edited), max(len(edited), len(fitted.rgb))
    if len(fitted.rgb) not in (1, batch) or len(edited) not in (1, batch):
        raise EditError(
            f"{len(edited)} edited pictures do not fit {len(fitted.rgb)}; give one, or one per picture of the batch."
        )
    rgb, edited = (x.expand(batch, -1, -1, -1) for x in (fitted.rgb, edited.to(fitted.rgb)))
    alpha = None if fitted.alpha is None else fitted.alpha.expand(batch, -1, -1)
    if mask is None:
        return edited, alpha, torch.ones(batch, *fitted.original, device=rgb.device)
    kept = masks.invert(fitted.mask_out(mask.to(rgb.device), batch))
    changed = masks.invert(masks.feather(kept, feather))  # inward: what the mask left out stays as it is
    return region.composite(rgb, edited, changed), alpha, changed
