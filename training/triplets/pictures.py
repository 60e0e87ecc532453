"""Pictures of a build: opened, scaled, saved whole, and measured for what went wrong with an edit."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...models.errors import EditError
from .ledger import write

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {"png": {"format": "PNG", "compress_level": 4}, "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0}}
VISIBLE = 8  # of 255: a pixel that differs by more has changed; what a VAE's round trip leaves is mostly below
FLAT, FLAT_SHARE = 4, 0.995  # a picture is blank where so large a share lies so near its median, of 255
SHAPE = 0.02  # by which sides may differ in their ratio


class Unreadable(Exception):
    """A file that is no picture, in words."""


def opened(data: bytes) -> "Image.Image":
    """A picture in RGB, turned upright. Unreadable for one that is damaged or too large."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:  # Pillow raises all kinds on damaged files
        raise Unreadable(f"it cannot be read as a picture ({type(error).__name__})") from None


def read(path: Path) -> "Image.Image":
    """A picture that this build wrote, in RGB. EditError for one that has gone or is damaged since."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        raise EditError(
            f"{path}, which this build wrote, is gone or damaged; put it back, or begin anew with another --out."
        ) from None


def save(path: Path, picture: "Image.Image") -> Path:
    """Writes a picture whole or not at all; its suffix is one of FORMATS."""
    options = FORMATS[path.suffix[1:]]
    return write(path, lambda file: picture.convert("RGB").save(file, **options))


def shortened(picture: "Image.Image", side: int) -> "Image.Image":
    """Scaled so that the shorter side has `side` pixels, the shape kept."""
    from PIL import Image

    short = min(picture.size)
    if short == side:
        return picture
    width, height = (side if length == short else round(length * side / short) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def fitted(picture: "Image.Image", size: tuple[int, int]) -> "Image.Image | None":
    """A result at its source's size; None where it has another shape, so that no pixel would match."""
    from PIL import Image

    if picture.size == size:
        return picture
    ratio = (picture.width / picture.height) / (size[0] / size[1])
    if not 1 - SHAPE <= ratio <= 1 + SHAPE:
        return None
    return picture.resize(size, Image.Resampling.LANCZOS)


def changed(source: "Image.Image", result: "Image.Image") -> float:
    """The share of pixels that visibly differ, 0 to 1. Both of one size."""
    one, other = (np.asarray(p, dtype=np.int16) for p in (source, result))
    return float((np.abs(one - other).max(-1) > VISIBLE).mean())


def blank(picture: "Image.Image") -> bool:
    """Whether it shows nothing: (almost) all pixels have one colour."""
    pixels = np.asarray(picture, dtype=np.int16).reshape(-1, 3)
    return float((np.abs(pixels - np.median(pixels, 0)).max(-1) <= FLAT).mean()) >= FLAT_SHARE


def tensor(picture: "Image.Image"):
    """[3, h, w], 0..1, as judges take it."""
    import torch

    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).movedim(-1, 0)
