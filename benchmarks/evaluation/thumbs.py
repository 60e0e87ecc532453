"""Small copies of the pictures of every sample, for the pages of a report and of a comparison."""

import io
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

from ...headless.files import write
from ...models.errors import EditError
from .metrics.views import Views
from .samples import WHITE, Sample

FOLDER, SIDE, QUALITY = "thumbs", 320, 85
OUTLINE, HALO = (255, 64, 96), (255, 255, 255)  # seen on red, too
KINDS = ("source", "result", "target")


def path(out: Path, stem: str, kind: str) -> Path:
    return out / FOLDER / f"{stem}_{kind}.jpg"


def save(out: Path, sample: Sample, views: Views) -> None:
    """source (with the mask's outline), result and, where there is one, target."""
    _write(path(out, sample.stem, "source"), _outlined(small(views.source_picture), sample))
    _write(path(out, sample.stem, "result"), small(views.result_picture))
    if sample.target is not None:
        try:
            target = small(views.target_picture)
        except EditError:  # its row says so
            return
        _write(path(out, sample.stem, "target"), target)


def small(picture: Image.Image) -> Image.Image:
    made = picture.convert("RGB")
    made.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return made


def _outlined(picture: Image.Image, sample: Sample) -> Image.Image:
    if sample.mask is None:
        return picture
    try:
        mask = sample.mask.grey().resize(picture.size).point(lambda level: 255 * (level > WHITE))
    except EditError:
        return picture
    for grown, colour in ((7, HALO), (3, OUTLINE)):
        edge = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(grown)), mask.filter(ImageFilter.MinFilter(3)))
        picture = Image.composite(Image.new("RGB", picture.size, colour), picture, edge)
    return picture


def _write(place: Path, picture: Image.Image) -> None:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY)
    write(place, lambda file: file.write(content.getvalue()))
