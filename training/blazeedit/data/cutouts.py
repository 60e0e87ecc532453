"""Photographed objects with soft alpha, and how they vary each time they are taken."""

from pathlib import Path

import numpy as np

from ....models.errors import EditError
from .light import spread
from .photos import list_pictures


class CutoutBank:
    """Objects kept as premultiplied uint8 pyramids, trimmed to their outline."""

    def __init__(self, source):
        """source: a folder of pictures with alpha, or a dict {name: uint8 [h, w, 4]}."""
        self._levels = {}
        for name, rgba in _load(source):
            coverage = (rgba[..., 3] > 127).mean()
            if 0.02 < coverage < 0.98:  # an opaque rectangle or an empty picture is no object
                self._levels[name] = _halvings(_premultiplied(_trim(rgba)))
        if not self._levels:
            raise EditError("No cut-out found: give PNG files whose background is transparent.")

    @property
    def names(self) -> list[str]:
        return list(self._levels)

    def __len__(self):
        return len(self._levels)

    def split(self) -> tuple["CutoutBank", "CutoutBank"]:
        """(training, validation): every ninth of the sorted names is validation."""
        held = sorted(self._levels)[::9]
        return self._of([n for n in self._levels if n not in held]), self._of(held)

    def _of(self, names):
        bank = CutoutBank.__new__(CutoutBank)
        bank._levels = {name: self._levels[name] for name in names}
        return bank

    def take(self, rng: np.random.Generator, size: int, vary=True) -> np.ndarray:
        """A random object that fills a canvas: float32 [size, size, 4], straight alpha, 0..1.

        vary: mirrors half of them and changes aspect ratio, brightness, contrast and warmth a little.
        """
        levels = self._levels[self.names[rng.integers(len(self))]]
        out = _fit(levels, size, rng.uniform(0.88, 1.14) if vary else 1.0)
        rgb = out[..., :3] / spread(np.maximum(out[..., 3], 1e-3))
        if vary:
            rgb *= 1 + np.float32(rng.uniform(-0.35, 0.35)) * (1 - rgb)  # a gamma curve without the power
            rgb *= spread(
                np.full(rgb.shape[:2], rng.uniform(0.75, 1.2), np.float32), rng.uniform(0.95, 1.05, 3)
            )
        out[..., :3] = np.clip(rgb, 0, 1)
        return np.ascontiguousarray(out[:, ::-1]) if vary and rng.random() < 0.5 else out

    def silhouette(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """The outline alone, mirrored and stretched at random: float32 [size, size] in 0..1."""
        levels = self._levels[self.names[rng.integers(len(self))]]
        alpha = _fit([level[..., 3:] for level in levels], size, rng.uniform(0.7, 1.4))
        return np.ascontiguousarray(alpha[:, :: rng.choice((-1, 1)), 0])


def _load(source):
    from PIL import Image

    if isinstance(source, dict):
        yield from source.items()
        return
    for path in list_pictures(Path(source)):
        with Image.open(path) as image:
            yield path.stem, np.asarray(image.convert("RGBA"))


def _trim(rgba):
    rows, columns = np.nonzero((rgba[..., 3] > 8).any(1))[0], np.nonzero((rgba[..., 3] > 8).any(0))[0]
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _premultiplied(rgba):
    rgb = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255
    return np.concatenate([rgb.astype(np.uint8), rgba[..., 3:]], 2)


def _halvings(image):
    """Half sizes down to 48 px: the final resize then never shrinks by more than two."""
    import cv2

    levels = [image]
    while max(levels[-1].shape[:2]) >= 96 and min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def _fit(levels, size, stretch):
    """Scales the smallest sufficient level into a [size, size, c] canvas, centred; float32 0..1."""
    import cv2

    level = next((v for v in reversed(levels) if max(v.shape[:2]) >= size), levels[0])
    height, width = level.shape[0], level.shape[1] * stretch
    scale = size / max(height, width)
    h, w = min(size, max(1, round(height * scale))), min(size, max(1, round(width * scale)))
    method = cv2.INTER_AREA if h < level.shape[0] else cv2.INTER_LINEAR
    fitted = cv2.resize(np.ascontiguousarray(level), (w, h), interpolation=method).reshape(h, w, -1)
    canvas = np.zeros((size, size, fitted.shape[2]), np.float32)
    top, left = (size - h) // 2, (size - w) // 2
    canvas[top : top + h, left : left + w] = fitted * np.float32(1 / 255)
    return canvas
