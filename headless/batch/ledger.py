"""The ledger: a Parquet file per chunk with a row per picture, each file written in one step.

A row's place follows from the input alone, so whoever writes a chunk, and however often, writes the same file: nothing
can be there twice. While a chunk is under way its rows are lines of a journal, which a killed worker leaves behind.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ...models.files import PART
from ..errors import EditError
from ..files import make_folder, write
from .chunks import Item

LEDGER, RESULTS, WORK, BEGUN = "ledger", "results", ".work", "begun"
DONE, FAILED = "done", "failed"
DEATHS = 5  # so often may a worker die over a picture


@dataclass(frozen=True)
class Row:
    """What became of one picture. seconds: None where the result was there already; seed: None without one."""

    path: str
    status: str
    input_hash: str | None = None
    workflow_hash: str | None = None
    seed: int | None = None
    result: str | None = None
    frames: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    error: str | None = None
    input_size: int | None = None
    input_changed: int | None = None

    def about(self, item: Item) -> bool:
        """Whether this row is about the picture as it is now."""
        return (self.input_size, self.input_changed) == (item.size, item.changed)

    def item(self) -> Item:
        return Item(self.path, self.input_size, self.input_changed)


NAMES = tuple(field.name for field in fields(Row))


def schema():
    """The columns of a part."""
    import pyarrow as pa

    whole = ("frames", "bytes", "input_size", "input_changed")
    kinds = {"seconds": pa.float64(), "seed": pa.uint64(), **dict.fromkeys(whole, pa.int64())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in NAMES])


class Ledger:
    """The ledger of an output folder. `stamp` marks the files that this run has met."""

    def __init__(self, out: Path, stamp: int):
        self.out, self.stamp = out, stamp

    def part(self, name: str) -> Path:
        return self.out / LEDGER / f"{name}.parquet"

    def read(self, name: str) -> list[Row]:
        """A chunk's rows, none when it has none yet. EditError when the file is damaged."""
        from pyarrow import ArrowException, parquet

        part = self.part(name)
        try:
            table = parquet.ParquetFile(part).read()
            return [Row(**row) for row in table.to_pylist()]
        except FileNotFoundError:
            return []
        except (OSError, ArrowException, TypeError, ValueError) as problem:
            raise EditError(
                f"{part} is damaged; delete it and run again: its pictures are found among the results."
            ) from problem

    def write(self, name: str, rows: list[Row]) -> None:
        """Puts a chunk's rows in place of what there was, in one step. EditError when they cannot be written."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.Table.from_pylist([asdict(row) for row in rows], schema())
        write(self.part(name), lambda file: parquet.write_table(table, file))
        self.touch(name)

    def touch(self, name: str) -> None:
        os.utime(self.part(name), ns=(self.stamp, self.stamp))

    def holds(self, row: Row) -> bool:
        """Whether what a row says is so: its result is there, whole. True of a picture that failed."""
        if row.status != DONE:
            return True
        try:
            return (self.out / row.result).stat().st_size == row.bytes
        except OSError:
            return False

    def finished(self, name: str, retry: bool) -> list[Item] | None:
        """The pictures of a chunk in which nothing is left to do, else None."""
        rows = self.read(name)
        left = [row for row in rows if not self.holds(row) or (retry and row.status == FAILED)]
        return [row.item() for row in rows] if rows and not left else None

    def begin(self) -> None:
        """Notes that a run begins, in the file system's own time."""
        (self.out / WORK / BEGUN).write_text(str(self.stamp))

    def sweep(self) -> None:
        """Takes away what killed workers left half-written, and the files of chunks that the input no longer has, after
        a run that has met all others.

        One that was written since the run began stays: a worker of a killed driver may have outlived it a little.
        """
        began = (self.out / WORK / BEGUN).stat().st_ctime_ns
        with os.scandir(self.out / LEDGER) as entries:
            for entry in entries:
                found = entry.stat()
                unmet = found.st_mtime_ns != self.stamp and found.st_ctime_ns < began
                if entry.name.endswith(PART) or (entry.name.endswith(".parquet") and unmet):
                    os.unlink(entry.path)

    def journal(self, name: str) -> "Journal":
        return Journal(make_folder(self.out / WORK) / f"{name}.jsonl")


def spelled(text: str) -> str:
    """Text as Arrow takes it, which is Unicode: what a file name has beyond that is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


class Journal:
    """What has been finished of a chunk, line by line; what a kill left of a line is passed over."""

    def __init__(self, path: Path):
        self.path, self.rows, self.begun = path, {}, {}
        for line in self._lines():
            if "begin" in line:
                self.begun[line["begin"]] = self.begun.get(line["begin"], 0) + 1
            else:
                row = Row(**line)
                self.rows[row.path] = row
                self.begun.pop(row.path, None)

    def _lines(self) -> Iterator[dict]:
        try:
            content = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in content.split("\n"):
            if line.startswith("{") and line.endswith("}"):
                yield json.loads(line)

    def begin(self, path: str) -> None:
        self._add({"begin": path})

    def end(self, row: Row) -> None:
        self._add(asdict(row))

    def deaths(self, path: str) -> int:
        """How often a picture was begun and neither finished nor failed."""
        return self.begun.get(path, 0)

    def _add(self, line: dict) -> None:
        """One write, so that two who keep the same journal do not mix their lines."""
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(number, b"\n" + json.dumps(line).encode() + b"\n")
            finally:
                os.close(number)
        except OSError as problem:
            raise EditError(f"Cannot write {self.path}: {problem.strerror or problem}; make room there.") from problem

    def close(self) -> None:
        """The chunk's rows are in the ledger now."""
        self.path.unlink(missing_ok=True)
