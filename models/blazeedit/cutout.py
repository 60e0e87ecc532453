"""The sticker's outline: a white die-cut border and a soft drop shadow, exact functions of the mask alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..errors import EditError
from ..filters import gaussian_blur

SHADOW_OPACITY = 0.35


def die_cut(image: Tensor, mask: Tensor, border: int, shadow: bool = True) -> Tensor:
    """Cuts a subject out with a white border and, if wanted, a drop shadow.

    image: [b, 3, h, w], mask: [b, h, w] with soft edges allowed, border in pixels. Returns RGBA
    [b, 4, h + 2m, w + 2m] with a margin m for border and shadow. EditError for a negative border.
    """
    if border < 0:
        raise EditError(f"The border is {border} px; use 0 or more.")
    m = margin(border, shadow)
    image = F.pad(image, (m, m, m, m), mode="replicate") if m else image
    subject = F.pad(mask, (m, m, m, m))
    outline = masks.grow(subject, border)
    if border:
        outline = torch.maximum(subject, gaussian_blur(outline[:, None], 0.7)[:, 0])  # antialiased
    colour = torch.lerp(torch.ones_like(image), image, subject[:, None])
    if not shadow:
        return torch.cat([colour, outline[:, None]], dim=1)
    return _over_shadow(colour, outline, drop_shadow(outline, border))


def margin(border: int, shadow: bool) -> int:
    """Pixels that the canvas grows on each side."""
    return border + (3 * max(2, border // 2) + 2 if shadow else 2 if border else 0)


def drop_shadow(outline: Tensor, border: int) -> Tensor:
    """The opacity [b, h, w] of a soft shadow a little below the outline [b, h, w]."""
    softness = max(2, border // 2)
    lowered = F.pad(outline, (0, 0, softness, 0))[:, : outline.shape[-2]]
    return SHADOW_OPACITY * gaussian_blur(lowered[:, None], softness * 0.8, pad="constant")[:, 0]


def _over_shadow(colour: Tensor, outline: Tensor, shadow: Tensor) -> Tensor:
    """Straight-alpha "over": the sticker in front of its black shadow."""
    alpha = outline + shadow * (1 - outline)
    straight = colour * (outline / alpha.clamp_min(1e-4))[:, None]
    return torch.cat([straight, alpha[:, None]], dim=1)
