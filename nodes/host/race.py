"""A judge's marks for every edit of a race. A judge that fails costs an edit its marks, not the race its pictures."""

import logging
import math
from collections.abc import Callable, Sequence

from torch import Tensor

from ...models.errors import EditError
from ...models.icedit.judging import JudgeFailed
from ...models.race.entries import Marks
from .bundles import say
from .judges import mark, marking


def check(judge, instruction: str) -> None:
    """EditError for a judge that gives no marks, and for an instruction that it could not go by."""
    if judge is not None:
        marking(judge)
        judge.check(instruction, 1)


def marks(
    judge, original: Tensor, edits: Sequence[Tensor], instruction: str, report: Callable[[int, int], None]
) -> list[Marks | None]:
    """The mean marks of each edit [b, 3, h, w] of the original [b, 3, H, W]; None without a judge."""
    if judge is None:
        return [None] * len(edits)
    found, down = [], ""
    for number, edit in enumerate(edits, start=1):
        if not down:
            made, down = _mean(judge, original, edit, instruction.strip())
        else:
            made = Marks(marking(judge), math.nan, "the judge was not asked any more")
        found.append(made)
        report(number, len(edits))
    return found


def _mean(judge, original: Tensor, edit: Tensor, instruction: str) -> tuple[Marks, str]:
    """The marks of one edit, and why the judge will answer no more, or nothing."""
    try:
        values = [mark(judge, before, after, instruction) for before, after in zip(original, edit, strict=True)]
    except (JudgeFailed, EditError) as failed:
        say(f"Edit Race: {failed}", logging.WARNING, once=False)
        down = isinstance(failed, EditError) or failed.down
        return Marks(marking(judge), math.nan, f"no marks: {failed}".rstrip(".")), str(failed) if down else ""
    return Marks(marking(judge), sum(values) / len(values)), ""
