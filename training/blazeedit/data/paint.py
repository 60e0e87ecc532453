"""Colours, noise, textures and shading from which scenes and objects are rendered.

Colours follow a prior of natural hues: tone correction learns what pictures look like from its targets, so
a renderer full of purple would teach purple.
"""

import numpy as np

from .light import spread

HUES = (
    (0.45, 12, 48),
    (0.17, 65, 135),
    (0.18, 195, 235),
    (0.20, 0, 360),
)  # share, degrees: earth, leaf, sky, any


def colour(rng: np.random.Generator, kind=None) -> np.ndarray:
    """A colour of the natural-hue prior, float32 [3]. kind: 0 earth and skin, 1 foliage, 2 sky, 3 any hue."""
    kind = rng.choice(len(HUES), p=[h[0] for h in HUES]) if kind is None else kind
    hue = rng.uniform(*HUES[kind][1:]) / 60
    saturation, value = rng.beta(2.0, 3.6) * (0.8 if kind == 3 else 1.0), 0.12 + 0.85 * rng.beta(2.2, 2.0)
    pure = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)  # HSV
    return (value * (1 - saturation * (1 - pure))).astype(np.float32)


def noise(
    rng: np.random.Generator, height: int, width: int, *, coarse=3, octaves=5, roughness=0.55, stretch=1.0
):
    """Fractal noise [height, width] with mean 0 and standard deviation 1. stretch > 1: horizontal streaks."""
    import cv2

    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = round(coarse * 2**octave * stretch) + 1, round(coarse * 2**octave / stretch) + 2
        if rows > 2 * height:
            break
        grid = rng.standard_normal((rows, columns), np.float32)
        total += roughness**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return (total - total.mean()) / max(float(total.std()), 1e-6)


def texture(rng: np.random.Generator, size: int, base=None, textures=None) -> np.ndarray:
    """A textured surface [size, size, 3]. textures: a PhotoBank that gives one in four."""
    if textures is not None and rng.random() < 0.25:
        return textures.crop(rng, size)
    base = colour(rng) if base is None else base
    pattern = _PATTERNS[rng.choice(len(_PATTERNS), p=_LIKELIHOOD)](rng, size)
    strength = rng.uniform(0.03, 0.28)
    tinted = spread(1 + strength * pattern, base)
    other = colour(rng)
    weight = np.clip(0.5 + 0.4 * noise(rng, size, size, octaves=3), 0, 1) * np.float32(rng.uniform(0, 0.35))
    grain = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0, 0.02))
    return np.clip(tinted * spread(1 - weight) + spread(weight, other) + spread(grain), 0, 1)


def _fractal(rng, size):
    return noise(rng, size, size, coarse=rng.integers(2, 12), roughness=rng.uniform(0.45, 0.85))


def _streaks(rng, size):
    """Wood grain or brushed metal, along either axis."""
    pattern = noise(rng, size, size, coarse=rng.integers(4, 10), stretch=rng.uniform(2, 5))
    return pattern if rng.random() < 0.5 else np.ascontiguousarray(pattern.T)


def _waves(rng, size):
    """Regular stripes, bent by noise: cloth, fences, tiles."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(4, 22)
    phase = frequency * (rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi
    wave = np.sin(phase + rng.uniform(0, 1.2) * noise(rng, size, size, octaves=3)).astype(np.float32)
    return np.tanh(wave * np.float32(rng.uniform(0.7, 4))) * np.float32(1.2)


def _cells(rng, size):
    """Pebbles: brightness and dark gaps from the distance to scattered seeds."""
    import cv2

    seeds = np.ones((size, size), np.uint8)
    count = rng.integers(30, 400)
    seeds[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
    distance, label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.standard_normal(int(label.max()) + 1, np.float32)[label]
    return 0.7 * shade + 1.0 - 1.4 * distance / max(float(distance.mean()), 1e-6) * np.float32(0.7)


def _bricks(rng, size):
    """Courses of bricks with joints and one brightness per brick."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    height = size / rng.uniform(6, 18)
    width = height * rng.uniform(1.0, 3.0)
    course = np.floor(rows / height)
    shifted = columns / width + 0.5 * (course % 2)
    joint = (rows / height % 1 < 0.1) | (shifted % 1 < 0.1 * height / width)
    shade = rng.standard_normal(4096).astype(np.float32)[(course * 61 + np.floor(shifted)).astype(int) % 4096]
    return np.where(joint, -2.0, 0.6 * shade + 0.4 * noise(rng, size, size, coarse=12)).astype(np.float32)


_PATTERNS, _LIKELIHOOD = (_fractal, _streaks, _waves, _cells, _bricks), (0.45, 0.18, 0.13, 0.14, 0.10)


def outline(rng: np.random.Generator, size: int) -> np.ndarray:
    """A soft-edged shape that nearly fills [size, size], 0..1: ellipse, polygon, box, blob, leaf, bottle."""
    import cv2

    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    kind, turn = rng.integers(6), rng.uniform(0, 2 * np.pi)
    if kind == 1:  # polygon of 3 to 7 corners
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
    radius = np.ones_like(angle)
    if kind == 2:  # rounded box
        radius = (np.abs(np.cos(angle)) ** 8 + np.abs(np.sin(angle)) ** 8) ** (-1 / 8) * 0.8
    elif kind == 3:  # blob
        radius = np.clip(0.75 + sum(rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4)),
                         0.3, 1)  # fmt: skip
    elif kind == 4:  # leaf
        radius = 0.15 + 0.85 * np.abs(np.cos(angle)) ** rng.uniform(0.8, 2.5)
    elif kind == 5:  # bottle: narrow above the shoulder
        radius = np.where(np.abs(np.sin(angle + np.pi / 4)) > 0.95, 1.0, rng.uniform(0.45, 0.75))
    if kind in (2, 5):
        turn = rng.normal(0, 0.12)
    squeeze = rng.uniform(0.55, 1.0)
    points = np.stack([np.cos(angle) * radius, np.sin(angle) * radius * squeeze], 1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (points @ rotation.T * 0.48 + 0.5) * size * 16
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def shading(mask: np.ndarray, light: np.ndarray, roundness: float):
    """Lambert shade about 0.3..1.1 and specular 0..1 of a shape puffed up from its outline, both [h, w].

    light: unit vector (x, y, z) towards the lamp. roundness: 0 flat, 1 as round as a ball.
    """
    import cv2

    distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    radius = max(float(distance.max()), 1.0)
    depth = np.clip(distance / radius, 0, 1)
    height = cv2.GaussianBlur(np.sqrt(depth * (2 - depth)), (0, 0), 0.06 * radius + 0.6) * np.float32(
        radius * roundness
    )
    dx, dy = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    length = np.sqrt(dx * dx + dy * dy + 1)
    toward = (-dx * light[0] - dy * light[1] + light[2]).astype(np.float32) / length
    shade = 0.3 + 0.85 * np.clip(toward, 0, 1)
    half = light + np.array([0, 0, 1.0])
    half = half / np.linalg.norm(half)
    gloss = np.clip((-dx * half[0] - dy * half[1] + half[2]).astype(np.float32) / length, 0, 1) ** np.float32(
        40
    )
    return shade, gloss


def lamp(rng: np.random.Generator) -> np.ndarray:
    """A unit vector (x right, y down, z towards the viewer): light from above, left or right."""
    direction = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.9, -0.1), rng.uniform(0.4, 1.0)])
    return direction / np.linalg.norm(direction)


def canon(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brings a rendered picture to a photograph's statistics: full range, little cast, mean 0.33-0.5."""
    low, high = np.percentile(image[::3, ::3].mean(2), (1, 99))
    image = np.clip((image - low) / max(high - low, 0.15), 0, 1)
    mean = image.mean((0, 1))
    cast = (mean.mean() / np.maximum(mean, 0.05)) ** rng.uniform(0.3, 0.8)
    image = np.clip(image * np.clip(cast, 0.7, 1.4).astype(np.float32), 1e-4, 1)
    grey = spread(image.mean(2))
    image = grey + (image - grey) * np.float32(rng.uniform(0.55, 0.95))  # the stretch made colours stronger
    gamma = np.log(rng.uniform(0.33, 0.5)) / np.log(np.clip(image.mean(), 0.05, 0.9))
    black, white = rng.uniform(0, 0.04), rng.uniform(0.9, 1.0)
    return (black + (white - black) * image ** np.float32(np.clip(gamma, 0.55, 1.8))).astype(np.float32)
