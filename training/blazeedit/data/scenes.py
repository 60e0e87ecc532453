"""Rendered scenes: dead leaves, landscapes with objects, portraits and plain surfaces.

Edges, occlusion, soft shadows, texture and perspective are like a photograph's; meaning is not. Scenes regularise
the colour prior and let training run without any photograph.
"""

from pathlib import Path

import numpy as np

from ....models.errors import EditError
from .light import spread
from .objects import render_object
from .paint import canon, colour, lamp, noise, outline, shading, texture
from .shadows import composite

FAMILIES = {"leaves": 0.42, "landscape": 0.38, "portrait": 0.10, "plain": 0.10}


def render_scene(rng: np.random.Generator, size: int, textures=None) -> np.ndarray:
    """One scene, float32 [size, size, 3] in 0..1. textures: a PhotoBank whose crops are used as some surfaces."""
    draw = {"leaves": dead_leaves, "landscape": landscape, "portrait": portrait, "plain": plain}
    family = rng.choice(list(FAMILIES), p=list(FAMILIES.values()))
    return canon(draw[family](rng, size, textures), rng)


class SceneBank:
    """Scenes rendered once and kept as uint8; a crop is a slice, sometimes at a smaller scale."""

    def __init__(self, count: int, size: int, seed=0, *, cache=None, textures=None):
        """cache: an .npy file to read the scenes from, or to write them to where it does not exist yet."""
        if count < 1:
            raise EditError(f"A bank of {count} scenes is empty; ask for one at least.")
        cache = Path(cache) if cache else None
        if cache and cache.is_file():
            self.scenes = np.load(cache, mmap_mode="r", allow_pickle=False)
            if self.scenes.shape != (count, size, size, 3):
                raise EditError(
                    f"{cache} holds scenes of shape {self.scenes.shape}; delete it to render anew."
                )
            return
        rng = np.random.default_rng(seed)
        self.scenes = np.stack([_bytes(render_scene(rng, size, textures)) for _ in range(count)])
        if cache:
            np.save(cache, self.scenes, allow_pickle=False)

    def __len__(self):
        return len(self.scenes)

    def crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """A square of a random scene: float32 [size, size, 3]; larger than the bank's scenes is scaled up."""
        import cv2

        whole = self.scenes[rng.integers(len(self.scenes))]
        side = whole.shape[0]
        window = int(np.clip(size / rng.choice((1.0, 0.71, 0.5)), min(size, side), side))
        top, left = rng.integers(side - window + 1, size=2)
        part = np.ascontiguousarray(
            whole[top : top + window, left : left + window, :][:, :: rng.choice((-1, 1))]
        )
        if window != size:
            part = cv2.resize(
                part, (size, size), interpolation=cv2.INTER_AREA if window > size else cv2.INTER_CUBIC
            )
        return part.astype(np.float32) * np.float32(1 / 255)


def _bytes(image):
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def plain(rng, size, textures=None):
    """One surface under a lighting gradient."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    slope = rng.normal(0, 0.5, 2)
    return np.clip(
        texture(rng, size, None, textures) * spread(1 + slope[0] * rows + slope[1] * columns), 0, 1
    )


def dead_leaves(rng, size, textures=None):
    """Overlapping shapes, sizes ~ r^-3 as in photographs, each textured, shaded and shadowing what lies below."""
    image, light = plain(rng, size, textures), lamp(rng)
    surfaces = [texture(rng, size, None, textures) for _ in range(4)]
    palette = [colour(rng) for _ in range(rng.integers(4, 10))]
    smallest, largest = size * rng.uniform(0.025, 0.15), size * 0.45
    uniform = rng.random(int(rng.integers(25, 110)))
    radii = (
        smallest**-2 - uniform * (smallest**-2 - largest**-2)
    ) ** -0.5  # inverse of the r^-3 distribution
    for radius in np.sort(radii)[::-1] if rng.random() < 0.6 else radii:
        _drop_leaf(rng, image, max(4, int(2 * radius)), surfaces, palette, light)
    return image


def _drop_leaf(rng, image, extent, surfaces, palette, light):
    """Paints one leaf in place, with the shadow that it casts on the pile."""
    import cv2

    size, reach = image.shape[0], max(1, extent // 8)
    top, left = rng.integers(-extent // 2, size - extent // 2, 2)
    mask = np.pad(outline(rng, extent), reach)
    shade, gloss = shading(mask, light, rng.choice((0.15, 0.5, 0.9)))
    dark = cv2.GaussianBlur(mask, (0, 0), 0.5 * reach + 0.3)
    dark = np.roll(
        dark, (round(-light[1] * reach * 0.7), round(-light[0] * reach * 0.7)), (0, 1)
    ) * np.float32(0.6)
    t, l = max(top - reach, 0), max(left - reach, 0)
    b, r = min(top + extent + reach, size), min(left + extent + reach, size)
    part = slice(t - top + reach, b - top + reach), slice(l - left + reach, r - left + reach)
    mask, shade, gloss, dark = mask[part], shade[part], gloss[part], dark[part]
    surface = surfaces[rng.integers(len(surfaces))][t:b, l:r]
    grey = surface.mean(2) / max(float(surface.mean()), 0.05)
    paint = (
        surface
        if rng.random() < 0.3
        else spread(np.ascontiguousarray(grey), palette[rng.integers(len(palette))])
    )
    lit = paint * spread(shade) + spread(gloss * np.float32(rng.choice((0.0, 0.1, 0.4))))
    below = image[t:b, l:r] * spread(1 - dark)
    image[t:b, l:r] = below + (np.clip(lit, 0, 1) - below) * spread(mask)


def landscape(rng, size, textures=None):
    """Sky, one to three ridges or a skyline, a ground in perspective and objects with cast shadows."""
    horizon = int(size * rng.uniform(0.25, 0.65))
    image, haze = _sky(rng, size, horizon)
    for depth in range(rng.integers(0, 4)):
        _ridge(rng, image, horizon, haze, nearness=(depth + 1) / 4)
    if rng.random() < 0.3:
        _skyline(rng, image, horizon, haze)
    image[horizon:] = _ground(rng, size, horizon, textures)
    image = np.clip(image, 0, 1)
    for _ in range(rng.integers(1, 5)):
        thing = render_object(rng, max(16, size // 3), textures)
        image = composite(rng, image, thing, share=float(rng.uniform(0.006, 0.08))).x
    return image


def _sky(rng, size, horizon):
    """A vertical gradient with clouds; returns the picture and the colour of the haze at the horizon."""
    zenith = colour(rng, 2) * 0.6 + np.array([0.1, 0.18, 0.3], np.float32)
    haze = (0.45 * zenith + 0.55 * np.array([0.88, 0.88, 0.86]) + rng.normal(0, 0.04, 3)).astype(np.float32)
    depth = spread(
        np.tile(np.clip(np.arange(size, dtype=np.float32) / max(horizon, 1), 0, 1)[:, None], (1, size))
    )
    cover = np.clip(noise(rng, size, size, stretch=rng.uniform(1, 2)) * 0.5 - rng.uniform(-0.4, 0.7), 0, 1)
    image = zenith * (1 - depth) + haze * depth
    return image + (0.95 - image) * spread(cover.astype(np.float32)), haze


def _ridge(rng, image, horizon, haze, nearness):
    """A range of hills in place, the hazier the farther."""
    size = image.shape[0]
    line = horizon - size * (0.02 + 0.16 * rng.random() * (1.2 - nearness)) * (
        1 + 0.5 * noise(rng, size, size)[size // 2]
    )
    below = np.clip(np.arange(size, dtype=np.float32)[:, None] - line[None], 0, 1).astype(np.float32)
    tone = colour(rng, rng.choice((0, 1))) * nearness + haze * (1 - nearness)
    relief = 1 + 0.12 * nearness * noise(rng, size, size, coarse=8)
    image += (spread(relief, tone) - image) * spread(below)


def _skyline(rng, image, horizon, haze):
    """Buildings with rows of windows, in place."""
    size, left = image.shape[0], 0
    while left < size:
        width, height = (size * rng.uniform(0.05, 0.16, 2) * (1, 2.2)).astype(int)
        top = max(0, horizon - height)
        wall = (0.75 * colour(rng, 0) + 0.25 * haze).astype(np.float32)
        image[top:horizon, left : left + width] = wall * np.float32(rng.uniform(0.7, 1.1))
        step = max(3, size // rng.integers(28, 50))
        pane = wall * np.float32(rng.choice((0.45, 1.4)))
        for row in range(top + step, horizon - step // 2, step):
            for column in range(left + step // 2, min(left + width, size) - step // 2, step):
                image[row : row + step // 2, column : column + step // 2] = pane
        left += width + int(rng.integers(0, max(2, size // 12)))


def _ground(rng, size, horizon, textures):
    """The rows below the horizon: a texture on a plane seen from eye height, darker towards the viewer."""
    import cv2

    surface = texture(rng, size, colour(rng, rng.choice((0, 0, 1, 3))), textures)
    rows = np.arange(size - horizon, dtype=np.float32)[:, None] + 2
    depth = (size - horizon) / rows
    across = (np.arange(size, dtype=np.float32)[None] - size / 2) * depth * np.float32(0.8) + size / 2
    along = np.broadcast_to(depth * np.float32(size * 0.6), across.shape)
    ground = cv2.remap(surface, np.ascontiguousarray(across), np.ascontiguousarray(along), cv2.INTER_LINEAR,
                       borderMode=cv2.BORDER_REFLECT)  # fmt: skip
    far = np.clip(1.2 - rows / (0.3 * size), 0, 1) * np.ones((1, size), np.float32)
    smooth = cv2.GaussianBlur(ground, (0, 0), max(0.8, size / 64))
    return ground + (smooth - ground) * spread(far.astype(np.float32))


def portrait(rng, size, textures=None):
    """A head and shoulders before a blurred background; for shading, not for likeness."""
    import cv2

    image = cv2.GaussianBlur(dead_leaves(rng, size, textures), (0, 0), size * rng.uniform(0.02, 0.06))
    light, skin = lamp(rng), (np.array([0.95, 0.76, 0.64]) * rng.uniform(0.3, 1.0)).astype(np.float32)
    skin = skin * np.array([1, rng.uniform(0.9, 1.04), rng.uniform(0.85, 1.1)], np.float32)
    x, y, r = size * rng.uniform(0.38, 0.62), size * rng.uniform(0.36, 0.46), size * rng.uniform(0.15, 0.22)
    hair = colour(rng, 0) * np.float32(rng.uniform(0.15, 0.7))
    _ellipse(rng, image, (x, y - 0.15 * r), (1.12 * r, 1.35 * r), hair, light, 0.25)
    _ellipse(rng, image, (x, y + 1.5 * r), (0.42 * r, 0.8 * r), skin * np.float32(0.8), light, 0.03)
    _ellipse(rng, image, (x, y + 3.3 * r), (2.1 * r, 1.6 * r), colour(rng), light, 0.15)
    _ellipse(rng, image, (x, y + 0.1 * r), (0.85 * r, 1.18 * r), skin, light, 0.03)
    for side in (-1, 1):
        eye = x + side * 0.34 * r, y - 0.05 * r
        _ellipse(rng, image, eye, (0.15 * r, 0.08 * r), np.full(3, 0.9, np.float32), light, 0)
        _ellipse(rng, image, eye, (0.07 * r, 0.075 * r), colour(rng, 0) * np.float32(0.35), light, 0)
        _ellipse(rng, image, (eye[0], eye[1] - 0.2 * r), (0.2 * r, 0.045 * r), hair, light, 0)
    _ellipse(rng, image, (x, y + 0.3 * r), (0.1 * r, 0.2 * r), skin * np.float32(0.92), light, 0)
    _ellipse(
        rng,
        image,
        (x, y + 0.68 * r),
        (0.26 * r, 0.07 * r),
        skin * np.array([0.85, 0.5, 0.5], np.float32),
        light,
        0,
    )
    return image


def _ellipse(rng, image, centre, radii, tone, light, rough):
    """A shaded ellipsoid in place, rough with noise of that amplitude."""
    import cv2

    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    box = tuple(round(v * 16) for v in centre), tuple(max(8, round(v * 16)) for v in radii)
    cv2.ellipse(mask, *box, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    mask = mask.astype(np.float32) / 255
    shade, _ = shading(mask, light, 0.8 if min(radii) > size * 0.05 else 0.2)
    relief = shade * (1 + rough * noise(rng, size, size, coarse=6)) if rough else shade
    image += (np.clip(spread(relief.astype(np.float32), tone), 0, 1) - image) * spread(mask)
