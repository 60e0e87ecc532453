"""A small chart of an editing session: how each measure moves from turn to turn."""

import math

import numpy as np
import torch
from torch import Tensor

from .drift import DIGITS, HEADS, Turn

PANEL, MARGIN, LEFT, TOP = (300, 150), 14, 56, 30
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (215, 215, 215)
COLOURS = {"first": (196, 60, 40), "previous": (40, 90, 180)}
TITLES = {
    "psnr": "PSNR, dB", "ssim": "SSIM", "delta_e": "colour difference, CIEDE2000", "clip": "CLIP cosine",
    "face": "face cosine",
}  # fmt: skip


def chart(turns: list[Turn]) -> Tensor:
    """The turns as a picture [1, 3, h, w]: a panel for each measure that was taken, two panels a row."""
    from PIL import Image, ImageDraw

    shown = [name for name in HEADS if any(not math.isnan(v) for s in COLOURS for v in _series(turns, s, name))]
    rows = max(1, -(-len(shown) // 2))
    width, height = 2 * (PANEL[0] + LEFT + MARGIN), rows * (PANEL[1] + TOP + 2 * MARGIN) + TOP
    paper = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(paper)
    _legend(draw)
    for number, name in enumerate(shown):
        x = LEFT + number % 2 * (PANEL[0] + LEFT + MARGIN)
        y = 2 * TOP + number // 2 * (PANEL[1] + TOP + 2 * MARGIN)
        _panel(draw, turns, name, (x, y))
    return torch.from_numpy(np.asarray(paper).copy()).permute(2, 0, 1)[None].float() / 255


def _series(turns: list[Turn], against: str, name: str) -> list[float]:
    return [getattr(getattr(turn, against), name) for turn in turns]


def _legend(draw) -> None:
    x = LEFT
    for against, words in (("first", "against the first picture"), ("previous", "against the one before")):
        draw.line([(x, TOP / 2), (x + 24, TOP / 2)], fill=COLOURS[against], width=3)
        _write(draw, (x + 32, TOP / 2), words, 14, "lm")
        x += 250


def _panel(draw, turns: list[Turn], name: str, place: tuple[int, int]) -> None:
    """One measure's axes, its two lines, and the turns' numbers below."""
    (x, y), (width, height) = place, PANEL
    values = [v for s in COLOURS for v in _series(turns, s, name) if not math.isnan(v)]
    low, high = _range(values, name)
    _write(draw, (x, y - 8), TITLES[name], 14, "ls")
    for share in (0.0, 0.5, 1.0):
        level = y + height * (1 - share)
        draw.line([(x, level), (x + width, level)], fill=FAINT)
        label = f"{low + share * (high - low):.{min(DIGITS[name], 3)}f}"
        _write(draw, (x - 6, level), label, 11, "rm")
    across = [x + width * (i + 0.5) / len(turns) for i in range(len(turns))]
    every = -(-len(turns) // 12)
    for i in range(0, len(turns), every):
        _write(draw, (across[i], y + height + 4), str(i + 1), 11, "ma")
    for against, colour in reversed(COLOURS.items()):  # where both are equal the first shows
        points = [
            (px, y + height * (1 - (v - low) / (high - low)))
            for px, v in zip(across, _series(turns, against, name), strict=True) if not math.isnan(v)
        ]  # fmt: skip
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for px, py in points:
            draw.ellipse([px - 3, py - 3, px + 3, py + 3], fill=colour)


def _range(values: list[float], name: str) -> tuple[float, float]:
    """What an axis spans: all values with a little room, and never less than shows noise as noise."""
    least = {"psnr": 2.0, "ssim": 0.02, "delta_e": 0.5, "clip": 0.02, "face": 0.02}[name]
    low, high = min(values), max(values)
    spare = max(least - (high - low), 0.1 * (high - low)) / 2
    ends = {"psnr": (-math.inf, math.inf), "delta_e": (0.0, math.inf)}.get(name, (-1.0, 1.0))
    return max(ends[0], low - spare), min(ends[1], high + spare)


def _write(draw, place: tuple[float, float], words: str, size: int, anchor: str) -> None:
    try:
        draw.text(place, words, fill=INK, font=_font(size), anchor=anchor)
    except (UnicodeEncodeError, ValueError):  # the font of a Pillow without FreeType: Latin-1, and no anchors
        draw.text(place, words.encode("latin-1", "replace").decode("latin-1"), fill=INK, font=_font(size))


def _font(size: int):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
