"""Which edit wins: rules that no system can win by leaving the picture as it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import EditError
from .entries import Entry

BALANCED, JUDGED, RESTRAINED, FASTEST = "edit and preservation", "judge", "least change outside", "fastest"
RULES = (BALANCED, JUDGED, RESTRAINED, FASTEST)


@dataclass(frozen=True)
class Ranking:
    """scores: one for each entry, higher is better, NaN for one that cannot win. winner: its place in the list, or
    None. reasons: why an entry cannot win, or "". said: how it was decided, in sentences."""

    winner: int | None
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    said: str


def check(rule: str, judge: bool, mask: bool) -> None:
    """EditError where a rule lacks what it goes by; told before anything is run."""
    if rule not in RULES:
        raise EditError(f"There is no rule {rule!r}; choose one of {', '.join(RULES)}.")
    if rule == JUDGED and not judge:
        raise EditError(f"The rule {rule!r} goes by a judge's marks; wire a judge, or choose another rule.")
    if rule == RESTRAINED and not mask:
        raise EditError(f"The rule {rule!r} goes by what lies outside a mask; wire a mask, or choose another rule.")


def rank(entries: Sequence[Entry], rule: str, floor: float) -> Ranking:
    """Ranks entries by a rule. floor: the mean change inside, 0 to 1, below which none wins; one that changed nothing
    never does. Ties go to the edit that changed more inside, then to the first."""
    told, values = _values(entries, rule)
    reasons = tuple(_reason(entry, value, floor) for entry, value in zip(entries, values, strict=True))
    scores = tuple(math.nan if reason else value for reason, value in zip(reasons, values, strict=True))
    able = [i for i, score in enumerate(scores) if not math.isnan(score)]
    winner = max(able, key=lambda i: (round(scores[i], 6), entries[i].change.inside, -i), default=None)
    if winner is None:
        return Ranking(None, scores, reasons, f"Nobody wins. {told}")
    best = entries[winner]
    return Ranking(winner, scores, reasons, f"{best.number}. {best.name} wins. {told}")


def _reason(entry: Entry, value: float, floor: float) -> str:
    """Why an entry cannot win, or nothing."""
    if entry.change.inside == 0:  # with a floor of 0 as well
        return "changed nothing inside"
    if entry.change.inside < floor:
        return f"changed less than the floor of {floor:g}"
    return "not measured by this rule" if math.isnan(value) else ""


def _values(entries: Sequence[Entry], rule: str) -> tuple[str, list[float]]:
    """What was compared, in words, and its value for each entry."""
    if rule == FASTEST:
        if any(entry.lap.exact for entry in entries):
            return _each("Score: seconds, of the systems that were timed whole.", entries, _speed)
        told, values = _values(entries, BALANCED)
        return f"No system was timed whole, so not the fastest was looked for. {told}", values
    if rule == RESTRAINED:
        return _each("Score: PSNR outside the mask.", entries, lambda entry: entry.change.psnr)
    if rule == JUDGED:
        return _each("Score: the judge's marks.", entries, lambda e: e.marks.value if e.marks else math.nan)
    return _balanced(entries)


def _speed(entry: Entry) -> float:
    return -entry.lap.seconds if entry.lap.exact else math.nan


def _balanced(entries: Sequence[Entry]) -> tuple[str, list[float]]:
    """The edit's term times what is preserved of the outside; the same kind of term for everybody."""
    kind = next((e.marks.kind for e in entries if e.marks and not math.isnan(e.marks.value)), None)
    words = {
        "VIE": "VIE overall / 10",
        "CLIP": "2.5 * CLIP cosine with the text",
        None: "the change inside (saturating; no judge said how good it is)",
    }[kind]
    outside = any(not math.isnan(entry.preserved) for entry in entries)
    told = f"Score: {words}" + (
        " * preservation outside (the worse of SSIM and PSNR / 40 dB)." if outside
        else "; without a mask there is no outside to preserve."
    )  # fmt: skip

    def value(entry: Entry) -> float:
        edit = entry.changed if kind is None else entry.marks.term if entry.marks else math.nan
        return edit * entry.preserved if outside else edit

    return _each(told, entries, value)


def _each(told: str, entries: Sequence[Entry], value: Callable[[Entry], float]) -> tuple[str, list[float]]:
    return told, [value(entry) for entry in entries]
