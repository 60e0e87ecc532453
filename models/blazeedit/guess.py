"""Classical first guesses, made of fixed convolutions, pools and sums only, so that they export to a phone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..filters import gaussian_blur, gaussian_kernel, guided_filter, masked_blur
from ..image import luminance

COARSEST = 8  # px of the multigrid's last level
SWEEPS = (30, 16, 12, 10, 8)  # Jacobi sweeps per level, coarse to fine; the last holds for all finer levels
SPREAD = 0.6  # of a continued border; PSNR still rises a little up to 1, but the eye misses the horizon
BINS = 256
LOW, HIGH = 0.005, 0.995  # percentiles of a stretch
STICKER_STEPS, STICKER_SOFTNESS, STICKER_SATURATION, STICKER_OUTLINE = 5, 0.35, 1.45, 0.85


def membrane(image: Tensor, hole: Tensor) -> Tensor:
    """Fills a hole with the solution of Laplace's equation, on a multigrid (a soap film over the hole's edge).

    image: [b, c, h, w], hole: [b, h, w] of 0 and 1. Returns the image, its hole filled; the rest is bit-identical.
    A picture that is all hole becomes mid-grey.
    """
    known = 1 - hole[:, None]
    filled = _solve(image * known, known, level=0)[0]
    return torch.where(hole[:, None] > 0, filled, image)


def _solve(value: Tensor, known: Tensor, level: int) -> tuple[Tensor, int]:
    """value is 0 where known is 0. Returns the filled level and how many levels lie below it."""
    h, w = value.shape[-2:]
    if min(h, w) <= COARSEST or bool((known > 0).all()):
        start = value + (1 - known) * _mean(value, known)
        return _relax(start, value, known, SWEEPS[0]), 0
    pad = (0, w % 2, 0, h % 2)
    small_value, small_known = (F.pad(v, pad) for v in (value, known))
    weight = F.avg_pool2d(small_known, 2)
    small_value = F.avg_pool2d(small_value, 2) / weight.clamp_min(1e-6)
    coarse, below = _solve(small_value * (weight > 0), (weight > 0).to(value.dtype), level + 1)
    start = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :h, :w]
    return _relax(start, value, known, SWEEPS[min(below + 1, len(SWEEPS) - 1)]), below + 1


def _mean(value: Tensor, known: Tensor) -> Tensor:
    count = known.sum((2, 3), keepdim=True)
    return torch.where(
        count > 0, value.sum((2, 3), keepdim=True) / count.clamp_min(1), torch.full_like(count, 0.5)
    )


def _relax(x: Tensor, value: Tensor, known: Tensor, sweeps: int) -> Tensor:
    """Jacobi sweeps: the unknown becomes the mean of its four neighbours, mirrored at the picture's border."""
    for _ in range(sweeps):
        p = F.pad(x, (1, 1, 1, 1), mode="replicate")
        mean = 0.25 * (p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:])
        x = torch.where(known > 0, value, mean)
    return x


def extend(image: Tensor, hole: Tensor) -> Tensor:
    """Continues a rectangle of known pixels to all sides: its border rows and columns, ever wider blurred.

    At distance d the border is seen through a Gaussian of sigma = SPREAD · d. The membrane's kernel at that distance
    has the heavy tails of a Cauchy distribution: it greys a horizon that this keeps, and is farther from the truth.
    image: [b, c, h, w], hole: [b, h, w] of 0 and 1. A picture whose known pixels are no rectangle gets the membrane.
    """
    out = [_extend_one(image[i : i + 1], hole[i : i + 1]) for i in range(len(image))]
    return torch.where(hole[:, None] > 0, torch.cat(out), image)


def _extend_one(image: Tensor, hole: Tensor) -> Tensor:
    known = hole[0] == 0
    rows, columns = known.any(1).nonzero()[:, 0], known.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return membrane(image, hole)
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if not bool(known[top:bottom, left:right].all()):
        return membrane(image, hole)
    x = image[..., top:bottom, left:right]
    x = _continue_down(_continue_down(x, image.shape[-2] - bottom).flip(2), top).flip(2).transpose(2, 3)
    x = _continue_down(_continue_down(x, image.shape[-1] - right).flip(2), left).flip(2)
    return x.transpose(2, 3)


def _continue_down(x: Tensor, count: int) -> Tensor:
    """[1, c, h, w] to [1, c, h + count, w]: the last row, blurred along itself by SPREAD times the distance."""
    if count == 0:
        return x
    distances = [0.0]
    while distances[-1] < count:  # blurs at a few distances, the rows between them interpolated
        distances.append(distances[-1] + max(1.0, 0.35 * distances[-1]))
    profiles = torch.cat([_blur_row(x[..., -1:, :], SPREAD * d) for d in distances], dim=2)  # [1, c, n, w]
    rows = torch.arange(1, count + 1, device=x.device, dtype=x.dtype)
    at = torch.tensor(distances, device=x.device, dtype=x.dtype)
    upper = torch.searchsorted(at, rows).clamp(1, len(distances) - 1)
    t = ((rows - at[upper - 1]) / (at[upper] - at[upper - 1]))[None, None, :, None]
    return torch.cat([x, torch.lerp(profiles[:, :, upper - 1], profiles[:, :, upper], t)], dim=2)


def _blur_row(row: Tensor, sigma: float) -> Tensor:
    if sigma < 0.3:
        return row
    kernel = gaussian_kernel(min(sigma, 4.0 * row.shape[-1]), device=row.device, dtype=row.dtype).view(
        1, 1, 1, -1
    )
    radius = kernel.shape[-1] // 2
    padded = F.pad(row, (radius, radius, 0, 0), mode="replicate")
    return F.conv2d(padded, kernel.expand(row.shape[1], 1, 1, -1), groups=row.shape[1])


def cumulative_histogram(x: Tensor) -> Tensor:
    """The share of pixels at or below each of 256 levels. x: [b, n] in 0..1. Returns [b, 256]."""
    index = (x.clamp(0, 1) * (BINS - 1)).round().long()
    counts = torch.zeros(x.shape[0], BINS, device=x.device).scatter_add_(1, index, torch.ones_like(x))
    return counts.cumsum(1) / x.shape[1]


def percentile(cumulative: Tensor, share: float) -> Tensor:
    """The level below which `share` of the pixels lie: a count of bins, no sort. cumulative: [b, 256]. Returns [b]."""
    return (cumulative < share).to(cumulative.dtype).sum(1) / (BINS - 1)


def stretch_range(values: Tensor) -> tuple[Tensor, Tensor]:
    """Black and white point [b] of values [b, n], the 0.5 and 99.5 percentiles."""
    cumulative = cumulative_histogram(values)
    low = percentile(cumulative, LOW)
    return low, torch.maximum(percentile(cumulative, HIGH), low + 1 / 32)


def _levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Black and white point of the luminance, measured on at most about 256x256 samples."""
    step = max(1, min(x.shape[-2:]) // 256)
    return stretch_range(luminance(x[..., ::step, ::step]).flatten(1))


def stretch_points(x: Tensor, limit: float = 32.0) -> tuple[Tensor, Tensor]:
    """Black and white point [b] of a luminance stretch by at most a factor of `limit`."""
    low, high = _levels(x)
    return low, torch.maximum(high, (low + 1 / limit).clamp_max(1.5))


def luminance_stretch(x: Tensor, limit: float = 32.0) -> Tensor:
    """Stretches all channels alike so that the luminance fills 0..1, by at most a factor of `limit`. x: [b, 3, h, w].

    Where the limit holds, the black point is kept and the white point lies above the picture's: a picture that is
    flat by nature (fur, fog) stays so.
    """
    low, high = (v[:, None, None, None] for v in stretch_points(x, limit))
    return ((x - low) / (high - low)).clamp_(0, 1)


def channel_stretch(x: Tensor) -> Tensor:
    """Stretches each channel by itself to 0..1. x: [b, 3, h, w]."""
    low, high = stretch_range(x.flatten(0, 1).flatten(1))
    shape = (*x.shape[:2], 1, 1)
    return ((x - low.view(shape)) / (high - low).view(shape)).clamp_(0, 1)


def partial_stretch(x: Tensor, blend: float = 0.6, limit: float = 32.0) -> Tensor:
    """x + blend · (luminance_stretch(x, limit) - x)."""
    return torch.lerp(x, luminance_stretch(x, limit), blend)


def sticker_guess(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A sticker's look by filters: smooth inside edges, brightness in soft steps, strong colours, dark lines.

    x: [b, 3, h, w], mask: [b, h, w] of the subject, for the thin dark rim inside it. After XDoG (Winnemoeller et al.,
    2012); the sizes of the filters follow the picture's, so that any resolution looks alike.
    """
    scale = max(x.shape[-2:]) / 256
    subject = torch.ones_like(x[:, :1]) if mask is None else mask[:, None]
    x = (
        torch.where(subject > 0.5, x, masked_blur(x, subject, 6 * scale).clamp(0, 1))
        if mask is not None
        else x
    )
    smooth = _smoothed(_smoothed(x, scale), scale)
    value = luminance(smooth)
    stepped = _soft_steps(0.04 + 0.96 * value.clamp(1e-4, 1) ** 0.85)
    colour = stepped + (smooth - value) * STICKER_SATURATION * (stepped + 0.08) / (value + 0.08)
    grey, sigma = luminance(x), max(0.6, scale)
    outline = ((gaussian_blur(grey, 2 * sigma) - gaussian_blur(grey, sigma) - 0.012) * 22).clamp(0, 1)
    if mask is not None:
        rim = ((0.95 - gaussian_blur(subject, max(0.9, 1.8 * scale), pad="constant")) * 2).clamp(0, 0.9)
        outline = torch.maximum(outline, rim)
    return (colour * (1 - STICKER_OUTLINE * outline)).clamp(0, 1)


def _smoothed(x: Tensor, scale: float) -> Tensor:
    """One pass of an edge-keeping blur, guided by the picture's own luminance."""
    luma = luminance(x)
    slope, offset = guided_filter(luma, x, max(2, round(2.5 * scale)), 0.0005)
    return slope * luma + offset


def _soft_steps(value: Tensor) -> Tensor:
    """Brightness in a few levels whose borders are smooth."""
    position = value.clamp(0, 1) * STICKER_STEPS
    floor = position.floor()
    fraction = ((position - floor - 0.5) / STICKER_SOFTNESS + 0.5).clamp(0, 1)
    return (floor + fraction * fraction * (3 - 2 * fraction)) / STICKER_STEPS
