"""The contact sheet: one row per edit, before and after, with its name."""

from pathlib import Path
from typing import TYPE_CHECKING

from .files import write

if TYPE_CHECKING:
    from PIL import Image

CELL, GAP, LABEL = 480, 12, 30  # pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)


def save(path: Path, rows: list[tuple[str, list["Image.Image"]]]) -> Path:
    """Writes rows of (label, pictures) as one PNG. Transparent pictures lie on a checkerboard."""
    from PIL import Image, ImageDraw

    scaled = [(label, [_fit(picture) for picture in row]) for label, row in rows]
    heights = [LABEL + max(picture.height for picture in row) + GAP for _, row in scaled]
    columns = max(len(row) for _, row in scaled)
    paper = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + sum(heights)), PAPER)
    draw, top = ImageDraw.Draw(paper), GAP
    for (label, row), height in zip(scaled, heights):
        draw.text((GAP, top), label, fill=INK, font=_font())
        for column, picture in enumerate(row):
            paper.paste(picture, (GAP + column * (CELL + GAP), top + LABEL))
        top += height
    return write(path, lambda file: paper.save(file, "PNG"))


def _fit(picture: "Image.Image") -> "Image.Image":
    picture = picture.copy()
    picture.thumbnail((CELL, CELL))
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    ground = _checkerboard(picture.size)
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def _checkerboard(size: tuple[int, int], step: int = 16) -> "Image.Image":
    from PIL import Image

    tile = Image.new("RGB", (2, 2), (235, 235, 235))
    tile.putpixel((0, 0), (205, 205, 205))
    tile.putpixel((1, 1), (205, 205, 205))
    cells = Image.new("RGB", (size[0] // step + 2, size[1] // step + 2))
    for x in range(0, cells.width, 2):
        for y in range(0, cells.height, 2):
            cells.paste(tile, (x, y))
    big = cells.resize((cells.width * step, cells.height * step), Image.Resampling.NEAREST)
    return big.crop((0, 0, *size))


def _font():
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=18)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
