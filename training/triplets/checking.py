"""Stage 4, quality assurance (A.1): nothing blank, nothing unchanged, and CLIP's two cosines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import pictures
from .clip import Clip
from .editing import Task
from .ledger import Ledger, kept, linked, rejected
from .working import Pace, shown, work_off

TRIPLETS = "triplets"


@dataclass(frozen=True)
class Bars:
    """What a result has to reach. The paper has no numbers: those for CLIP are of InstructPix2Pix's released code."""

    text: float | None = 0.2  # cosine of the result and the target caption
    image: float | None = 0.7  # cosine of the result and the source
    change: float = 0.001  # share of pixels that visibly differ


@dataclass(frozen=True)
class Edited:
    """A task with its chosen result."""

    task: Task
    category: str
    target_caption: str
    result: str
    editor: int


def check(ledger: Ledger, todo: Sequence[Edited], bars: Bars, clip: Clip | None, out: Path, suffix: str) -> None:
    """Checks what is not in the ledger yet. What passes lies as triplets/CATEGORY/x/KEY and y/KEY."""

    def work(edited: Edited) -> dict:
        source, result = pictures.read(edited.task.source), pictures.read(out / edited.result)
        known: dict = {"editor": edited.editor, "category": edited.category}
        known |= {"width": source.width, "height": source.height}
        fitted = pictures.fitted(result, source.size)
        if fitted is None:
            said = "the result is {}×{} px and its source {}×{}: another shape".format(*result.size, *source.size)
            return rejected(edited.task.key, said, **known)
        reason = _fault(source, fitted, edited.target_caption, bars, clip, known)
        if reason:
            return rejected(edited.task.key, reason, **known)
        x, y = (Path(TRIPLETS) / edited.category / side / f"{edited.task.key}.{suffix}" for side in "xy")
        pictures.save(out / y, fitted)
        linked(edited.task.source, out / x)
        return kept(edited.task.key, source=x.as_posix(), target=y.as_posix(), **known)

    left = [edited for edited in todo if edited.task.key not in ledger.rows]
    work_off(ledger, shown(left, "checks"), work, Pace())


def _fault(source, result, caption: str, bars: Bars, clip: Clip | None, known: dict) -> str | None:
    """What is wrong with a result, if anything; what was measured is added to `known`."""
    if pictures.blank(result):
        return "the result is blank"
    known["changed"] = round(pictures.changed(source, result), 6)
    if known["changed"] < bars.change:
        return f"the result is unchanged: {known['changed']:.4%} of its pixels differ, fewer than {bars.change:.4%}"
    if clip is None:
        return None
    cosines = clip.compare(source, result, caption if bars.text is not None else None)
    reasons = []
    names, compared = ("text", "image"), ("its target caption", "its source")
    for name, cosine, least, what in zip(names, cosines, (bars.text, bars.image), compared, strict=True):
        if cosine is None or least is None:
            continue
        known[f"clip_{name}"] = round(cosine, 4)
        if cosine < least:
            reasons.append(f"CLIP's cosine of the result and {what} is {cosine:.3f}, below {least:g}")
    return "; ".join(reasons) or None
