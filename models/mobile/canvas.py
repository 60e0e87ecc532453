"""A bundle's networks take pictures of one size: smaller ones are mirrored up to it, and what comes out is cut again.

Mirrored, because the networks' norms see the whole canvas: its statistics stay those of the picture.
"""

import torch
from torch import Tensor

from ..errors import EditError


def mirrored(x: Tensor, height: int, width: int) -> Tensor:
    """[..., h, w] continued to the right and below by its mirror image (0..n-1, n-1..0, 0.., ...).

    EditError when x is larger than that.
    """
    if x.shape[-2] > height or x.shape[-1] > width:
        raise EditError(
            f"A picture of {x.shape[-1]}x{x.shape[-2]} px does not fit the bundle's canvas of {width}x{height}; "
            "export it with a larger --sizes."
        )
    for axis, wanted in ((-2, height), (-1, width)):
        if x.shape[axis] != wanted:
            x = x.index_select(axis, mirror(x.shape[axis], wanted).to(x.device))
    return x


def mirror(length: int, wanted: int) -> Tensor:
    """The indices 0..n-1, n-1..0, 0.. of a mirrored axis, `wanted` of them."""
    position = torch.arange(wanted) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
