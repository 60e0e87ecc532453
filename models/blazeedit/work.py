"""The small canvas on which the network works, cut from the user's picture, and what is needed to go back."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import masks
from ..image import resize
from ..region import Crop, crop_around
from .tasks import Task

STICKER_CONTEXT = 1.15
FILL_CONTEXT = 2.0  # side of the crop over the side of the hole: the hole is about a quarter of it
SHADOW_CONTEXT = 3.6  # the object covers about 7 % of what the gain head sees, as in its training


@dataclass
class Work:
    """One picture of a batch on its way through the network."""

    image: Tensor  # [1, 3, h, w] at full size, its shadow already lifted for removal
    original: Tensor  # [1, 3, h, w] as the user gave it
    mask: Tensor  # [1, h, w] strength 0..1
    small: Tensor  # [1, 3, hw, ww] what f_θ sees
    small_mask: Tensor  # [1, hw, ww] of 0 and 1
    guess: Tensor  # [1, 3, hw, ww]
    guess_latent: Tensor | None  # this and all that follows may be larger than the canvas: of a model's fixed size
    features: Tensor  # f_θ(x, τ·m)
    crop: Crop | None = None
    shadow: Tensor | None = None  # [1, h, w] where the shadow was lifted, 0 or 1


@dataclass
class Conditioning:
    """What the encoder hands to the sampler, decoder and delivery: a task and one Work per picture."""

    task: Task
    works: list[Work] = field(default_factory=list)


@dataclass
class Edit:
    """A finished edit. image: [b, 3, h, w] ([b, 4, h, w] for stickers); changed: [b, h, w], 0 where nothing moved."""

    image: Tensor
    changed: Tensor


def fitted(height: int, width: int, longest: int, multiple: int = 8) -> tuple[int, int]:
    """The size with the longer side at most `longest`, both sides multiples of `multiple`, aspect kept."""
    scale = min(1.0, longest / max(height, width))
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))


def fill_canvas(image: Tensor, hole: Tensor, longest: int, whole: bool) -> tuple[Tensor, Tensor, Crop | None]:
    """The surroundings of a hole, at most `longest` px a side: the crop around it, or all of it for outpainting.

    Known pixels are averaged over known pixels only: what is in the hole must not bleed into its edge, from where
    every fill continues.
    """
    crop = None
    if not whole:
        image, hole, crop = crop_around(image, hole, context=FILL_CONTEXT, multiple=8, minimum=64)
    size = fitted(*image.shape[-2:], longest)
    return *shrink_known(image, hole, size), crop


def shrink_known(image: Tensor, hole: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Picture and hole at a smaller size; known pixels are averaged over known pixels only."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image, hole
    known = 1 - hole[:, None]
    weight = resize(known, size, mode="area")
    small_hole = (weight[:, 0] < 0.5).float()
    if not bool(small_hole.any()):  # a hole thinner than a working pixel
        small_hole = (weight[:, 0] < 1).float()
    clean = resize(image * known, size, mode="area") / weight.clamp_min(1e-3)
    return torch.where(small_hole[:, None] > 0, resize(image, size, mode="area"), clean), small_hole


def sticker_canvas(image: Tensor, mask: Tensor, longest: int) -> tuple[Tensor, Tensor, Crop]:
    """The subject with a little of its surroundings, at most `longest` px a side."""
    image, mask, crop = crop_around(image, mask, context=STICKER_CONTEXT, multiple=8, minimum=64)
    size = fitted(*image.shape[-2:], longest)
    subject = masks.fit(masks.binarise(mask), *size, mode="nearest")
    return resize(image, size), subject, crop


def padded_alike(images: list[Tensor]) -> list[Tensor]:
    """Pictures [1, c, h, w] padded on the right and at the bottom, by repeating the edge, to the largest of them."""
    height, width = (max(i.shape[axis] for i in images) for axis in (-2, -1))
    pads = [(0, width - i.shape[-1], 0, height - i.shape[-2]) for i in images]
    return [torch.nn.functional.pad(i, p, mode="replicate") for i, p in zip(images, pads, strict=True)]
