"""What an output folder belongs to: one workflow, one input, one driver at a time."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import EditError
from ..files import check_writable, write
from ..workflow import Workflow
from .ledger import LEDGER, WORK

JOB, WORKFLOW, LOCK, LEASE = "job.json", "workflow.json", ".lock", ".lease"
STALE = 60.0  # seconds without a sign of life after which a lease counts for nothing
KEPT = {
    "workflow_hash": "another workflow, or of other settings of it",
    "input": "another --input",
    "seed": "another --seed",
    "block": "another --block",
    "column": "another --column",
}


@dataclass(frozen=True)
class Job:
    """What a rerun must share with the first run, so that a name means the same picture in both."""

    workflow_hash: str
    input: str
    seed: int | None
    block: int
    column: str | None = None  # that holds a table's pictures


def pin(out: Path, job: Job, work: Workflow) -> None:
    """Notes whose folder this is, or checks that it is this job's.

    EditError when it is another job's, when the note is damaged, and when it is gone while the ledger is there.
    """
    noted = _noted(out)
    if noted is None:
        if any((out / LEDGER).glob("*.parquet")):
            raise EditError(f"{out} has a ledger but no {JOB}; put that back, or choose another --out.")
        _write(out / WORKFLOW, {"prompt": work.prompt, "extra_data": work.extra_data})
        _write(out / JOB, asdict(job))
        return
    for name, what in KEPT.items():
        if noted.get(name) != getattr(job, name):
            raise EditError(f"{out} holds the results of {what}; choose another folder with --out.")
    if not (out / WORKFLOW).is_file():
        _write(out / WORKFLOW, {"prompt": work.prompt, "extra_data": work.extra_data})


def _write(path: Path, content: dict) -> None:
    write(path, lambda file: file.write(json.dumps(content, indent=1).encode()))


def _noted(out: Path) -> dict | None:
    path = out / JOB
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return dict(noted)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as problem:
        raise EditError(
            f"{path} is damaged; delete it and the folder {LEDGER} and run again: results that are there are kept."
        ) from problem


def prepare(out: Path) -> None:
    """Makes the folders. EditError when they cannot be written to."""
    for folder in (out, out / LEDGER, out / WORK):
        check_writable(folder)


def clear(out: Path, journals: bool = False) -> None:
    """Takes away what killed workers left; and their journals, which say how far they were, once all is done."""
    for left in (out / WORK).iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        elif journals:
            left.unlink(missing_ok=True)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps other drivers out of the folder. EditError, naming the other one, when one is at work there.

    A lock of the operating system ends with its process, however that ends. Where a file system has none, a lease
    takes its place, whose file is touched all along and counts for nothing when it is a minute old.
    """
    file = (out / LOCK).open("a+b")
    try:
        kept = _lock(file, out)
        if not kept:
            with _lease(out):
                yield
        else:
            file.truncate(0)
            file.write(json.dumps(_me()).encode())
            file.flush()
            yield
    finally:
        file.close()


def _me() -> dict:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _taken(out: Path, by: bytes) -> EditError:
    who = ""
    with suppress(ValueError, KeyError, TypeError):
        other = json.loads(by)
        who = f" (process {other['pid']} on {other['host']})"
    return EditError(f"Another batch{who} is writing to {out}; wait until it ends, or choose another --out.")


def _lock(file, out: Path) -> bool:
    """Whether the file could be locked; False where the file system cannot."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 30)  # a locked byte cannot be read, so one far away
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError) as problem:
        raise _taken(out, (out / LOCK).read_bytes()) from problem
    except OSError:
        return False


@contextmanager
def _lease(out: Path) -> Iterator[None]:
    import threading

    path, ended = out / LEASE, threading.Event()
    _take_lease(path, out)

    def renew() -> None:
        while not ended.wait(STALE / 6):
            with suppress(OSError):
                os.utime(path)

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        path.unlink(missing_ok=True)


def _take_lease(path: Path, out: Path) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink()
    try:
        with path.open("xb") as file:
            file.write(json.dumps(_me()).encode())
    except FileExistsError as problem:
        raise _taken(out, path.read_bytes()) from problem
