"""How a small edit reaches a large picture: colour maps, gain maps, and pasting without a seam."""

import torch
from torch import Tensor

from ..filters import Enlarged, guided_filter
from ..image import linear_to_srgb, luminance, resize, srgb_to_linear
from .guess import membrane

STRIP = 32  # rows at a time: what is computed on the way stays in the processor's cache
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
    out, c = torch.empty_like(x), coefficients[..., None, None]  # [b, 10, 3, 1, 1]
    for start in range(0, x.shape[2], STRIP):
        rows = slice(start, start + STRIP)
        r, g, b = (x[:, i : i + 1, rows] for i in range(3))
        # Horner's scheme over the ten terms of `colour_terms`, for the three output channels at once
        by_red = c[:, 1] + c[:, 4] * r + c[:, 7] * g + c[:, 8] * b
        by_green = c[:, 2] + c[:, 5] * g + c[:, 9] * b
        by_blue = c[:, 3] + c[:, 6] * b
        out[:, :, rows] = c[:, 0] + by_red * r + by_green * g + by_blue * b
    return out


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
    out = image.new_empty(*log_gain.shape[:2], *image.shape[-2:])
    a, b = (Enlarged(v, image.shape[-2:]) for v in (slope, offset))
    for start in range(0, image.shape[-2], STRIP):
        rows = slice(start, min(start + STRIP, image.shape[-2]))
        part = _log_luma(image[..., rows, :])
        torch.addcmul(b.window(rows), a.window(rows), part, out=out[..., rows, :])
    return out


def _log_luma(x: Tensor) -> Tensor:
    return torch.log(luminance(x) + 0.03)


def apply_gain(image: Tensor, log_gain: Tensor) -> Tensor:
    """image · exp(log_gain) in linear light, in strips; bit-identical where the gain is exactly 0."""
    out = torch.empty_like(image)
    for start in range(0, image.shape[-2], STRIP):
        strip = (..., slice(start, start + STRIP), slice(None))
        lit = linear_to_srgb((srgb_to_linear(image[strip]) * log_gain[strip].exp()).clamp_(0, 1))
        out[strip] = torch.where(log_gain[strip] == 0, image[strip], lit)
    return out


def seam_correction(fill: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Adds to a fill what it misses at the hole's edge, spread inward by the membrane, so that no seam shows.

    fill, image: [b, 3, h, w] on the same canvas, hole: [b, h, w] of 0 and 1.
    """
    error = membrane((image - fill) * (1 - hole[:, None]), hole)
    return fill + error
