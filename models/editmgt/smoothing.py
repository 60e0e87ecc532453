"""Filters that make a localisation map coherent (EditMGT, appendix B.2), as the released code computes them.

Maps are [b, h, w] of any size; every picture of a batch is treated by itself. Nothing leaves the device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError

PEAK, KEPT = 0.9, 0.7  # P90 and alpha, Eq. 14
WINDOW, SPAN = (
    5,
    0.7,
)  # of the adaptive filter: side of the local variance's window, and the weight's span, Eq. 13
GREYS = 255  # the bilateral filter works on 8 bits


def rescale(maps: Tensor) -> Tensor:
    """Each map of [b, …] stretched to 0..1; a constant one becomes 0."""
    low, high = _range(maps)
    return (maps - low) / (high - low + 1e-8)


def gaussian(maps: Tensor, strength: float = 1.0) -> Tensor:
    """Gaussian of sigma 2 · strength tokens, Eq. 4 and 5."""
    return blur(maps, 2 * strength)


def bilateral(maps: Tensor, strength: float = 1.0) -> Tensor:
    """Mean over a disc of int(9 · strength) tokens across, weighted by nearness in place and value, Eq. 6 to 8.

    Both sigmas are 75 · strength, of tokens and of the 256 greys that a map in 0..1 is cut down to; so is the result.
    """
    sigma, across = 75 * strength, int(9 * strength)
    radius = max(1, across // 2 if across else round(1.5 * sigma))
    grey = (precise(maps).clamp(0, 1) * GREYS).trunc()
    h, w = maps.shape[-2:]
    padded = _padded(grey, radius, mirror_edge=False)
    total, weights = torch.zeros_like(grey), torch.zeros_like(grey)
    for dy in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - dy**2)
        for dx in range(-half, half + 1):
            other = padded[:, radius + dy :, radius + dx :][:, :h, :w]
            near = (dy**2 + dx**2 + (other - grey) ** 2) / (-2 * sigma**2)
            weight = near.exp()
            total, weights = total + weight * other, weights + weight
    return ((total / weights).round() / GREYS).to(maps.dtype)


def morphological(maps: Tensor, strength: float = 1.0) -> Tensor:
    """Opening, then closing, with a disc of radius max(3, int(5 · strength)) tokens, Eq. 9 and 10."""
    radius = max(3, int(5 * strength))
    opened = dilate(_erode(maps, radius), radius)
    return _erode(dilate(opened, radius), radius)


def adaptive(maps: Tensor, strength: float = 1.0) -> Tensor:
    """Gaussian of sigma 1.5 · strength where the map is even, and less of it where it varies, Eq. 11 to 13."""
    x = precise(maps)
    weight = 1 - SPAN * rescale(local_variance(x))
    return (weight * blur(x, 1.5 * strength) + (1 - weight) * x).to(maps.dtype)


FILTERS = {"gaussian": gaussian, "bilateral": bilateral, "morphological": morphological, "adaptive": adaptive}


def smooth(
    maps: Tensor, method: str = "adaptive", strength: float = 1.0, preserve_peaks: bool = True
) -> Tensor:
    """Filters [b, h, w] and brings each map back to its own range; the maps are expected in 0..1.

    method: gaussian, bilateral, morphological or adaptive. preserve_peaks: values above a map's 90th percentile stay
    70 % what they were. EditError for another method, and for a strength that is not above 0.
    """
    if method not in FILTERS:
        raise EditError(f"There is no filter {method!r}; choose one of {', '.join(FILTERS)}.")
    if not strength > 0:
        raise EditError(f"A map cannot be smoothed with strength {strength}; use more than 0.")
    return finish(maps, FILTERS[method](maps, strength), preserve_peaks)


def finish(maps: Tensor, smoothed: Tensor, preserve_peaks: bool = True) -> Tensor:
    """What ends every kind of smoothing: peaks preserved (Eq. 14), then the range that each map had before."""
    if preserve_peaks:
        limit = torch.quantile(precise(maps).flatten(1), PEAK, dim=1)[:, None, None]
        smoothed = torch.where(maps > limit, KEPT * maps + (1 - KEPT) * smoothed, smoothed)
    (low, high), (floor, ceiling) = _range(smoothed), _range(maps)
    span = torch.where(high > low, high - low, 1)
    stretched = (smoothed - low) / span * (ceiling - floor) + floor
    return torch.where(high > low, stretched, smoothed)


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian of [b, h, w] out to 4 sigma, mirrored at the border (the border's values twice), in double precision.

    Each axis is one matrix: a wide blur of a small map folds over more than once, and the matrix knows.
    """
    x = precise(maps)
    rows, columns = (_blur_matrix(n, sigma, x) for n in x.shape[-2:])
    return (rows @ x @ columns.T).to(maps.dtype)


def local_variance(maps: Tensor) -> Tensor:
    """Variance within each 5x5 window of [b, h, w], Eq. 12."""
    h, w = maps.shape[-2:]
    padded = _padded(maps, WINDOW // 2)
    windows = torch.stack([padded[:, i : i + h, j : j + w] for i in range(WINDOW) for j in range(WINDOW)])
    return windows.var(0, unbiased=False)


def dilate(maps: Tensor, radius: int) -> Tensor:
    """The largest value within a disc (dx² + dy² ≤ radius²) around each place of [b, h, w]."""
    h, padded = maps.shape[-2], _padded(maps, radius)
    out = None
    for dy in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - dy**2)
        row = padded[:, radius + dy :, radius - half : padded.shape[-1] - radius + half][:, :h]
        row = F.max_pool2d(row, (1, 2 * half + 1), 1)
        out = row if out is None else torch.maximum(out, row)
    return out


def _erode(maps: Tensor, radius: int) -> Tensor:
    return -dilate(-maps, radius)


def _blur_matrix(n: int, sigma: float, like: Tensor) -> Tensor:
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    source = _mirrored(torch.arange(n)[:, None] + offsets, n)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix.scatter_add_(1, source, (kernel / kernel.sum()).expand(n, -1))
    return matrix.to(like.dtype).to(like.device)


def _padded(maps: Tensor, radius: int, mirror_edge: bool = True) -> Tensor:
    rows, columns = (
        _mirrored(torch.arange(-radius, n + radius), n, mirror_edge).to(maps.device) for n in maps.shape[-2:]
    )
    return maps[:, rows][:, :, columns]


def _mirrored(index: Tensor, n: int, mirror_edge: bool = True) -> Tensor:
    """Indices beyond 0..n-1 brought back inside by mirrors, which repeat the border's value or stand on it."""
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * n if mirror_edge else 2 * n - 2
    index = index % period
    return torch.where(index < n, index, period - index - int(mirror_edge))


def _range(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of each map, to be broadcast over it."""
    shape = (-1, *[1] * (maps.ndim - 1))
    flat = maps.flatten(1)
    return flat.amin(1).view(shape), flat.amax(1).view(shape)


def precise(maps: Tensor) -> Tensor:
    """float64, as scipy sums; float32 on a device that has no float64."""
    return maps.float() if maps.device.type == "mps" else maps.double()
