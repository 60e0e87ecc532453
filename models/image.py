"""Pictures as tensors [b, c, h, w], float32 in 0..1: to and from the host's layout, colour, size."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import EditError

LUMA = (0.299, 0.587, 0.114)


def from_host(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """ComfyUI's IMAGE [b, h, w, c] to (rgb [b, 3, h, w], alpha [b, h, w] or None).

    Grey (c = 1) is repeated. EditError for another shape, for NaN, and for an empty picture.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise EditError(f"An image of shape {tuple(image.shape)} is not [batch, height, width, 1, 3 or 4].")
    image = image.float()
    if not bool(torch.isfinite(image).all()):
        raise EditError("The image holds NaN or infinite values; check the node that made it.")
    image = image.clamp(0, 1) if image.min() < 0 or image.max() > 1 else image
    rgb = image[..., :3].expand(*image.shape[:3], 3).permute(0, 3, 1, 2)
    return rgb.contiguous(), image[..., 3].contiguous() if image.shape[-1] == 4 else None


def to_host(rgb: Tensor, alpha: Tensor | None = None) -> Tensor:
    """[b, c, h, w], and an alpha [b, h, w] if there is one, to ComfyUI's [b, h, w, c] in 0..1."""
    if alpha is not None:
        rgb = torch.cat([rgb, alpha[:, None].to(rgb)], dim=1)
    return rgb.permute(0, 2, 3, 1).clamp(0, 1).float().contiguous()


def srgb_to_linear(x: Tensor) -> Tensor:
    """IEC 61966-2-1 decoding, 0..1."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """IEC 61966-2-1 encoding, 0..1."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def luminance(x: Tensor) -> Tensor:
    """Rec. 601 luma of [b, 3, h, w]: [b, 1, h, w]."""
    weight = torch.tensor(LUMA, device=x.device, dtype=x.dtype)[None, :, None, None]
    return (x * weight).sum(1, keepdim=True)


def resize(x: Tensor, size: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resizes [b, c, h, w] to (height, width), antialiased where it shrinks; 0..1 stays 0..1.

    mode: bicubic, bilinear, area or nearest.
    """
    size = (int(size[0]), int(size[1]))
    if tuple(x.shape[-2:]) == size:
        return x
    if mode in ("area", "nearest"):
        return F.interpolate(x, size=size, mode="area" if mode == "area" else "nearest-exact")
    low, high = float(x.min()), float(x.max())
    out = F.interpolate(x, size=size, mode=mode, align_corners=False, antialias=True)
    return out.clamp_(low, high) if mode == "bicubic" else out


@dataclass(frozen=True)
class Padding:
    """How many pixels were added on the right and at the bottom."""

    right: int
    bottom: int


def pad_to_multiple(x: Tensor, multiple: int, mode: str = "replicate") -> tuple[Tensor, Padding]:
    """Pads [b, c, h, w] on the right and at the bottom up to a multiple. `unpad` undoes it exactly."""
    if multiple < 1:
        raise EditError(f"Sides cannot be padded to a multiple of {multiple}; use 1 or more.")
    padding = Padding(-x.shape[-1] % multiple, -x.shape[-2] % multiple)
    return F.pad(x, (0, padding.right, 0, padding.bottom), mode=mode), padding


def unpad(x: Tensor, padding: Padding, scale: int = 1) -> Tensor:
    """Cuts what `pad_to_multiple` added; scale: how much larger x has become since."""
    return x[..., : x.shape[-2] - scale * padding.bottom, : x.shape[-1] - scale * padding.right]
