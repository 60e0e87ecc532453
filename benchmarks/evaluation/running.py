"""The run: each sample is edited by the workflow and measured, and every row is safe before the next one begins."""

import hashlib
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from ...headless.files import check_writable, write
from ...headless.progress import bar
from ...models.errors import EditError
from ...models.icedit.judging import JudgeFailed
from . import thumbs
from .inputs import Inputs
from .ledger import DONE, FAILED, Ledger
from .metrics.catalogue import METRICS, VIE, applicable, measured
from .metrics.engines import Engines
from .metrics.views import Views
from .samples import Sample

RESULTS = "results"
HOPELESS = 3  # edits in a row that fail before one succeeds end the run: it is the workflow then, not the pictures


class Edits(Protocol):
    """What makes the edits: headless.editor.Editor."""

    def edit(self, image: Path, *, sets: dict[str, str] | None = None) -> Image.Image: ...


@dataclass
class Evaluation:
    """One benchmark on one workflow. metrics: the names that are wanted of each sample that has what they need."""

    out: Path
    editor: Edits
    inputs: Inputs
    engines: Engines
    metrics: tuple[str, ...]
    ledger: Ledger

    def run(self, samples: Sequence[Sample], label: str) -> None:
        """Does what is not done yet. EditError when the workflow fails from the first sample on, or a disk is full."""
        check_writable(self.out)
        self._succeeded, self._said = any(r["status"] == DONE for r in self.ledger.rows.values()), []
        self._warm = False  # whether this process has made an edit, so that the models are loaded
        shown = bar(len(samples), label)
        try:
            for sample in samples:
                self._one(sample)
                shown.update()
        finally:
            shown.close()
            self.ledger.gather()

    def _one(self, sample: Sample) -> None:
        row = self._kept(sample)
        todo = [name for name in self._wanted(sample) if row is None or row[name] is None]
        if row is not None and not todo:
            return
        try:
            source = self._source(sample)
            result, seconds = self._edit(sample, source) if row is None else (self._saved(row), None)
        except EditError as error:
            if isinstance(error, Hopeless) or getattr(error, "down", False):  # the sample is not to blame
                raise
            self.ledger.add(self._row(sample, FAILED) | {"error": str(error)})
            return
        row = self._done(sample, result, seconds) if row is None else row
        self._measure(sample, row, Views(sample, source, result), todo)

    def _kept(self, sample: Sample) -> dict | None:
        """The row of an edit that is there with its picture, made of the same mask, reference and turn before.

        EditError when it belongs to another sample.
        """
        row = self.ledger.rows.get(sample.id)
        if row is None or row["status"] != DONE:
            return None
        if row["key"] != sample.key:
            raise EditError(
                f"{self.out} holds an edit {sample.id!r} of other words or of another picture than --data has now; "
                "choose another --out."
            )
        there = row["given"] == self._given(sample) and (self.out / row["result"]).is_file()
        return dict(row) if there else None

    def _given(self, sample: Sample) -> str:
        """What an edit is made of beside its words and its source, in digests: another one, and it is made again."""
        pictures = {name: getattr(sample, name) for name in ("mask", "reference") if name in self.inputs.fields}
        parts = [f"{name} {picture.digest}" for name, picture in pictures.items() if picture is not None]
        before = self._row_before(sample)
        return " ".join(parts + ([f"before {before['sha256']}"] if before else []))

    def _wanted(self, sample: Sample) -> list[str]:
        names = applicable(self.metrics, lambda field: bool(getattr(sample, field)))
        return [name for name in names if not self.engines.missing(METRICS[name].engine)]

    def _before(self, sample: Sample) -> Path | None:
        """The result that a later turn of a session starts from; None for a first turn."""
        if not sample.session or sample.turn <= 1:
            return None
        row = self._row_before(sample)
        if row is None:
            raise EditError("The turn before this one was not made, so there is nothing to edit.")
        return self.out / row["result"]

    def _row_before(self, sample: Sample) -> dict | None:
        """The row of the turn before this one, if it was made."""
        wanted = (sample.session, sample.turn - 1, DONE)
        rows = self.ledger.rows.values() if sample.session else ()
        return next((row for row in rows if (row["session"], row["turn"], row["status"]) == wanted), None)

    def _source(self, sample: Sample) -> Image.Image:
        before = self._before(sample)
        return sample.source.load() if before is None else Image.open(before).convert("RGB")

    def _edit(self, sample: Sample, source: Image.Image) -> tuple[Image.Image, float | None]:
        """The edit and the seconds that it took, None for the first one, which also loads the models.

        EditError when it cannot be made.
        """
        with tempfile.TemporaryDirectory(prefix="editkit") as folder:
            sets = self.inputs.sets(sample, Path(folder))
            path = self._before(sample) or sample.source.path or _written(source, Path(folder) / "image.png")
            began = time.perf_counter()
            try:
                result = self.editor.edit(path, sets=sets).convert("RGB")
            except EditError as error:
                self._give_up_early(str(error))
                raise
            seconds = time.perf_counter() - began if self._warm else None
            self._succeeded = self._warm = True
            return result, seconds

    def _give_up_early(self, said: str) -> None:
        """Ends a run that has never edited anything and fails at every picture."""
        self._said.append(said)
        if not self._succeeded and len(self._said) >= HOPELESS:
            raise Hopeless(f"The workflow failed at the first {HOPELESS} pictures: {said}")

    def _done(self, sample: Sample, result: Image.Image, seconds: float | None) -> dict:
        content = io.BytesIO()
        result.save(content, "PNG")
        path = self.out / RESULTS / f"{sample.stem}.png"
        write(path, lambda file: file.write(content.getvalue()))
        row = self._row(sample, DONE) | {"seconds": seconds, "width": result.width, "height": result.height}
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        return row | {"result": path.relative_to(self.out).as_posix(), "sha256": digest}

    def _saved(self, row: dict) -> Image.Image:
        """The edit as an earlier run left it. EditError when the file has been changed since."""
        content = (self.out / row["result"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise EditError(f"{row['result']} is not the picture that was measured; delete it to edit it again.")
        return Image.open(io.BytesIO(content)).convert("RGB")

    def _measure(self, sample: Sample, row: dict, views: Views, todo: list[str]) -> None:
        """Fills a row and puts it on disk; what could not be measured stays open, with the reason, for the next run."""
        notes: dict[str, None] = {}  # each once, in their order
        for names in [[name] for name in todo if name not in VIE] + [[name for name in todo if name in VIE]]:
            try:
                row |= measured(names, views, self.engines)
            except (JudgeFailed, EditError) as failed:
                notes[str(failed)] = None
        thumbs.save(self.out, sample, views)
        self.ledger.add(row | {"note": " ".join(notes)})

    def _row(self, sample: Sample, status: str) -> dict:
        """A row without results."""
        own = ("id", "key", "category", "session", "instruction", "source_caption", "target_caption", "turn", "final",
               "stem")  # fmt: skip
        empty = dict.fromkeys(("error", "note", "result", "sha256"), "")
        unknown = dict.fromkeys(("seconds", "width", "height", *METRICS))
        asked = {name: getattr(sample, name) for name in own} | {"given": self._given(sample)}
        return asked | empty | unknown | {"marks": " ".join(sample.marks), "status": status}


class Hopeless(EditError):
    """A workflow that cannot run at all."""


def _written(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path
