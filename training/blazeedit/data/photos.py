"""Photographs in memory as pyramids, so that a random crop at a random scale is a slice.

Decoding and resizing photographs costs more than training on them; a pyramid with factor 0.71 doubles the memory
once and makes a crop free. Whole photographs, never crops, are held back for validation.
"""

import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from ....models.errors import EditError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}
VALIDATION = (
    "cliff", "colorfulcups", "eveningglow", "fruits", "leuvena",
    "picture_1a", "redwoods_above", "scenetext06", "squirrel_cls", "twowings",
)  # fmt: skip
HELD_OUT = ("astronaut", "chelsea", "coffee", "rocket", "flower")  # scored only, never trained on
PACKAGED = (
    "camera.png", "coins.png", "brick.png", "grass.png", "gravel.png", "ihc.png", "retina.jpg",
    "hubble_deep_field.jpg", "moon.png", "page.png", "motorcycle_left.png",
)  # fmt: skip
FACTOR, SMALLEST, LARGEST = (
    0.71,
    144,
    2048,
)  # pyramid step, shortest side of its last level, longest of its first
SERIES_WEIGHT = 0.45  # near-duplicates (a panorama's views) may not dominate


def read_image(path) -> np.ndarray:
    """Reads a photograph as uint8 [h, w, 3], turned upright by its EXIF tag, at most 2048 px long.

    A transparent sky is filled with a gradient that depends on the file's name alone. EditError for an
    unreadable file.
    """
    from PIL import Image, ImageOps

    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (LARGEST, LARGEST))  # JPEG: decode at a reduced size where that suffices
            image = ImageOps.exif_transpose(opened)
            transparent = "A" in image.getbands() or "transparency" in image.info
            pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    except OSError as error:
        raise EditError(f"{path} cannot be read as a picture ({error}); remove it or convert it.") from None
    if transparent:
        pixels = fill_sky(pixels, np.random.default_rng(zlib.crc32(path.stem.encode())))
    return _shrink(np.ascontiguousarray(pixels), LARGEST)


def fill_sky(rgba: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts a plausible sky gradient behind a uint8 [h, w, 4] picture; returns uint8 [h, w, 3]."""
    height, width = rgba.shape[:2]
    zenith = np.array([0.22, 0.42, 0.78]) + rng.uniform(-0.12, 0.14, 3) * (1, 0.8, 0.6)
    if rng.random() < 0.35:  # overcast
        zenith = np.full(3, rng.uniform(0.55, 0.8)) + rng.uniform(-0.03, 0.03, 3)
    horizon = 0.35 * zenith + 0.65 * np.array([0.9, 0.92, 0.94]) + rng.uniform(-0.05, 0.05, 3)
    depth = np.clip(np.linspace(0, rng.uniform(1.0, 1.9), height), 0, 1)[:, None, None]
    sky = (
        zenith * (1 - depth) + horizon * depth + _clouds(rng, height, width)[..., None] * rng.uniform(0, 0.25)
    )
    alpha = rgba[..., 3:].astype(np.float32) / 255
    mixed = rgba[..., :3] * alpha + np.clip(sky, 0, 1) * 255 * (1 - alpha)
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _clouds(rng, height, width):
    """Two octaves of smooth noise, stretched horizontally, about -0.5..0.5."""
    import cv2

    octaves = [cv2.resize(rng.random((4 * n, 3 * n), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
               for n in (1, 3)]  # fmt: skip
    return 0.65 * octaves[0] + 0.35 * octaves[1] - 0.5


def _shrink(image, longest):
    import cv2

    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _enlarge(image, size):
    """Scales a picture up until its short side is `size` px."""
    import cv2

    scale = size / min(image.shape[:2])
    shape = (max(size, round(image.shape[1] * scale)), max(size, round(image.shape[0] * scale)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC)


def pyramid(image: np.ndarray) -> list[np.ndarray]:
    """The levels of a uint8 [h, w, c] picture: factor 0.71 each, down to a short side of 144 px."""
    import cv2

    levels, (height, width) = [image], image.shape[:2]
    while min(height, width) * FACTOR >= SMALLEST:
        height, width = round(height * FACTOR), round(width * FACTOR)
        levels.append(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA))
    return levels


def series_weights(names) -> dict[str, float]:
    """Weight 0.45 for each name that shares its leading letters with two or more others, else 1."""
    stem = {name: (re.match("[a-z]+", name.lower()) or [name])[0] for name in names}
    known = set(stem.values())
    for name, letters in stem.items():
        if len(letters) > 5 and letters[:-1] in known:  # "hurricaneb" belongs to "hurricane"
            stem[name] = letters[:-1]
    count = Counter(stem.values())
    return {name: SERIES_WEIGHT if count[stem[name]] >= 3 else 1.0 for name in names}


def list_pictures(folder) -> list[Path]:
    """The picture files of a folder, sorted. EditError where the folder is missing or has none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EditError(f"There is no folder {folder}; give one that holds photographs.")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise EditError(f"The folder {folder} holds no pictures; put JPEG or PNG files there.")
    return found


class PhotoBank:
    """Photographs kept as uint8 pyramids; `crop` gives float32 [size, size, 3] in 0..1."""

    def __init__(self, source, names=None, weights=None):
        """source: a folder, a list of folders, a dict {name: uint8 [h, w, 3]} or a list of such arrays."""
        self._levels = {name: pyramid(image) for name, image in _load(source, names)}
        if not self._levels:
            raise EditError("A bank of photographs needs at least one; give a folder that holds some.")
        self.weights = series_weights(self._levels) | (weights or {})

    @property
    def names(self) -> list[str]:
        return list(self._levels)

    def __len__(self):
        return len(self._levels)

    def image(self, name: str) -> np.ndarray:
        """The whole photograph, uint8 [h, w, 3]."""
        return self._levels[name][0]

    def pick(self, rng: np.random.Generator, names=None) -> str:
        """Draws a name by weight."""
        names = list(names or self._levels)
        weight = np.array([self.weights[name] for name in names])
        return names[int(rng.choice(len(names), p=weight / weight.sum()))]

    def crop(self, rng: np.random.Generator, size: int, names=None, flip=True) -> np.ndarray:
        """A square of `size` px from a random photograph and pyramid level, mirrored half of the time."""
        levels = self._levels[self.pick(rng, names)]
        fitting = [level for level in levels if min(level.shape[:2]) >= size]
        level = fitting[rng.integers(len(fitting))] if fitting else _enlarge(levels[0], size)
        top = rng.integers(level.shape[0] - size + 1)
        left = rng.integers(level.shape[1] - size + 1)
        crop = level[top : top + size, left : left + size]
        if flip and rng.random() < 0.5:
            crop = crop[:, ::-1]
        return crop.astype(np.float32) * np.float32(1 / 255)

    def split(self, validation_names=VALIDATION, seed=0) -> tuple["PhotoBank", "PhotoBank"]:
        """(training, validation): by stem prefix; where none matches, every ninth of a seeded order."""
        held = [name for name in self.names if name.startswith(tuple(validation_names))]
        if not held or len(held) == len(self):
            held = [self.names[i] for i in np.random.default_rng(seed).permutation(len(self))[::9]]
        if len(held) == len(self):
            raise EditError(f"{len(self)} photograph cannot be split into training and validation; add some.")
        return self.subset([name for name in self.names if name not in held]), self.subset(held)

    def subset(self, names) -> "PhotoBank":
        """A bank of some of the photographs that shares their memory."""
        return PhotoBank._of({name: self._levels[name] for name in names}, self.weights)

    def joined(self, other: "PhotoBank", weight=1.0) -> "PhotoBank":
        """Both banks in one, the other's weights times `weight`; shares their memory."""
        weights = self.weights | {name: value * weight for name, value in other.weights.items()}
        return PhotoBank._of(self._levels | other._levels, weights)

    @classmethod
    def _of(cls, levels, weights):
        bank = cls.__new__(cls)
        bank._levels, bank.weights = levels, {name: weights[name] for name in levels}
        return bank


def _load(source, names):
    """Yields (name, uint8 [h, w, 3]) from whatever PhotoBank accepts."""
    if isinstance(source, dict):
        yield from ((name, _shrink(_rgb(image), LARGEST)) for name, image in source.items())
    elif isinstance(source, str | Path):
        yield from ((path.stem, read_image(path)) for path in list_pictures(source))
    elif len(source) and isinstance(source[0], np.ndarray):
        yield from _load(
            dict(zip(names or [f"picture{i}" for i in range(len(source))], source, strict=True)), None
        )
    else:
        for folder in source:
            yield from _load(folder, None)


def _rgb(image):
    """uint8 [h, w], [h, w, 3 or 4] -> uint8 [h, w, 3]."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise EditError(f"A photograph must be uint8, this one is {image.dtype}; scale it to 0..255 first.")
    return np.repeat(image[..., None], 3, 2) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])


def package_photographs() -> dict[str, np.ndarray]:
    """Training photographs inside scikit-image and scikit-learn, {name: uint8 [h, w, 3]}, none of the held-out.

    Only what lies on the disc is read: nothing is downloaded.
    """
    skimage, sklearn = _package_folders()
    files = [skimage / name for name in PACKAGED] + [sklearn / "china.jpg"]
    return {path.stem: read_image(path) for path in files if path.is_file()}


def heldout_photographs() -> dict[str, np.ndarray]:
    """The five photographs that are scored and never trained on, {name: uint8 [h, w, 3]}."""
    skimage, sklearn = _package_folders()
    files = [skimage / n for n in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
    return {path.stem: read_image(path) for path in [*files, sklearn / "flower.jpg"]}


def _package_folders():
    """The sample folders of scikit-image and scikit-learn, without importing either (that takes seconds)."""
    from importlib.util import find_spec

    def home(package):
        spec = find_spec(package)
        if spec is None:
            raise EditError(
                f"{package} is not installed; install requirements-train.txt for its photographs."
            )
        return Path(spec.submodule_search_locations[0])

    return home("skimage") / "data", home("sklearn") / "datasets" / "images"
