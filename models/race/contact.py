"""The sheet of a race: the original and every edit with its numbers, the best one framed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..sheet import GAP, INK, PAPER, length, shortened, thumbnail, write
from .entries import Entry
from .ranking import Ranking
from .table import marks, memory, number, seconds

COLUMNS, CELL, MARGIN, FRAME = 3, 384, 20, 5
TITLE, TEXT, LINE, HEADING = 18, 15, 22, 22  # px: names, numbers, a line of numbers, the instruction
DETAIL, RIM = 0.45, 3  # side of a detail over the picture's short side, and its rim in px
SURROUNDINGS, LARGEST = 1.6, 0.4  # a detail's side over the mask's, and over the picture's at most
FAINT, BEST, EMPTY = (110, 110, 110), (26, 127, 75), (236, 236, 236)


def sheet(
    original: Tensor, pictures: Sequence[Tensor], entries: Sequence[Entry], ranking: Ranking, instruction: str = "",
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Pictures [3, h, w] of any size, up to three in a row: [1, 3, H, W]. pictures: one for each entry.

    mask: [h, w] of the original; each picture then has an enlarged detail of where it is, if that is small.
    """
    from PIL import Image, ImageDraw

    cards = [(original, "Original", _size(original), FAINT)]
    for place, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        cards.append((picture, *_words(entry, place == ranking.winner, ranking.reasons[place])))
    place = None if mask is None else _region(mask)
    shown = [(_pictured(picture, place), *words) for picture, *words in cards]
    columns = min(COLUMNS, len(cards)) if len(cards) != 4 else 2
    height = max(image.height for image, *_ in shown) + 2 * FRAME + TITLE + 3 * LINE + GAP
    top = MARGIN + (HEADING + 2 * GAP)
    width = 2 * MARGIN + columns * (CELL + 2 * FRAME) + (columns - 1) * MARGIN
    paper = Image.new("RGB", (width, top + -(-len(cards) // columns) * (height + MARGIN)), PAPER)
    draw = ImageDraw.Draw(paper)
    write(draw, (MARGIN, MARGIN), _heading(instruction, ranking, entries, width - 2 * MARGIN), HEADING)
    for place, card in enumerate(shown):
        row, column = divmod(place, columns)
        _draw(paper, draw, (MARGIN + column * (CELL + 2 * FRAME + MARGIN), top + row * (height + MARGIN)), card)
    return torch.from_numpy(np.asarray(paper).copy()).permute(2, 0, 1)[None].float() / 255


def _region(mask: Tensor) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of a square around what is white, as shares of the sides; None where it is large."""
    height, width = mask.shape
    rows, columns = ((mask > 0).any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    if not rows:
        return None
    side = SURROUNDINGS * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    if side > LARGEST * min(height, width):
        return None
    left = min(max((columns[0] + columns[-1] + 1 - side) / 2, 0), width - side)
    top = min(max((rows[0] + rows[-1] + 1 - side) / 2, 0), height - side)
    return left / width, top / height, (left + side) / width, (top + side) / height


def _pictured(picture: Tensor, place: tuple[float, float, float, float] | None):
    """The picture as it is shown, with the detail at `place` in the upper corner that is farther from it."""
    image = thumbnail(picture, CELL)
    if place is None:
        return image
    height, width = picture.shape[-2:]
    left, right = (round(share * width) for share in place[::2])
    top, bottom = (round(share * height) for share in place[1::2])
    cut = picture[:, top : max(bottom, top + 1), left : max(right, left + 1)]
    side = round(DETAIL * min(image.size))
    detail = thumbnail(cut, CELL).resize((side, side))
    x = 0 if (place[0] + place[2]) / 2 > 0.5 else image.width - side
    y = 0 if (place[1] + place[3]) / 2 > 0.5 else image.height - side
    image.paste(PAPER, (x - RIM, y - RIM, x + side + RIM, y + side + RIM))
    image.paste(detail, (x, y))
    return image


def _heading(instruction: str, ranking: Ranking, entries: Sequence[Entry], most: int) -> str:
    best = "Nobody wins" if ranking.winner is None else f"Best: {entries[ranking.winner].name}"
    return shortened(f"{instruction.strip()}  -  {best}" if instruction.strip() else best, most, HEADING)


def _words(entry: Entry, wins: bool, reason: str) -> tuple[str, str, tuple]:
    """A card's name, lines of numbers, and colour."""
    change = entry.change
    lines = [f"change inside {number(change.inside, 3)}"]
    if number(change.psnr, 1) != "-":
        lines[0] += f"   outside {number(change.psnr, 1)} dB, SSIM {number(change.ssim, 3)}"
    lines.append("   ".join(t for t in (_time(entry), memory(entry.lap), marks(entry)) if t != "-"))
    lines.append("best" if wins else reason)
    return f"{entry.number}  {entry.name}", "\n".join(lines), BEST if wins else FAINT


def _time(entry: Entry) -> str:
    told = seconds(entry.lap)
    return told if told == "not timed" else f"{told} s"


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]} px"


def _draw(paper, draw, place: tuple[int, int], card: tuple) -> None:
    """A picture in its frame, its name and its lines below."""
    image, name, lines, ink = card
    x, y = place
    frame = BEST if ink == BEST else EMPTY
    draw.rectangle((x, y, x + image.width + 2 * FRAME - 1, y + image.height + 2 * FRAME - 1), fill=frame)
    paper.paste(image, (x + FRAME, y + FRAME))
    y += image.height + 2 * FRAME + GAP
    write(draw, (x, y), shortened(name, CELL, TITLE), TITLE, BEST if ink == BEST else INK)
    for step, line in enumerate(lines.split("\n")):
        line = line if length(line, TEXT) <= CELL else shortened(line, CELL, TEXT)
        write(draw, (x, y + TITLE + GAP + step * LINE), line, TEXT, ink)
