"""One turn of an editing session on latents: what of the last turn is edited, and what is put back to the bit."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..errors import EditError

CELL = 8  # pixels per latent and side, of FLUX's VAE


def latent_mask(mask: Tensor, size: tuple[int, int], batch: int = 1) -> Tensor:
    """A mask [h, w] or [b, h, w] in pixels at the size of a latent: [b, 1, *size], 0..1.

    A latent that the mask touches is edited, with the strongest value that lies in it; one that it does not touch is
    0. A mask of another shape is stretched over the latent. EditError for NaN and for a batch that does not fit.
    """
    mask = masks.checked(mask).clamp(0, 1)
    if len(mask) not in (1, batch):
        raise EditError(f"{len(mask)} masks do not fit {batch} latents; give one mask, or one per latent.")
    return F.adaptive_max_pool2d(mask[:, None], size)


def restored(sampled: Tensor, before: Tensor, mask: Tensor) -> Tensor:
    """What was sampled, with every value whose mask is 0 as it was before, to the bit.

    All [b, c, h, w]; the mask may have one channel and one row of the batch. Returns a new tensor in the type of
    `sampled`. Samplers leave values outside their mask near, not equal.
    """
    return torch.where(mask.to(sampled.device) > 0, sampled, before.to(sampled))


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two latents are equal: an anchor that is the picture itself would be the same reference twice."""
    return one.shape == other.shape and torch.equal(one, other.to(one))


def in_pixels(mask: Tensor) -> Tensor:
    """A mask of latents [b, h, w] in pixels: [b, 8·h, 8·w]."""
    return F.interpolate(mask[:, None], scale_factor=CELL, mode="nearest")[:, 0]


def checked(latent: dict, what: str, channels: int | None = None) -> Tensor:
    """The samples [b, c, h, w] of a LATENT. EditError for another kind, for NaN, and for another family's channels."""
    samples = latent.get("samples")
    if samples is None or samples.ndim != 4 or 0 in samples.shape:
        shape = None if samples is None else list(samples.shape)
        raise EditError(f"The {what} is {shape}, not a latent of [batch, channels, height, width].")
    if channels is not None and samples.shape[1] != channels:
        raise EditError(
            f"The {what} has {samples.shape[1]} channels and the MODEL's have {channels}; encode the picture with "
            "FLUX's VAE."
        )
    if not bool(torch.isfinite(samples).all()):
        raise EditError(f"The {what} holds NaN or infinite values; check the node that made it.")
    return samples
