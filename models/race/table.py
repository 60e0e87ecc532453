"""A race as a table of text, in Markdown that also reads well as it is."""

import math
from collections.abc import Sequence

from .entries import Entry, Lap
from .ranking import FASTEST, Ranking

HEAD = ("#", "system", "change inside", "PSNR outside", "SSIM outside", "marks", "seconds", "memory", "score", "notes")
NONE = "-"


def table(entries: Sequence[Entry], ranking: Ranking, size: tuple[int, int], rule: str, masked: bool) -> str:
    """The decision in words, then a row for each entry. size: (width, height) of the original."""
    rows = [HEAD, *(_row(*one, size, rule) for one in _placed(entries, ranking))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    where = "" if masked else "Without a mask the whole picture counts as inside, and outside is not measured.\n"
    return f"{ranking.said}\n{where}\n" + "\n".join(lines)


def _placed(entries: Sequence[Entry], ranking: Ranking):
    """(entry, score, whether it wins, why it cannot) of each."""
    for place, entry in enumerate(entries):
        yield entry, ranking.scores[place], place == ranking.winner, ranking.reasons[place]


def _row(entry: Entry, score: float, wins: bool, reason: str, size: tuple[int, int], rule: str) -> tuple[str, ...]:
    change = entry.change
    scaled = f"{change.size[0]}x{change.size[1]}, scaled to {size[0]}x{size[1]}" if change.size else ""
    said = entry.marks.said if entry.marks else ""
    notes = "; ".join(part for part in ("best" if wins else "", reason, scaled, entry.lap.note, said) if part)
    shown = number(-score if rule == FASTEST and entry.lap.exact else score, 3)
    return (
        str(entry.number), entry.name.replace("|", "/"), number(change.inside, 4), number(change.psnr, 2),
        number(change.ssim, 4), marks(entry), seconds(entry.lap), memory(entry.lap), shown, notes.replace("|", "/"),
    )  # fmt: skip


def number(value: float, digits: int) -> str:
    """A number of so many digits after the point; a dash for NaN."""
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def marks(entry: Entry) -> str:
    """VIE overall or the CLIP cosine, named; a dash without."""
    if entry.marks is None or math.isnan(entry.marks.value):
        return NONE
    return f"{entry.marks.kind} {entry.marks.value:.{2 if entry.marks.kind == 'VIE' else 4}f}"


def seconds(lap: Lap) -> str:
    """The time with what bounds it; `not timed` where nothing ran for it."""
    if lap.seconds is None:
        return "not timed"
    return f"{lap.bound} {lap.seconds:.2f}".strip()


def memory(lap: Lap) -> str:
    """The peak in GiB, of the GPU or of the process; a dash where it is not known."""
    if lap.memory is None:
        return NONE
    return f"{'<= ' if lap.at_most else ''}{lap.memory / 2**30:.2f} GiB{' GPU' if lap.on_gpu else ''}"
