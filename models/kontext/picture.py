"""A reference picture at its own budget of tokens: scaled down, and padded to whole tokens, never cut."""

import math

from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError
from ..image import resize
from .schedule import TOKEN_SIDE

MEGAPIXEL = 2**20  # 1024 x 1024, 4096 tokens
LARGEST = 2.0


def size_of(width: int, height: int, megapixels: float) -> tuple[int, int]:
    """(width, height) in pixels within a budget, of the same shape; 0 is no budget. Never larger than it was."""
    if not 0 <= megapixels <= LARGEST:
        raise EditError(f"The budget is {megapixels} megapixels; give 0.25 to {LARGEST:g}, or 0 for none.")
    scale = math.sqrt(megapixels * MEGAPIXEL / (width * height)) if megapixels else 1.0
    if scale >= 1:
        return width, height
    return max(TOKEN_SIDE, math.floor(width * scale)), max(TOKEN_SIDE, math.floor(height * scale))


def within(image: Tensor, megapixels: float) -> Tensor:
    """A picture [b, 3, h, w] within its budget, its right and lower edges repeated up to whole tokens (16 px)."""
    width, height = size_of(image.shape[-1], image.shape[-2], megapixels)
    return whole_tokens(resize(image, (height, width)))


def mask_within(mask: Tensor, image: tuple[int, int], megapixels: float) -> Tensor:
    """A mask [h, w] of a picture of that (height, width) as the picture is brought within its budget."""
    width, height = size_of(image[1], image[0], megapixels)
    fitted = F.interpolate(mask[None, None].float(), (height, width), mode="area")
    return whole_tokens(fitted)[0, 0]


def whole_tokens(x: Tensor) -> Tensor:
    """[b, c, h, w] with its right and lower edges repeated so that both sides are multiples of 16."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % TOKEN_SIDE, 0, -height % TOKEN_SIDE), mode="replicate")
