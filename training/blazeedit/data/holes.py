"""Masks for pretraining and finetuning: float32 [size, size], exactly 0 or 1, white (1) = to be filled.

Pretraining draws from the zoo (patches, shapes, strokes, block grids, borders, silhouettes); removal sees
object-like holes, outpainting strips at the border.
"""

import numpy as np

SMALLEST, LARGEST = 0.02, 0.75  # share of the picture that a zoo mask may cover
FAMILIES = {
    "border": 0.25,
    "silhouette": 0.25,
    "patches": 0.15,
    "strokes": 0.15,
    "blob": 0.10,
    "blocks": 0.10,
}


def zoo_mask(rng: np.random.Generator, size: int, cutouts=None) -> np.ndarray:
    """A mask of any family, covering 2-75 % of the picture. cutouts: a CutoutBank for real silhouettes."""
    family = rng.choice(list(FAMILIES), p=list(FAMILIES.values()))
    return _drawn(rng, size, family, cutouts, SMALLEST, LARGEST)


def removal_hole(
    rng: np.random.Generator, size: int, cutouts=None, smallest=0.12, largest=0.42
) -> np.ndarray:
    """A hole as a removed object leaves it: dilated silhouettes, blobs, strokes; 12-42 % of the crop canvas."""
    family = rng.choice(("silhouette", "blob", "strokes"), p=(0.55, 0.27, 0.18))
    return _drawn(rng, size, family, cutouts, smallest, largest)


def outpaint_strip(rng: np.random.Generator, size: int, smallest=0.20, largest=0.38) -> np.ndarray:
    """Strips along one, two opposite or two adjacent sides that together cover 20-38 % of the picture."""
    total, part = rng.uniform(smallest, largest), rng.uniform(0.3, 0.7)
    layout = rng.choice(("one", "opposite", "adjacent"), p=(0.55, 0.25, 0.20))
    mask = np.zeros((size, size), np.float32)
    if layout == "one":
        mask[: round(total * size)] = 1
    elif layout == "opposite":
        first = round(total * size * part)
        mask[:first] = mask[size - (round(total * size) - first) :] = 1
    else:  # the kept corner's area is (1 - a)(1 - b) = 1 - total
        mask[: round((1 - (1 - total) ** part) * size)] = 1
        mask[:, : round((1 - (1 - total) ** (1 - part)) * size)] = 1
    return np.ascontiguousarray(np.rot90(mask, rng.integers(4)))


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Grows a binary mask by a disc of `radius` px (shrinks it for a negative radius)."""
    import cv2

    reach = round(abs(radius))
    if reach == 0:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    return (cv2.dilate if radius > 0 else cv2.erode)(mask, kernel)


def _drawn(rng, size, family, cutouts, smallest, largest):
    """Draws until the area fits; after eight tries a plain rectangle of a fitting area."""
    for _ in range(8):
        draw = {"border": _border, "patches": _patches, "strokes": _strokes, "blob": _blob, "blocks": _blocks}
        mask = _silhouette(rng, size, cutouts) if family == "silhouette" else draw[family](rng, size)
        if smallest <= mask.mean() <= largest:
            return mask
    share = rng.uniform(0.3 * smallest + 0.2 * largest, 0.5 * (smallest + largest))
    return _rectangle(rng, size, share**0.5, share**0.5)


def _rectangle(rng, size, height, width):
    """One rectangle of the given shares of the side, anywhere inside."""
    h, w = round(height * size), round(width * size)
    top, left = rng.integers(size - h + 1), rng.integers(size - w + 1)
    mask = np.zeros((size, size), np.float32)
    mask[top : top + h, left : left + w] = 1
    return mask


def _patches(rng, size):
    sides = rng.uniform(0.08, 0.5, (rng.integers(1, 6), 2))
    return np.maximum.reduce([_rectangle(rng, size, h, w) for h, w in sides])


def _border(rng, size):
    """Padding on random sides, 5-45 % each."""
    keep = np.zeros((size, size), np.float32)
    top, bottom, left, right = (rng.random(4) < 0.45) * rng.uniform(0.05, 0.45, 4) * size
    keep[round(top) : size - round(bottom), round(left) : size - round(right)] = 1
    return 1 - keep


def _blocks(rng, size):
    """A random subset of a coarse grid of blocks."""
    cell = int(rng.choice((8, 16, 32)))
    cells = -(-size // cell)
    chosen = (rng.random((cells, cells)) < rng.uniform(0.1, 0.7)).astype(np.float32)
    return np.ascontiguousarray(np.kron(chosen, np.ones((cell, cell), np.float32))[:size, :size])


def _strokes(rng, size):
    """Brush strokes: random walks drawn with a thick pen."""
    import cv2

    mask = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        steps = rng.normal(0, size * 0.14, (rng.integers(3, 9), 2)) + rng.normal(0, size * 0.05, 2)
        points = np.cumsum(steps, 0) + rng.uniform(0.2, 0.8, 2) * size
        thickness = max(2, round(size * rng.uniform(0.05, 0.16)))
        cv2.polylines(mask, [points.astype(np.int32)], False, 1.0, thickness, cv2.LINE_8)
    return mask


def _blob(rng, size):
    """A closed curve whose radius is a random low-order Fourier series."""
    import cv2

    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.28 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 6))
    radius = np.maximum(radius, 0.25) * size * rng.uniform(0.12, 0.42)
    stretch = rng.uniform(0.6, 1.6)
    curve = np.stack([np.cos(angle) * radius * stretch, np.sin(angle) * radius / stretch], 1)
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [(curve + rng.uniform(0.15, 0.85, 2) * size).astype(np.int32)], 1.0)
    return mask


def _silhouette(rng, size, cutouts):
    """A dilated object outline at a random place, partly outside at times."""
    if cutouts is None:
        return dilate(_blob(rng, size), size * rng.uniform(0.01, 0.05))
    side = round(size * rng.uniform(0.35, 1.1))
    outline = (cutouts.silhouette(rng, side) > 0.5).astype(np.float32)
    mask = np.zeros((size, size), np.float32)
    low, high = sorted((-side // 6, size - side + side // 6))
    top, left = rng.integers(low, high + 1, 2)
    t, b, l, r = max(top, 0), min(top + side, size), max(left, 0), min(left + side, size)
    mask[t:b, l:r] = outline[t - top : b - top, l - left : r - left]
    return dilate(mask, max(1, size * rng.uniform(0.008, 0.05)))
