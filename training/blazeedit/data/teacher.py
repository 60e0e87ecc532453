"""The procedural sticker style: what the network distils so that one model serves every task.

Smoothing that keeps edges, a few soft steps of brightness, stronger colours and a dark outline (XDoG,
Winnemoeller et al. 2012). The white border and the drop shadow are no business of the network: they are exact functions
of the mask and are added on delivery.
"""

import numpy as np

from .light import spread

STEPS = 5  # levels of brightness
SOFTNESS = 0.35  # 0 = hard posterisation, 1 = none
SATURATION = 1.45
OUTLINE = 0.85  # darkness of the strongest line


def sticker_teacher(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Draws the subject as a sticker: rgb float32 [h, w, 3], alpha [h, w], 0..1 -> rgb [h, w, 3]; deterministic.

    Only the subject's colours count. Outside of alpha the result continues them smoothly; blend by alpha.
    """
    import cv2

    scale = max(rgb.shape[:2]) / 256
    alpha = np.ascontiguousarray(alpha, np.float32)
    smooth = filled = _fill_outside(np.asarray(rgb, np.float32), alpha, 6 * scale)
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 5 if scale < 1 else 7, 0.11, 2.2 * max(scale, 0.5))
    value = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    stepped = _soft_steps(0.04 + 0.96 * np.clip(value, 0, 1) ** np.float32(0.85))
    colour = spread(stepped) + (smooth - spread(value)) * spread(
        SATURATION * (stepped + 0.08) / (value + 0.08)
    )
    line = 1 - OUTLINE * np.maximum(_outline(filled, scale), _rim(alpha, scale))
    return np.clip(colour * spread(line), 0, 1)


def _fill_outside(rgb, alpha, sigma):
    """Continues the subject's colours a little beyond its outline, so that the background leaves no line.

    A normalised blur at a quarter of the size: it has no detail to lose.
    """
    import cv2

    h, w = alpha.shape
    small = (max(1, w // 4), max(1, h // 4))
    colour = cv2.resize(rgb * spread(alpha), small, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
    sigma = max(0.5, sigma / 4)
    around = cv2.GaussianBlur(colour, (0, 0), sigma) / spread(cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4)
    around = cv2.resize(around, (w, h), interpolation=cv2.INTER_LINEAR)
    return rgb * spread(alpha) + around * spread(1 - alpha)


def _soft_steps(value):
    """Brightness in STEPS levels whose borders are smooth."""
    position = np.clip(value, 0, 1) * STEPS
    floor = np.floor(position)
    fraction = np.clip((position - floor - 0.5) / SOFTNESS + 0.5, 0, 1)
    return (floor + fraction * fraction * (3 - 2 * fraction)) / STEPS


def _outline(rgb, scale):
    """0..1 where the brightness dips below its surroundings or drops sharply: a difference of Gaussians."""
    import cv2

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    sigma = max(0.6, 1.0 * scale)
    narrow, wide = cv2.GaussianBlur(grey, (0, 0), sigma), cv2.GaussianBlur(grey, (0, 0), 2.0 * sigma)
    return np.clip(((wide - narrow) - 0.012) * 22, 0, 1)


def _rim(alpha, scale):
    """A thin dark line just inside the outline."""
    import cv2

    inner = cv2.GaussianBlur(alpha, (0, 0), max(0.9, 1.8 * scale))
    return np.clip((0.95 - inner) * 2.0, 0, 0.9)
