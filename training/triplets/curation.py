"""Stage 1, image curation (A.1): aesthetic score, short side, and whether the caption promises anything to edit."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import EditError
from . import answers, pictures, prompts
from .inputs import Picture
from .ledger import KEPT, Ledger, kept, rejected
from .working import Pace, Refused, Voice, shown, work_off

FOLDER = "pictures"


@dataclass(frozen=True)
class Curator:
    """What a picture has to be. judge: captions those that have none; writer: says whether a caption is suitable;
    score: an aesthetic model. None: that is not asked. several: a picture may be there once for each instruction."""

    out: Path
    short_side: int = 1024
    least_aesthetic: float | None = 4.5
    suffix: str = "png"
    tries: int = 3
    writer: Voice | None = None
    captioner: Voice | None = None
    score: Callable | None = None
    captions: bool = True
    several: bool = False

    def row(self, picture: Picture) -> dict:
        """The ledger's row of a picture; one that is kept lies in pictures/, at its new size. Down may be raised."""
        try:
            data = picture.data()
            image = pictures.opened(data)
        except (OSError, pictures.Unreadable) as error:
            said = f"there is no file {picture.cell}" if isinstance(error, OSError) else str(error)
            return rejected(picture.name, said)
        known = {"digest": hashlib.sha256(data).hexdigest()[:16], "width": image.width, "height": image.height}
        known |= {name: value for name in ("instruction", "target_caption", "category")
                  if (value := getattr(picture, name))}  # fmt: skip
        try:
            self._measure(picture, image, known)
            self._read(picture, image, known)
        except Refused as error:
            return rejected(picture.name, str(error), **known)
        path = Path(FOLDER) / f"{known['digest']}.{self.suffix}"
        pictures.save(self.out / path, pictures.shortened(image, self.short_side))
        return kept(picture.name, picture=path.as_posix(), **known)

    def _measure(self, picture: Picture, image, known: dict) -> None:
        if min(image.size) < self.short_side:
            raise Refused(f"its short side has {min(image.size)} px, fewer than {self.short_side}")
        if self.least_aesthetic is None:
            return
        score = picture.aesthetic
        if score is None and self.score is None:
            raise Refused("it has no aesthetic score")
        known["aesthetic"] = round(self.score(image) if score is None else score, 4)
        if not known["aesthetic"] > self.least_aesthetic:
            raise Refused(f"its aesthetic score is {known['aesthetic']:g}, not above {self.least_aesthetic:g}")

    def _read(self, picture: Picture, image, known: dict) -> None:
        caption = picture.caption
        if not caption and self.captioner:
            small = pictures.shortened(image, min(512, *image.size))
            caption = " ".join(self.captioner.ask(prompts.CAPTION, [pictures.tensor(small)]).split())
        if caption:
            known["caption"] = caption
        elif self.captions:
            raise Refused("it has no caption")
        if self.writer and caption:
            good, why = asked(self.writer, prompts.suitable(caption), "suitable", self.tries)
            if not good:
                raise Refused(f"it is not suitable: {why}")


def asked(writer: Voice, question: str, name: str, tries: int) -> tuple[bool, str]:
    """A verdict, asked for again where the answer cannot be used. Refused after the last try."""
    fault = None
    for _ in range(tries):
        try:
            return answers.verdict(writer.ask(prompts.again(question, fault) if fault else question), name)
        except answers.Fault as error:
            fault = str(error)
    raise Refused(f"the language model's verdict could not be used: {fault}")


def run(ledger: Ledger, found: list[Picture], curator: Curator, pace: Pace) -> None:
    """Curates what is not in the ledger yet. Of the same picture twice, the second is rejected, unless it comes with
    another instruction that is to be used. EditError where captions are needed and no picture has one."""
    if curator.captions and not curator.captioner and not any(p.caption for p in found):
        raise EditError(
            "No picture has a caption, and instructions are written from captions; put NAME.txt beside NAME.jpg, give "
            "a table with a column caption, or let --judge write them with --caption."
        )

    def same(row: dict) -> tuple:
        return row["digest"], row.get("instruction", "") if curator.several else ""

    first = {same(row): row["key"] for row in ledger.of(KEPT)}

    def settle(row: dict) -> dict:
        if row["status"] != KEPT:
            return row
        other = first.setdefault(same(row), row["key"])
        if other == row["key"]:
            return row
        known = {k: v for k, v in row.items() if k not in ("key", "status", "picture")}
        return rejected(row["key"], f"it is the same picture as {other}", **known)

    todo = [picture for picture in found if picture.name not in ledger.rows]
    work_off(ledger, shown(todo, "curation"), curator.row, pace, settle)
