"""`data look`: a contact sheet of a build, source | instruction | result, or of what was rejected and why."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...models.errors import EditError
from . import gathering, pictures
from .ledger import write
from .prompts import category as named

CELL, GAP, WORDS, LINE = 240, 12, 300, 20  # pixels
ACROSS, WIDTH = 2, 2 * CELL + WORDS + 3 * GAP
PAPER, INK, FAINT, WRONG = (255, 255, 255), (40, 40, 40), (130, 130, 130), (170, 30, 30)
SCORES = ("clip_text", "clip_image", "aesthetic", "changed")


def look(out: Path, to: Path, count: int, category: str | None, rejects: bool, seed: int) -> dict:
    """Writes the sheet. EditError for a folder without a build, an unknown category, and nothing to show."""
    if not (out / "build.json").is_file():
        raise EditError(f"{out} holds no build; name the --out of `data build`.")
    gathered = gathering.gather(out)
    rows = gathered.rejects if rejects else gathered.triplets
    if category:
        if named(category) is None:
            raise EditError(f"There is no category {category!r} to look at.")
        rows = [row for row in rows if row.get("category") == named(category)]
    if not rows:
        what = f"{'rejects' if rejects else 'triplets'}{' of that category' * bool(category)}"
        raise EditError(f"{out} holds no {what} to look at.")
    chosen = sorted(random.Random(seed).sample(range(len(rows)), min(count, len(rows))))
    sheet = draw(out, [rows[i] for i in chosen])
    write(to, lambda file: sheet.save(file, "PNG"))
    return {"written": str(to), "shown": len(chosen), "of": len(rows)}


def draw(out: Path, rows: Sequence[Mapping]):
    """Two triplets beside each other in each line; a line is as high as what it shows."""
    from PIL import Image, ImageDraw

    cells = [(_small(out, row.get("source")), _lines(row), _small(out, row.get("target"))) for row in rows]
    lines = [cells[i : i + ACROSS] for i in range(0, len(cells), ACROSS)]
    heights = [max(_height(cell) for cell in line) + GAP for line in lines]
    paper = Image.new("RGB", (GAP + WIDTH * len(lines[0]), GAP + sum(heights)), PAPER)
    pen, top = ImageDraw.Draw(paper), GAP
    for line, height in zip(lines, heights, strict=True):
        for number, (source, said, target) in enumerate(line):
            left = GAP + WIDTH * number
            for picture, x in ((source, left), (target, left + CELL + WORDS + 2 * GAP)):
                if picture is not None:
                    paper.paste(picture, (x, top))
            for i, (text, ink) in enumerate(said):
                _write(pen, (left + CELL + GAP, top + LINE * i), text, ink)
        top += height
    return paper


def _small(out: Path, place: str | None):
    if not place or not (out / place).is_file():
        return None
    picture = pictures.read(out / place)
    picture.thumbnail((CELL, CELL))
    return picture


def _height(cell: tuple) -> int:
    source, said, target = cell
    return max(LINE * len(said), *(p.height for p in (source, target) if p is not None), LINE)


def _lines(row: Mapping) -> list[tuple[str, tuple]]:
    """What is said of a triplet or a reject, in lines with their colours, no more than fit beside a picture."""
    scores = [f"{name} {row[name]:.3g}" for name in SCORES if row.get(name) is not None]
    scores += [f"editor {row['editor']}"] if row.get("editor") else []
    said = [(row.get("category", ""), FAINT), (row.get("instruction", ""), INK)]
    if "reason" in row:
        said += [(f"{row['stage']}: {row['reason']}", WRONG), (row.get("picture", ""), FAINT)]
    said.append((", ".join(scores), FAINT))
    return [(line, ink) for text, ink in said for line in _wrapped(text)][: CELL // LINE]


def _wrapped(text: str) -> list[str]:
    """The text in lines of the column's width; a word that is wider is cut."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and _length(longer) > WORDS:
            lines.append(line)
            line = word
        else:
            line = longer
        while _length(line) > WORDS:
            cut = next(n for n in range(len(line) - 1, 0, -1) if _length(line[:n]) <= WORDS or n == 1)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines


def _length(text: str) -> float:
    try:
        return _font().getlength(text)
    except UnicodeEncodeError:  # the font of a Pillow without FreeType knows Latin-1 only
        return _font().getlength("?" * len(text))


def _write(pen, place: tuple[int, int], text: str, ink: tuple) -> None:
    try:
        pen.text(place, text, fill=ink, font=_font())
    except UnicodeEncodeError:
        pen.text(place, text.encode("latin-1", "replace").decode("latin-1"), fill=ink, font=_font())


def _font():
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=14)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
