"""What a VAE alone does to a picture: the floor under every edit that passes through it (Table 1)."""

import numpy as np
import torch
from torch import Tensor

from .. import measures
from ..errors import EditError


def difference(picture: Tensor, decoded: Tensor, gain: float) -> Tensor:
    """|decoded - picture| · gain of [b, 3, h, w], 0..1."""
    return ((decoded - picture).abs() * gain).clamp(0, 1)


def measured(picture: Tensor, decoded: Tensor) -> list[tuple[float, float]]:
    """(PSNR in dB, SSIM of the luminance) of each of [b, 3, h, w]. EditError when the decoded holds NaN."""
    if not bool(torch.isfinite(decoded).all()):
        raise EditError("The VAE gave NaN or infinite values; run it in fp32 or bf16 (--fp32-vae, --bf16-vae).")
    rows = []
    for one, other in zip(picture, decoded, strict=True):
        a, b = (x.movedim(0, -1).float().cpu().numpy() for x in (one, other))
        rows.append((measures.psnr(b, a), measures.ssim(b, a)))
    return rows


def mean(rows: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean PSNR and SSIM."""
    psnr, ssim = np.mean(rows, axis=0)
    return float(psnr), float(ssim)


def report(rows: list[tuple[float, float]], size: tuple[int, int]) -> str:
    """The numbers as text. size: (height, width)."""
    lines = [f"picture {i + 1}: PSNR {p:.2f} dB, SSIM {s:.4f}" for i, (p, s) in enumerate(rows)]
    psnr, ssim = mean(rows)
    head = f"VAE round-trip at {size[1]}x{size[0]} px: PSNR {psnr:.2f} dB, SSIM {ssim:.4f}"
    return "\n".join([head, *(lines if len(rows) > 1 else [])])
