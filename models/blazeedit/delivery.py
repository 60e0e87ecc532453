"""How a small edit reaches a large picture: colour maps, gain maps, and pasting without a seam."""

import torch
from torch import Tensor

from ..filters import guided_filter
from ..image import linear_to_srgb, luminance, resize, srgb_to_linear
from .guess import membrane

STRIP = 256  # rows at a time: twelve megapixels need no second copy of themselves
RIDGE = 1e-4
ROBUST = 0.05  # residual at which a pixel's weight is halved


def colour_terms(x: Tensor) -> Tensor:
    """[b, 3, h, w] to the ten quadratic terms 1, r, g, b, rr, gg, bb, rg, rb, gb: [b, 10, h, w]."""
    r, g, b = x.unbind(1)
    return torch.stack([torch.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], dim=1)


def fit_colour_map(source: Tensor, target: Tensor, weight: Tensor | None = None, rounds: int = 3) -> Tensor:
    """The quadratic map that takes source to target in least squares, robustly reweighted, close to the identity.

    source, target: [b, 3, h, w], weight: [b, h, w]. Returns [b, 10, 3].
    """
    terms = colour_terms(source).flatten(2).transpose(1, 2)  # [b, n, 10]
    difference = (target - source).flatten(2).transpose(1, 2)
    w = torch.ones_like(terms[..., :1]) if weight is None else weight.flatten(1)[..., None]
    ridge = RIDGE * terms.shape[1] * torch.eye(10, device=source.device)
    robust = w
    for _ in range(rounds):
        normal = terms.transpose(1, 2) @ (robust * terms) + ridge
        residual_map = torch.linalg.solve(normal, terms.transpose(1, 2) @ (robust * difference))
        error = (terms @ residual_map - difference).abs().amax(-1, keepdim=True)
        robust = w / (1 + (error / ROBUST) ** 2)
    identity = torch.zeros(10, 3, device=source.device)
    identity[1:4] = torch.eye(3, device=source.device)
    return residual_map + identity


def apply_colour_map(x: Tensor, coefficients: Tensor) -> Tensor:
    """x: [b, 3, h, w], coefficients: [b, 10, 3]. Returns [b, 3, h, w], not clamped; works in strips."""
    strips = [
        torch.einsum("bthw,btc->bchw", colour_terms(part), coefficients) for part in x.split(STRIP, dim=2)
    ]
    return strips[0] if len(strips) == 1 else torch.cat(strips, dim=2)


def fade_gain(log_gain: Tensor, threshold: float = 0.06) -> Tensor:
    """Gains below the threshold become exactly 0, those above twice the threshold stay: small gains are noise."""
    size = log_gain.abs().amax(1, keepdim=True)
    ramp = ((size - threshold) / threshold).clamp(0, 1)
    return log_gain * ramp


def upsample_gain(log_gain: Tensor, image: Tensor, radius: int = 3, eps: float = 0.02) -> Tensor:
    """Brings a small log-gain map to the picture's size along its edges (guided filter on log luminance).

    log_gain: [b, 3, h', w'], image: [b, 3, h, w]. Returns [b, 3, h, w].
    """
    size = log_gain.shape[-2:]
    guide = _log_luma(resize(image, size, mode="area"))
    slope, offset = guided_filter(guide, log_gain, radius, eps)
    out = []
    for start in range(0, image.shape[-2], STRIP):
        part = image[..., start : start + STRIP, :]
        a, b = (_rows(v, image.shape[-2:], start, part.shape[-2]) for v in (slope, offset))
        out.append(a.mul_(_log_luma(part)).add_(b))
    return out[0] if len(out) == 1 else torch.cat(out, dim=2)


def _log_luma(x: Tensor) -> Tensor:
    return torch.log(luminance(x) + 0.03)


def _rows(small: Tensor, size: tuple[int, int], start: int, count: int) -> Tensor:
    """Rows start..start+count of the bilinear enlargement of `small` to `size`."""
    h, w = small.shape[-2:]
    y = ((torch.arange(start, start + count, device=small.device) + 0.5) * h / size[0] - 0.5).clamp(0, h - 1)
    low = y.floor().long()
    t = (y - low)[None, None, :, None]
    rows = torch.lerp(small[..., low, :], small[..., (low + 1).clamp(max=h - 1), :], t)
    return torch.nn.functional.interpolate(rows, size=(count, size[1]), mode="bilinear", align_corners=False)


def apply_gain(image: Tensor, log_gain: Tensor) -> Tensor:
    """image · exp(log_gain) in linear light, in strips; bit-identical where the gain is exactly 0."""
    out = []
    for part, gain in zip(image.split(STRIP, dim=2), log_gain.split(STRIP, dim=2), strict=True):
        lit = linear_to_srgb((srgb_to_linear(part) * gain.exp()).clamp_(0, 1))
        out.append(torch.where(gain == 0, part, lit))
    return out[0] if len(out) == 1 else torch.cat(out, dim=2)


def seam_correction(fill: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Adds to a fill what it misses at the hole's edge, spread inward by the membrane, so that no seam shows.

    fill, image: [b, 3, h, w] on the same canvas, hole: [b, h, w] of 0 and 1.
    """
    error = membrane((image - fill) * (1 - hole[:, None]), hole)
    return fill + error
