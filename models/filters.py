"""Blurs that several edits share; all of them fixed convolutions and pools, so that they export to a phone."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

WIDE = 12.0  # px of sigma from which a blur is computed on a smaller copy


def gaussian_kernel(sigma: float, *, device=None, dtype=torch.float32) -> Tensor:
    """A normalised 1-D Gaussian out to 3 sigma."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=device, dtype=dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def gaussian_blur(x: Tensor, sigma: float, pad: str = "replicate") -> Tensor:
    """Separable Gaussian of [b, c, h, w]; sigma in pixels, 0 returns x. pad: replicate or constant (zeros)."""
    if sigma <= 0:
        return x
    if sigma > WIDE:
        return _wide_blur(x, sigma, pad)
    kernel = gaussian_kernel(sigma, device=x.device, dtype=x.dtype)
    radius, channels = len(kernel) // 2, x.shape[1]
    x = F.pad(x, (radius, radius, radius, radius), mode=pad)
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _wide_blur(x: Tensor, sigma: float, pad: str) -> Tensor:
    """A wide Gaussian on a smaller copy: it has no detail that the copy could lose."""
    factor = int(sigma // (WIDE / 2))
    h, w = x.shape[-2:]
    x = F.pad(x, (0, -w % factor, 0, -h % factor), mode="replicate" if pad == "replicate" else "constant")
    small = gaussian_blur(F.avg_pool2d(x, factor), sigma / factor, pad)
    return F.interpolate(small, scale_factor=factor, mode="bilinear", align_corners=False)[..., :h, :w]


def masked_blur(x: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Normalised blur of [b, c, h, w] that sees only where known [b, 1, h, w] is 1; far inside the rest it is 0."""
    weight = gaussian_blur(known, sigma)
    return gaussian_blur(x * known, sigma) / weight.clamp_min(1e-4)


def box_blur(x: Tensor, radius: int) -> Tensor:
    """Mean over a square of side 2 · radius + 1, over what lies inside the picture."""
    if radius < 1:
        return x
    side = 2 * radius + 1
    pool = lambda v: F.avg_pool2d(v, (side, 1), 1, (radius, 0), count_include_pad=False)  # noqa: E731
    return F.avg_pool2d(pool(x), (1, side), 1, (0, radius), count_include_pad=False)


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    """Local affine model x ≈ a · guide + b (He et al., 2013). guide: [b, 1, h, w], x: [b, c, h, w]. Returns (a, b)."""
    mean_g, mean_x = box_blur(guide, radius), box_blur(x, radius)
    variance = box_blur(guide * guide, radius) - mean_g**2
    slope = (box_blur(guide * x, radius) - mean_g * mean_x) / (variance + eps)
    return box_blur(slope, radius), box_blur(mean_x - slope * mean_g, radius)


class Enlarged:
    """A small map [b, c, h', w'] seen at a larger size (bilinear, half-pixel centres), computed window by window.

    What is smooth is kept small: a picture of 12 megapixels never holds its low frequencies a second time.
    """

    def __init__(self, small: Tensor, size: tuple[int, int]):
        self.size, height = (int(size[0]), int(size[1])), small.shape[-2]
        self.columns = (
            small
            if small.shape[-1] == self.size[1]
            else F.interpolate(small, size=(height, self.size[1]), mode="bilinear", align_corners=False)
        )

    def window(self, rows: slice, columns: slice = slice(None)) -> Tensor:
        """[b, c, rows, columns] of the enlarged map. The slices need a start and a stop (columns may be all)."""
        source, height = self.columns[..., columns], self.columns.shape[-2]
        if height == self.size[0]:
            return source[..., rows, :]
        y = torch.arange(rows.start, rows.stop, device=source.device, dtype=torch.float32)
        y = ((y + 0.5) * height / self.size[0] - 0.5).clamp(0, height - 1)
        low = y.floor().long()
        t = (y - low).to(source.dtype)[:, None]
        return torch.lerp(source[..., low, :], source[..., (low + 1).clamp(max=height - 1), :], t)
