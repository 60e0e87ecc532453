"""Rendered objects with soft alpha, for training without photographed cut-outs."""

import numpy as np

from .light import spread
from .paint import colour, lamp, outline, shading, texture


def render_object(rng: np.random.Generator, size: int, textures=None) -> np.ndarray:
    """One object that fills the canvas: float32 [size, size, 4], straight alpha; one to four shaded parts."""
    light, base = lamp(rng), colour(rng)
    canvas = np.zeros((size, size, 4), np.float32)
    for index in range(rng.choice((1, 1, 2, 3, 4))):
        extent = size if index == 0 else max(6, round(size * rng.uniform(0.25, 0.6)))
        own = base if rng.random() < 0.5 else colour(rng)
        part = render_part(rng, extent, light, own, textures)
        top, left = ((size - extent) * rng.beta(3, 3, 2)).astype(int)  # near the middle: parts should touch
        _paste(canvas[top : top + extent, left : left + extent], part)
    return canvas


def render_part(rng, size, light, base, textures=None) -> np.ndarray:
    """One textured, shaded shape, float32 [size, size, 4]."""
    mask = outline(rng, size)
    shade, gloss = shading(mask, light, rng.choice((0.25, 0.6, 1.0)))
    surface = texture(rng, size, base, textures)
    lit = surface * spread(shade) + spread(gloss * np.float32(rng.choice((0, 0.15, 0.6))))
    return np.concatenate([np.clip(lit, 0, 1), mask[..., None]], 2)


def _paste(below, part):
    """Draws a part onto a view of the canvas, in place: straight alpha over straight alpha."""
    alpha = part[..., 3]
    total = alpha + below[..., 3] * (1 - alpha)
    weight = spread(alpha / np.maximum(total, 1e-6))
    below[..., :3] += (part[..., :3] - below[..., :3]) * weight
    below[..., 3] = total
