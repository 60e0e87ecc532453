"""Working on a part of a picture: crop around a mask, stitch back, and the compositing that leaves the rest exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import masks
from .errors import EditError
from .image import resize


@dataclass(frozen=True)
class Crop:
    """A window of a picture in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple:
        return (..., slice(self.top, self.top + self.height), slice(self.left, self.left + self.width))


def crop_around(
    image: Tensor, mask: Tensor, *, context: float = 2.0, multiple: int = 8, minimum: int = 64
) -> tuple[Tensor, Tensor, Crop]:
    """The window around a mask, with `context` times the mask's side, moved so that it stays inside the picture.

    image: [b, c, h, w], mask: [b, h, w]. Sides are rounded up to `multiple` where the picture allows, and are at
    least `minimum`. Returns the crop of both and its place. EditError for an empty mask or a context below 1.
    """
    if context < 1:
        raise EditError(f"The context is {context}; use 1 (the mask itself) or more.")
    top, left, bottom, right = masks.bounding_box(mask)
    # a long thin mask needs surroundings on its thin side too
    side = max(bottom - top, right - left)
    first, height = _span(
        top, bottom, max(context * (bottom - top), side, minimum), image.shape[-2], multiple
    )
    start, width = _span(left, right, max(context * (right - left), side, minimum), image.shape[-1], multiple)
    crop = Crop(first, start, height, width)
    return image[crop.window], mask[crop.window], crop


def _span(start: int, end: int, wanted: float, limit: int, multiple: int) -> tuple[int, int]:
    length = min(limit, -(-int(round(wanted)) // multiple) * multiple)
    first = round((start + end - length) / 2)
    return max(0, min(first, limit - length)), length


def stitch(image: Tensor, edited: Tensor, crop: Crop, mask: Tensor | None = None) -> Tensor:
    """Puts an edited crop back, resized to its window, where the mask (of the crop or the picture) lets it.

    Pixels outside the mask are bit-identical. EditError when the crop lies outside the picture.
    """
    if crop.top + crop.height > image.shape[-2] or crop.left + crop.width > image.shape[-1]:
        raise EditError(
            f"The crop {crop} does not lie inside a picture of {image.shape[-1]}x{image.shape[-2]} px."
        )
    window = image[crop.window]
    edited = resize(edited, (crop.height, crop.width))
    if mask is None:
        mask = torch.ones(len(image), crop.height, crop.width, device=image.device)
    elif mask.shape[-2:] == image.shape[-2:]:
        mask = mask[crop.window]
    out = image.clone()
    out[crop.window] = composite(window, edited, masks.fit(mask, crop.height, crop.width, len(image)))
    return out


def composite(image: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """Blends `edited` over `image` by the mask; bit-identical to `image` where the mask is 0, to `edited` where 1.

    image, edited: [b, c, h, w], mask: [b, h, w]. EditError when the sizes differ.
    """
    if image.shape[-2:] != edited.shape[-2:]:
        raise EditError(
            f"An edited picture of {tuple(edited.shape[-2:])} does not fit one of {tuple(image.shape[-2:])}; "
            "composite pictures of one size."
        )
    weight = mask[:, None]
    blended = torch.where(weight >= 1, edited, torch.lerp(image, edited, weight.clamp(0, 1)))
    return torch.where(weight > 0, blended, image)
