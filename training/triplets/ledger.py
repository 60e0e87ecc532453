"""What a build remembers: a ledger of rows for each stage, one run at a time, and pictures that are whole or not there.

A row is a line of JSON with `key`, `status` (kept or rejected) and, where it was rejected, `reason`. Rows are only ever
added. A line that was cut off when the run was killed is taken away, and its item is done again.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ...models import files
from ...models.errors import EditError

KEPT, REJECTED = "kept", "rejected"


def kept(key: str, **more) -> dict:
    """A row of something that goes on to the next stage."""
    return {"key": key, "status": KEPT, **more}


def rejected(key: str, reason: str, **more) -> dict:
    """A row of something that goes no further, and why."""
    return {"key": key, "status": REJECTED, "reason": reason, **more}


class Ledger:
    """The rows of one stage, by key, in the order in which they were done."""

    def __init__(self, path: Path):
        """EditError for a file that cannot be read or written, or is damaged elsewhere than at its end."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from None
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.rows = _rows(path, whole)
        self._end = len(whole)
        if len(data) > len(whole):
            self._file.truncate(self._end)

    def add(self, row: dict) -> None:
        """Writes a row, whole or not at all. EditError where the disk takes it no more."""
        if row["key"] in self.rows:
            raise AssertionError(f"{row['key']} is in {self.path} already")
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise unwritable(self.path, error) from None
        self._end += len(line)
        self.rows[row["key"]] = row

    def of(self, status: str) -> list[dict]:
        """The rows that were kept, or rejected."""
        return [row for row in self.rows.values() if row["status"] == status]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read(path: Path) -> dict[str, dict]:
    """The rows of a ledger that may be growing, or not be there: whole lines only. EditError for a damaged one."""
    data = path.read_bytes() if path.is_file() else b""
    return _rows(path, data[: data.rfind(b"\n") + 1])


def _rows(path: Path, data: bytes) -> dict[str, dict]:
    rows: dict[str, dict] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            row = json.loads(line)
            good = row["status"] in (KEPT, REJECTED) and isinstance(row["key"], str) and row["key"] not in rows
        except (ValueError, LookupError, TypeError, RecursionError):
            good = False
        if not good:
            raise EditError(
                f"{path} is damaged in line {number}; put back a copy of it, or delete the file to do that stage again."
            )
        rows[row["key"]] = row
    return rows


def unwritable(path: Path, error: OSError) -> EditError:
    """The sentence for a place that cannot be written to."""
    said = error.strerror or error
    return EditError(f"Cannot write {path}: {said}; see to that and run the same command again, what is done is kept.")


def write(path: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """Writes a file whole or not at all. EditError where the disk takes it no more."""
    try:
        return files.write(path, fill)
    except OSError as error:
        raise unwritable(path, error) from None


def sweep(folder: Path) -> None:
    """Takes away what a run that was killed had half-written."""
    for path in folder.rglob(f"*{files.PART}"):
        path.unlink(missing_ok=True)


def linked(path: Path, new: Path) -> Path:
    """The same file under a second name, or a copy where the disk has no such thing."""
    if not new.is_file():
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, new)
        except OSError:
            write(new, lambda file: file.write(path.read_bytes()))
    return new


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps a second run out of a folder, with an EditError. The lock of a run that was killed is gone with it."""
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise unwritable(folder, error) from None
    with file:
        try:
            _lock(file)
        except OSError:
            raise EditError(f"Another run is writing to {folder}; wait for its end, or name another --out.") from None
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_card(path: Path, card: dict) -> None:
    """Notes what a build is made with. EditError when the folder was begun otherwise: its rows would not be alike."""
    old = None
    if path.is_file():
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in card if old[name] != card[name]]
        except (ValueError, LookupError, TypeError):
            raise EditError(f"{path} is damaged; put back a copy of it, or name another --out.") from None
        if changed:
            name = changed[0]
            raise EditError(
                f"{path.parent} was begun with {name} {old[name]!r} and is now asked for {card[name]!r}; say the same "
                "again, or name another --out."
            )
    if old is None:
        text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write(path, lambda file: file.write(text.encode()))
