"""Any VAE as what takes a picture of any size: ComfyUI's own, or one of the pack's without ComfyUI."""

import math
from typing import Any

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.image import pad_to_multiple, unpad
from .progress import reporter

LEAST = 16  # px: Kontext's own multiple, so that its floor is measured as it works


def round_trip(vae: Any, rgb: Tensor) -> Tensor:
    """Pictures [b, 3, h, w] encoded and decoded, one by one, at their own size.

    Sides are padded to what the VAE and Kontext need, and cut again. EditError for a VAE that gives no picture of
    that size.
    """
    padded, padding = pad_to_multiple(rgb, math.lcm(LEAST, _multiple(vae)))
    tell, out = reporter(), []
    for number, one in enumerate(padded):
        latent = vae.encode(one[None].movedim(1, -1).contiguous())
        made = vae.decode(latent)
        made = made.reshape(-1, *made.shape[-3:])  # a video VAE gives frames
        if tuple(made.shape[1:]) != (*one.shape[-2:], 3):
            raise EditError(
                f"The VAE made {list(made.shape)} of a picture of {one.shape[-1]}x{one.shape[-2]} px; wire a VAE for "
                "pictures."
            )
        out.append(made[:1].movedim(-1, 1).float().to(rgb.device))
        tell(number + 1, len(padded))
    return unpad(torch.cat(out), padding)


def _multiple(vae: Any) -> int:
    """Pixels per latent and side."""
    try:
        return max(1, int(vae.spacial_compression_encode()))
    except (AttributeError, TypeError):
        return 8
