"""A labelled grid of pictures, for comparing settings side by side."""

import numpy as np
import torch
from torch import Tensor

GAP, LABEL, PAPER, INK = 8, 26, (255, 255, 255), (40, 40, 40)
SIZE = 16  # px of the letters


def grid(
    rows: list[list[Tensor]], across: list[str], down: list[str], title: str = "", cell: int = 256
) -> Tensor:
    """Pictures [3, h, w] as a grid with a label above each column and before each row: [1, 3, H, W].

    cell: the longest side of a shown picture in pixels; a column is at least as wide as its label, which may have
    several lines. `rows` holds len(down) lists of len(across) pictures.
    """
    from PIL import Image, ImageDraw

    shown = [[thumbnail(picture, cell) for picture in row] for row in rows]
    width, height = shown[0][0].size
    labels = [text.split("\n") for text in across]
    width = max(width, *(length(line) for lines in labels for line in lines))
    left = GAP + max(length(text) for text in down) + GAP
    top = GAP + LABEL * (bool(title) + max(map(len, labels)))
    paper = Image.new("RGB", (left + len(across) * (width + GAP), top + len(down) * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(paper)
    if title:
        write(draw, (left, GAP), shortened(title, paper.width - left - GAP))
    for column, lines in enumerate(labels):
        for up, line in enumerate(reversed(lines), 1):
            write(draw, (left + column * (width + GAP), top - up * LABEL), line)
    for number, (text, row) in enumerate(zip(down, shown, strict=True)):
        y = top + number * (height + GAP)
        write(draw, (GAP, y + height // 2 - LABEL // 2), text)
        for column, picture in enumerate(row):
            paper.paste(picture, (left + column * (width + GAP), y))
    return torch.from_numpy(np.asarray(paper).copy()).permute(2, 0, 1)[None].float() / 255


def shortened(text: str, most: int, size: int = SIZE) -> str:
    """The text on one line, cut to a width in pixels."""
    text = " ".join(text.split())
    while len(text) > 1 and length(text, size) > most:
        text = text[:-2].rstrip() + "…"
    return text


def write(draw, place: tuple[int, int], text: str, size: int = SIZE, ink: tuple = INK) -> None:
    """Writes a line at a place (x, y) of a Pillow drawing."""
    try:
        draw.text(place, text, fill=ink, font=_font(size))
    except UnicodeEncodeError:  # the font of a Pillow without FreeType knows Latin-1 only
        draw.text(place, text.encode("latin-1", "replace").decode("latin-1"), fill=ink, font=_font(size))


def thumbnail(picture: Tensor, cell: int):
    """A picture [3, h, w] as a Pillow image whose longest side is at most `cell` pixels."""
    from PIL import Image

    values = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(values)
    image.thumbnail((cell, cell))
    return image


def length(text: str, size: int = SIZE) -> int:
    """How long a line is in pixels."""
    try:
        return int(_font(size).getlength(text)) + 1
    except UnicodeEncodeError:
        return int(_font(size).getlength("?" * len(text))) + 1


def _font(size: int):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
