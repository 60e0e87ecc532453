"""Working on a part of a picture: crop around a mask, stitch back, and the compositing that leaves the rest exact."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import masks
from .errors import EditError
from .image import resize

STRIP = 256  # rows at a time: what is computed on the way needs little memory
SURROUNDINGS = 128  # px that a new strip is continued from, at least


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
    out = torch.empty_like(image)
    for start in range(0, image.shape[-2], STRIP):
        rows = (..., slice(start, start + STRIP), slice(None))
        weight = mask[:, None][rows]
        blended = torch.where(
            weight >= 1, edited[rows], torch.lerp(image[rows], edited[rows], weight.clamp(0, 1))
        )
        out[rows] = torch.where(weight > 0, blended, image[rows])
    return out


def new_strips(hole: Tensor, context: float) -> list[tuple[Crop, Crop]]:
    """The strips around a picture that a hole [1, h, w] consists of, each with the window that it is continued from.

    Top and bottom reach into the corners. A window is `context` times as deep as its strip on the picture's side. A
    hole of another shape is one piece with the whole canvas around it.
    """
    height, width = hole.shape[-2:]
    known = hole[0] == 0
    rows, columns = torch.nonzero(known.any(1))[:, 0], torch.nonzero(known.any(0))[:, 0]
    canvas = Crop(0, 0, height, width)
    if not len(rows):
        return [(canvas, canvas)]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if int(known.sum()) != (bottom - top) * (right - left):
        return [(canvas, canvas)]
    strips = [
        (Crop(0, 0, top, width), Crop(0, 0, _reach(top, context, height), width)),
        (Crop(bottom, 0, height - bottom, width), None),
        (Crop(top, 0, bottom - top, left), Crop(0, 0, height, _reach(left, context, width))),
        (Crop(top, right, bottom - top, width - right), None),
    ]
    for index, side in ((1, height), (3, width)):
        strip = strips[index][0]
        depth = _reach(strip.height if index == 1 else strip.width, context, side)
        window = (
            Crop(height - depth, 0, depth, width) if index == 1 else Crop(0, width - depth, height, depth)
        )
        strips[index] = (strip, window)
    return [(strip, window) for strip, window in strips if strip.height and strip.width]


def _reach(breadth: int, context: float, side: int) -> int:
    return min(side, breadth + max(SURROUNDINGS, round(context * breadth)))
