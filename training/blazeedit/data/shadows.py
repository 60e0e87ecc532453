"""An object put into a picture with the shadows it would cast, and the truth that removing it should restore.

All shading is in linear light. The mask covers the object alone: the network has to find the shadow by itself,
and one composite in five has none, so that it does not brighten the surroundings of every mask.
"""

from dataclasses import dataclass

import numpy as np

from ....models.errors import EditError
from .holes import dilate
from .light import spread, strongest, to_linear, to_srgb

NO_SHADOW = 0.2  # share of composites without any shadow
VISIBLE = 0.03  # a pixel belongs to the shadow where it changes by more (sRGB units)
DILATION = (2 / 256, 7 / 256)  # how far the mask reaches beyond the object, of the picture's side


@dataclass
class Composite:
    """One removal example; pictures are float32 [s, s, 3], maps float32 [s, s], all 0..1."""

    x: np.ndarray  # the background with object and shadow
    y: np.ndarray  # the background
    alpha: np.ndarray  # the object's soft outline
    mask: np.ndarray  # 0 or 1: the dilated outline, without the shadow
    shadow: np.ndarray  # 0 or 1: visibly shaded pixels outside the mask
    gain: np.ndarray  # [s, s, 3], y / shaded y in linear light, >= 1: what undoes the shadow


def composite(rng, background, rgba, *, share=None, shadow=None, exact=False) -> Composite:
    """Puts an object into a picture and casts its shadow.

    background: float32 [s, s, 3]. rgba: float32 [h, w, 4], straight alpha. share: the object's part of the picture's
    area (None: drawn, 3-14 %). shadow: True, False or None (four out of five have one). exact: a mask that
    holds the whole object; else one in five is loose and one in ten clipped, as people draw them.
    """
    size = background.shape[0]
    layer, box = place(rng, rgba, size, share or float(rng.uniform(0.03, 0.14)))
    alpha = np.ascontiguousarray(layer[..., 3])
    cast = shadow if shadow is not None else rng.random() >= NO_SHADOW
    shade = cast_shadow(rng, alpha, box) if cast else np.zeros_like(alpha)
    light = 1 - spread(shade, rng.uniform(0.66, 0.95) * rng.uniform(0.75, 1.0, 3))
    shaded = _shaded(background, light, shade)
    visible = strongest(np.abs(shaded - background)) > VISIBLE
    mask = object_mask(rng, alpha, exact)
    x = _over(layer, shaded, box)
    return Composite(x, background, alpha, mask, (visible & (mask == 0)).astype(np.float32), 1 / light)


def _shaded(background, light, shade):
    """The background times `light` in linear light; the very same pixels where there is no shade."""
    import cv2

    left, top, width, height = cv2.boundingRect((shade > 0).astype(np.uint8))
    part = slice(top, top + height), slice(left, left + width)
    shaded = background.copy()
    if width:
        lit = to_srgb(to_linear(background[part]) * light[part])
        shaded[part] = np.where(light[part] < 1, lit, background[part])
    return shaded


def place(rng, rgba, size, share):
    """Scales an object to a share of the area and moves it to a random place, its foot rather low.

    Returns the layer, float32 [size, size, 4], and the outline's box (top, bottom, left, right).
    """
    import cv2

    solid = (rgba[..., 3] > 0.1).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(solid)
    if not width:
        raise EditError("The object to put into a picture is empty; give one whose alpha is not all 0.")
    cut = rgba[top : top + height, left : left + width]
    scale = (share * size * size / cut[..., 3].sum()) ** 0.5
    scale = min(scale, 0.92 * size / max(cut.shape[:2]))
    h, w = max(2, round(cut.shape[0] * scale)), max(2, round(cut.shape[1] * scale))
    small = cv2.resize(cut, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top = int((size - h) * rng.beta(2.2, 1.4))
    left = int(rng.integers(size - w + 1))
    layer = np.zeros((size, size, 4), np.float32)
    layer[top : top + h, left : left + w] = small
    return layer, (top, top + h, left, left + w)


def object_mask(rng, alpha, exact=False):
    """The dilated outline, 0 or 1, [s, s]: 2-7 px at 256 px. Not exact: sometimes loose or slightly clipped."""
    size = alpha.shape[0]
    radius = max(1.0, rng.uniform(*DILATION) * size)
    kind = 0.5 if exact else rng.random()
    if kind < 0.2:
        radius *= rng.uniform(1.5, 3.0)
    elif kind > 0.9:
        radius = -rng.uniform(0.6, 2.5) * max(size / 256, 0.7)
    return dilate((alpha > 0.1 if radius > 0 else alpha > 0.5).astype(np.float32), radius)


def cast_shadow(rng, alpha, box):
    """Darkness 0..1, [s, s]: a sheared shadow on the ground (or a shifted one on a wall) and a contact shadow.

    The cast shadow has two penumbrae: sharp at the foot, soft far from it. box: (top, bottom, left, right).
    Worked out at 128 px at most: shadows are soft, and this is the slowest part of a composite.
    """
    import cv2

    size, factor = alpha.shape[0], -(-alpha.shape[0] // 160)
    if factor > 1:
        small = (-(-size // factor),) * 2
        shade = cast_shadow(
            rng, cv2.resize(alpha, small, interpolation=cv2.INTER_AREA), [v / factor for v in box]
        )
        return cv2.resize(shade, (size, size), interpolation=cv2.INTER_LINEAR)
    extent = box[1] - box[0], box[3] - box[2]
    if rng.random() < 0.18:
        shade = _wall_shadow(rng, alpha, min(extent))
    else:
        cast, contact = _ground_shadow(rng, alpha, box[1], extent[0]), _contact(rng, alpha, box[1], *extent)
        shade = 1 - (1 - cast) * (1 - contact)
    return np.where(shade > 1 / 512, np.clip(shade, 0, 1), 0)


def _ground_shadow(rng, alpha, bottom, height):
    """The outline laid on the ground: sheared, flattened, falling behind the object or towards the camera."""
    import cv2

    rise = rng.uniform(0.2, 0.75) * (-1 if rng.random() < 0.65 else 1)  # of the height; negative: upwards
    shear = rng.uniform(0.35, 1.4) * rng.choice((-1, 1))
    foot = bottom - 0.04 * height
    to_ground = np.array([[1, -shear, shear * foot], [0, -rise, foot * (1 + rise)]], np.float32)
    flat = cv2.warpAffine(alpha, to_ground, alpha.shape[::-1], flags=cv2.INTER_LINEAR)
    near, far = _blur(flat, 0.012 * height + 0.4), _blur(flat, rng.uniform(0.05, 0.13) * height + 0.6)
    rows = np.arange(alpha.shape[0], dtype=np.float32)[:, None]
    distance = np.clip(np.abs(rows - foot) / (abs(rise) * height + 1), 0, 1)
    cast = (near + (far - near) * distance) * (1 - np.float32(rng.uniform(0.05, 0.45)) * distance)
    return np.clip(cast, 0, 1) * np.float32(rng.uniform(0.8, 1.0))


def _contact(rng, alpha, bottom, height, width):
    """Darkness close under the lowest tenth of the object."""
    import cv2

    base = alpha.copy()
    base[: int(bottom - 0.12 * height)] = 0
    sigma = (0.05 * width + 0.5, 0.025 * height + 0.5)
    soft = cv2.GaussianBlur(base, (0, 0), sigma[0], sigmaY=sigma[1])
    return np.clip(soft * np.float32(rng.uniform(0.5, 1.1)), 0, 0.95)


def _wall_shadow(rng, alpha, extent):
    """The outline shifted and blurred, as on a wall close behind the object or a table seen from above."""
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.25) * extent
    shift = np.roll(alpha, (round(np.sin(angle) * reach), round(np.cos(angle) * reach)), (0, 1))
    sharp, soft = _blur(shift, 0.02 * extent + 0.4), _blur(shift, 0.14 * extent + 0.6)
    weight = np.float32(rng.uniform(0.2, 0.7))
    return np.clip(sharp * weight + soft * (1 - weight), 0, 1) * np.float32(rng.uniform(0.6, 1.0))


def _blur(image, sigma):
    import cv2

    return cv2.GaussianBlur(image, (0, 0), float(sigma))


def _over(layer, background, box):
    """The layer over the background, mixed in linear light; the very same pixels where the layer is empty."""
    part = slice(*box[:2]), slice(*box[2:])
    top, below = layer[part], background[part]
    weight = spread(np.ascontiguousarray(top[..., 3]))
    mixed = to_srgb(to_linear(top[..., :3]) * weight + to_linear(below) * (1 - weight))
    x = background.copy()
    x[part] = np.where(weight > 0, mixed, below)
    return x
