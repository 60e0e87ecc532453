"""What `queue` has sent, fetched and finished, in one file beside the results, so that it can go on after anything.

A line of JSON per event, written through to the disk before the next step is taken; a job's last line holds. What a
crash left of a line is passed over. The file is locked while a client uses it.
"""

import json
import os
from pathlib import Path

from .errors import EditError
from .files import Unwritable, make_folder, sweep, write_sentence

NAME = "editkit_queue.jsonl"
FAR = 1 << 30  # where Windows locks a byte: a locked one could not be read


class Record:
    """The record of an output folder, for `with`. EditError when another client has it, or it cannot be written."""

    def __init__(self, folder: Path):
        self.path, self._file = folder / NAME, None
        self._jobs: dict[str, dict] = {}

    def __enter__(self) -> "Record":
        make_folder(self.path.parent)
        try:
            self._file = self.path.open("a+b", buffering=0)
            _lock(self._file, self.path.parent)
            self._file.seek(0)
            content = self._file.read()
            if content and not content.endswith(b"\n"):  # cut off by a crash or a full disk
                self._file.write(b"\n")
        except OSError as problem:
            self.__exit__()
            raise Unwritable(write_sentence(self.path, problem)) from problem
        except EditError:
            self.__exit__()
            raise
        self._jobs = dict(filter(None, map(_read, content.split(b"\n"))))
        for event in self._jobs.values():
            if event["state"] == "saving":  # by a client that was killed
                for file in event.get("files", []):
                    sweep(self.path.parent / file["name"])
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            self._file.close()  # which gives the lock back
        self._file = None

    def get(self, key: str) -> dict:
        """What is known of a job; empty when it is new."""
        return self._jobs.get(key, {})

    def put(self, key: str, **event) -> None:
        """Adds a line that says all that is known of a job from now on."""
        line = json.dumps({"job": key, **event}, ensure_ascii=False).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, os.strerror(28))
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise Unwritable(write_sentence(self.path, problem)) from problem
        self._jobs[key] = event

    def claimed(self, name: str, key: str) -> bool:
        """Whether a result of another job bears this name, whatever the file system thinks of capitals."""
        return any(
            name.casefold() == file["name"].casefold()
            for other, event in self._jobs.items()
            if other != key
            for file in event.get("files", [])
        )


def _read(line: bytes) -> tuple[str, dict] | None:
    try:
        event = json.loads(line)
        return event.pop("job"), _checked(event)
    except (ValueError, KeyError, AttributeError, TypeError):  # half a line, or somebody's edit
        return None


def _checked(event: dict) -> dict:
    """An event as put() wrote it; ValueError for one that could lead a file name out of the folder."""
    for file in event.get("files", []):
        if Path(file["name"]).name != file["name"]:
            raise ValueError(file["name"])
    return {"state": "", **event}


def _lock(file, folder: Path) -> None:
    """Locks until the process ends, however it ends. A file system without locks goes without."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as problem:
        raise EditError(
            f"Another `queue` is writing to {folder}; wait until it ends, or choose another --out."
        ) from problem
    except OSError:
        return
