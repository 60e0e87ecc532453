"""`data look`: a contact sheet of a build, source | instruction | result, or of what was rejected and why."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...models.errors import EditError
from . import gathering, pictures
from .ledger import write
from .prompts import category as named

CELL, GAP, WORDS, LINE = 240, 12, 300, 20  # pixels
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (130, 130, 130)
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
    """Two triplets beside each other in each line."""
    from PIL import Image, ImageDraw

    width, height = CELL + WORDS + CELL + 3 * GAP, CELL + GAP
    lines = (len(rows) + 1) // 2
    paper = Image.new("RGB", (GAP + width * min(2, len(rows)), GAP + height * lines), PAPER)
    pen = ImageDraw.Draw(paper)
    for number, row in enumerate(rows):
        left, top = GAP + width * (number % 2), GAP + height * (number // 2)
        _place(paper, out / row["source"] if row.get("source") else None, left, top)
        _say(pen, row, left + CELL + GAP, top)
        _place(paper, out / row["target"] if row.get("target") else None, left + CELL + WORDS + 2 * GAP, top)
    return paper


def _place(paper, path: Path | None, left: int, top: int) -> None:
    if path is None or not path.is_file():
        return
    picture = pictures.read(path)
    picture.thumbnail((CELL, CELL))
    paper.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))


def _say(pen, row: Mapping, left: int, top: int) -> None:
    scores = [f"{name} {row[name]:.3g}" for name in SCORES if row.get(name) is not None]
    scores += [f"editor {row['editor']}"] if row.get("editor") else []
    said = [(row.get("category", row.get("stage", "")), FAINT), (row.get("instruction", ""), INK)]
    said += [(f"{row['stage']}: {row['reason']}", (170, 30, 30))] if "reason" in row else []
    said += [(row.get("picture", "") if "reason" in row else "", FAINT), (", ".join(scores), FAINT)]
    y = top
    for text, ink in said:
        for line in _wrapped(text):
            if y + LINE > top + CELL:
                return
            _write(pen, (left, y), line, ink)
            y += LINE
        y += 6 if text else 0


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
