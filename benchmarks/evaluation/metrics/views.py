"""A sample and its result as the metrics look at them: the result at the size of what it is compared with."""

from functools import cached_property

import numpy as np
from PIL import Image

from ..samples import WHITE, Sample

SIDE = 2048  # px: larger pictures are measured at that longest side, so that a phone's photograph fits into memory


class Views:
    """One sample's pictures, each read and resized once.

    source: what was edited, which in a later turn is the result before it.
    """

    def __init__(self, sample: Sample, source: Image.Image, result: Image.Image):
        self.sample, self.source_picture, self.result_picture = sample, fitting(source), result.convert("RGB")

    @cached_property
    def target_picture(self) -> Image.Image:
        return fitting(self.sample.target.load())

    @cached_property
    def source(self) -> np.ndarray:
        return values(self.source_picture)

    @cached_property
    def target(self) -> np.ndarray:
        return values(self.target_picture)

    @cached_property
    def result(self) -> np.ndarray:
        """The result at the source's size."""
        return values(at(self.result_picture, self.source_picture.size))

    @cached_property
    def result_as_target(self) -> np.ndarray:
        """The result at the target's size, as MagicBrush's evaluation resizes it."""
        return values(at(self.result_picture, self.target_picture.size))

    @cached_property
    def region(self) -> np.ndarray:
        """True where the edit is, at the source's size."""
        return self.region_at(self.source_picture.size)

    def region_at(self, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(self.sample.region.grey().resize(size, Image.Resampling.NEAREST)) > WHITE


def fitting(picture: Image.Image) -> Image.Image:
    """The picture in RGB, scaled down where its longest side is over SIDE."""
    picture = picture.convert("RGB")
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def at(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resized as Pillow does by default (bicubic)."""
    return picture if picture.size == size else picture.resize(size)


def values(picture: Image.Image) -> np.ndarray:
    """[h, w, 3], 0..1."""
    return np.asarray(picture, np.float32) / np.float32(255)


def prepared(picture: Image.Image, shorter: int, crop: int, mean: tuple, deviation: tuple) -> np.ndarray:
    """The picture as CLIP's and DINO's preprocessing has it: [3, crop, crop].

    The shorter side is resized to `shorter` (bicubic), the middle `crop` square cut out, each channel normalised.
    """
    width, height = picture.size
    long = int(shorter * max(width, height) / min(width, height))
    size = (shorter, long) if width <= height else (long, shorter)
    picture = at(picture, size)
    left, top = ((n - crop) // 2 for n in size)
    square = values(picture.crop((left, top, left + crop, top + crop)))
    return ((square - np.float32(mean)) / np.float32(deviation)).transpose(2, 0, 1)
