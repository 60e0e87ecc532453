"""A tensor as the picture that a model outside of ComfyUI sees."""

import torch
from torch import Tensor


def as_pillow(picture: Tensor, side: int = 0):
    """[3, h, w] in 0..1 as a Pillow image in RGB; scaled down where its longest side is over `side` pixels."""
    from PIL import Image

    values = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(values)
    if side and max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
