"""A pie and bars, drawn with Pillow: numbers with their names, black on white."""

from collections.abc import Mapping

PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (215, 215, 215)
# Okabe and Ito's colours, which most colour-blind people tell apart, and a grey.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
           (150, 150, 150))  # fmt: skip
WIDTH, HEIGHT, TWICE = 760, 420, 2  # drawn at twice the size, for smooth edges


def pie(parts: Mapping[str, int], title: str):
    """Shares of a whole, clockwise from the top, each with its name, number and share beside it."""
    paper, draw = _paper(title)
    total, start, box = sum(parts.values()), -90.0, _twice(50, 80, 350, 380)
    if not total:
        draw.ellipse(box, outline=FAINT, width=4)
    for number, (name, count) in enumerate(parts.items()):
        colour = COLOURS[number % len(COLOURS)]
        angle = 360 * count / total if total else 0
        if angle:
            draw.pieslice(box, start, start + angle, fill=colour, outline=PAPER, width=2)
        start += angle
        top = 90 + 34 * number
        draw.rectangle(_twice(410, top, 428, top + 18), fill=colour)
        share = f"{count / total:.1%}" if total else "–"
        draw.text(_twice(440, top - 2), f"{name}   {count}   {share}", fill=INK, font=_font(17))
    return _done(paper)


def bars(columns: Mapping[str, int], title: str, what: str):
    """One bar for each name, with its number on top. what: is counted, along the axis."""
    paper, draw = _paper(title)
    most, left, right, bottom, top = max(1, *columns.values()), 60, WIDTH - 30, HEIGHT - 60, 100
    draw.text(_twice(left, 58), what, fill=INK, font=_font(14))
    draw.line(_twice(left, bottom, right, bottom), fill=INK, width=2)
    step = (right - left) / len(columns)
    for number, (name, count) in enumerate(columns.items()):
        x, height = left + step * number, (bottom - top) * count / most
        draw.rectangle(_twice(x + step * 0.18, bottom - height, x + step * 0.82, bottom), fill=COLOURS[4])
        middle = x + step / 2
        for y, text, size in ((bottom - height - 22, str(count), 16), (bottom + 10, name, 14)):
            draw.text(_twice(middle - _font(size).getlength(text) / TWICE / 2, y), text, fill=INK, font=_font(size))
    return _done(paper)


def _paper(title: str):
    from PIL import Image, ImageDraw

    paper = Image.new("RGB", (WIDTH * TWICE, HEIGHT * TWICE), PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text(_twice(50, 22), title, fill=INK, font=_font(20))
    return paper, draw


def _done(paper):
    from PIL import Image

    return paper.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _twice(*places: float) -> tuple[int, ...]:
    return tuple(round(place * TWICE) for place in places)


def _font(size: int):
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size * TWICE)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()
