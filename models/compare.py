"""Two pictures side by side: pairs from batches of any length, their difference, and heat maps to lay over them."""

import torch
from torch import Tensor

from . import masks
from .colour import colours
from .image import resize

GREY = 1 / 255  # channels closer together than this are one grey


def repeated(values: Tensor, count: int) -> Tensor:
    """A batch brought to `count` items: its last one repeated, or what is too many left out."""
    lacking = count - len(values)
    return values[:count] if lacking <= 0 else torch.cat([values, values[-1:].expand(lacking, *values.shape[1:])])


def difference(a: Tensor, b: Tensor) -> Tensor:
    """|a − b| of pictures [m, 3, h, w] and [n, 3, H, W]: [max(m, n), 3, h, w].

    b is scaled to a's size; the shorter batch repeats its last picture.
    """
    count = max(len(a), len(b))
    return (repeated(a, count) - resize(repeated(b, count), a.shape[-2:])).abs()


def heat(values: Tensor) -> Tensor:
    """Values [b, h, w], 0..1, in the pack's colours of heat with the root of the value as alpha: [b, 4, h, w].

    0 is fully transparent, so that over a picture only what is hot covers it.
    """
    values = values.clamp(0, 1)
    return torch.cat([colours(values), values.sqrt()[:, None]], dim=1)


def layer(shown: Tensor, size: tuple[int, int], strength: float = 1.0) -> Tensor:
    """A map as the layer over a picture of (height, width) `size`: [b, 4, h, w].

    shown: a mask [b, h, w]; or a picture [b, 3, h, w], which is a heat map in colours of its own unless it is grey.
    strength: factor for the values of a mask or a grey picture.
    """
    if shown.ndim == 4 and not is_grey(shown):
        coloured = resize(shown, size)
        return torch.cat([coloured, torch.ones_like(coloured[:, :1])], dim=1)
    values = shown[:, 0] if shown.ndim == 4 else shown
    return heat(masks.fit(values, *size) * strength)


def is_grey(picture: Tensor) -> bool:
    """Whether the channels of [b, 3, h, w] are all alike."""
    return bool((picture.amax(1) - picture.amin(1)).max() < GREY)
