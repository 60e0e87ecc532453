"""Edits a chunk: what the ledger, a journal or the results do not have yet, one picture after the other."""

import errno
import hashlib
import os
import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path

from .. import pictures
from ..errors import EditError, PromptRefused
from ..files import Unwritable, make_folder
from ..folders import Folders
from .chunks import Chunk, Item
from .job import WORKFLOW
from .ledger import DEATHS, DONE, FAILED, RESULTS, WORK, Journal, Row, spelled
from .task import Report, Task

# What the system says when the disk is at fault, whatever picture is being written.
NOT_THE_PICTURE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}


class Worker:
    """Lives in one process and holds the models of one workflow, from the first picture that needs them on."""

    def __init__(self, task: Task, server: str | None = None):
        self.task, self.server = task, server
        self.ledger, self.source, self.out = task.ledger(), task.source(), Path(task.out)
        self.home = self.out / WORK / uuid.uuid4().hex  # the driver clears what a killed worker leaves
        self._editor, self._load = None, 0.0

    @property
    def editor(self):
        if self._editor is None:
            began = time.perf_counter()
            from ..editor import Editor

            if self.server is None:
                import torch

                torch.set_num_threads(self.task.threads)
            places = Folders(inputs=(self.home,))
            self._editor = Editor(self.out / WORKFLOW, server=self.server, places=places)
            self._load = time.perf_counter() - began
        return self._editor

    def edit(self, chunk: Chunk) -> Report:
        """Sees to it that the ledger has a row for every picture of a chunk.

        The report says `stop` when what went wrong is not the pictures' fault: a full disk, a damaged ledger.
        """
        report, began, before = Report(chunk.name), time.perf_counter(), self._model_seconds()
        try:
            make_folder(self.home)
            self._edit(chunk, report)
        except EditError as problem:
            report.stop = str(problem)
        except OSError as problem:
            report.stop = f"Cannot write to {self.out}: {problem.strerror or problem}; make room there."
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
        report.load, self._load = self._load, 0.0
        report.busy = time.perf_counter() - began - report.load
        report.model = self._model_seconds() - before
        return report

    def _model_seconds(self) -> float:
        return self._editor.clock.seconds if self._editor else 0.0

    def _edit(self, chunk: Chunk, report: Report) -> None:
        written, journal = self.ledger.read(chunk.name), self.ledger.journal(chunk.name)
        known = {row.path: row for row in written}
        contents = chunk.contents or [None] * len(chunk.items)
        rows = [self._row(*pair, known, journal, report) for pair in zip(chunk.items, contents)]
        if rows == written:
            self.ledger.touch(chunk.name)
        else:
            self.ledger.write(chunk.name, rows)
        journal.close()

    def _row(self, item: Item, contents: bytes | None, known: dict, journal: Journal, report: Report) -> Row:
        """The row of one picture: the one that there is, or a new one after editing it."""
        path = spelled(item.path)
        old, row = known.get(path), journal.rows.get(path)
        if row is None and not (self.task.retry and old and old.status == FAILED):
            row = old
        if row is None or not row.about(item) or not self.ledger.holds(row):
            row = self._new_row(item, contents, journal)
            journal.end(row)
        found = row is old or row.seconds is None
        report.count("failed" if row.status == FAILED else "found" if found else "edited")
        return row

    def _new_row(self, item: Item, contents: bytes | None, journal: Journal) -> Row:
        path = spelled(item.path)
        row = Row(
            path, FAILED, workflow_hash=self.task.workflow_hash, input_size=item.size, input_changed=item.changed
        )
        if item.problem:
            return replace(row, error=spelled(item.problem))
        if journal.deaths(path) >= DEATHS:
            return replace(row, error=f"{DEATHS} workers died while they edited this picture; try it with `run`.")
        journal.begin(path)
        try:
            file = self.source.file(item) if contents is None else self._stored(contents)
            row = self._identified(file, row)
            return self._edited(file, row)
        except Exception as problem:
            if not_the_pictures_fault(problem):
                raise
            said = str(problem) if isinstance(problem, EditError) else f"{type(problem).__name__}: {problem}"
            return replace(row, error=" ".join(spelled(said).split()))

    def _identified(self, file: Path, row: Row) -> Row:
        """With the picture's hash, and the seed that follows from it."""
        digest, base = _hash(file, self.home), self.task.seed
        return replace(row, input_hash=digest, seed=self.task.own_seed if base is None else seed_of(digest, base))

    def _edited(self, file: Path, row: Row) -> Row:
        name = result_name(row)
        found = self._found(name)
        if found:
            return replace(row, status=DONE, **found)
        editor, began = self.editor, time.perf_counter()  # in this order: loading it is no part of a picture's time
        made = self._made(editor, file, row, name)
        return replace(row, status=DONE, seconds=round(time.perf_counter() - began, 4), **made)

    def _stored(self, contents: bytes) -> Path:
        """Bytes as a file among the workflow's pictures, whose name says what they are: the result carries it."""
        name = hashlib.sha256(contents).hexdigest()
        (self.home / name).write_bytes(contents)
        return Path(name)

    def _found(self, name: str) -> dict | None:
        """What is noted of a result that is there already; another worker may have made it, or an earlier run."""
        for suffix in pictures.SUFFIXES:
            path = self.out / f"{name}{suffix}"
            if path.is_file() and path.stat().st_size:  # a power cut can leave an empty one
                frames = 1
                while _frame(path, frames).is_file():
                    frames += 1
                return _noted(self.out, path, frames)
        return None

    def _made(self, editor, file: Path, row: Row, name: str) -> dict:
        """Edits the picture and moves what came of it to its place, in one step each, the first frame last."""
        folder = self.home / "made"
        shutil.rmtree(folder, ignore_errors=True)  # of a picture that failed while it was saved
        make_folder(folder)
        sets = {} if self.task.seed is None else dict.fromkeys(editor.seeds, str(row.seed))
        saved = editor.save(file, folder, sets=sets)
        target = self.out / f"{name}{saved[0].suffix}"
        make_folder(target.parent)
        for number in reversed(range(len(saved))):
            os.replace(saved[number], _frame(target, number))
        shutil.rmtree(folder, ignore_errors=True)
        return _noted(self.out, target, len(saved))


def seed_of(input_hash: str, base: int) -> int:
    """A picture's own seed, of 32 bits: the same in every run, whichever worker edits it."""
    return int.from_bytes(hashlib.sha256(f"{input_hash} {base}".encode()).digest()[:4], "big")


def result_name(row: Row) -> str:
    """Where a result belongs, below the output folder and without suffix: of its picture, workflow and seed alone."""
    about = f"{row.input_hash} {row.workflow_hash} {'' if row.seed is None else row.seed}"
    name = hashlib.sha256(about.encode()).hexdigest()[:40]
    return f"{RESULTS}/{name[:3]}/{name}"


def _frame(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.stem}_{number + 1}{path.suffix}")


def _noted(out: Path, path: Path, frames: int) -> dict:
    return {"result": path.relative_to(out).as_posix(), "frames": frames, "bytes": path.stat().st_size}


def _hash(file: Path, home: Path) -> str:
    """SHA-256 of a picture's file, which is relative to `home` when its bytes were stored there."""
    digest = hashlib.sha256()
    try:
        with (home / file if (home / file).is_file() else file).open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    except OSError as problem:
        raise EditError(f"Cannot read {file}: {problem.strerror or problem}.") from problem
    return digest.hexdigest()


def not_the_pictures_fault(problem: BaseException | None) -> bool:
    """Whether the next picture would fail as well: the disk is full or gone, a server stays away, the workflow as such
    is refused (the picture itself could be read), or a new driver has cleared away what this worker writes to."""
    if isinstance(problem, OSError):  # of reading a picture it would have become a sentence
        return True
    while problem is not None:
        if isinstance(problem, PromptRefused | Unwritable) or getattr(problem, "down", False):
            return True
        if isinstance(problem, OSError) and problem.errno in NOT_THE_PICTURE:
            return True
        problem = problem.__cause__
    return False
