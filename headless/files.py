"""Writing files so that each is either whole or not there, and saying why when it cannot be written."""

import contextlib
import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import EditError

PART = ".part"


class Unwritable(EditError):
    """A file could not be written: the disk is full, or the place is closed to us."""


def write(path: Path, fill: Callable[[BinaryIO], None]) -> Path:
    """Writes a file through a temporary one in the same folder, which replaces it in one step at the end.

    fill(file) writes the bytes. Whatever stops it (an error, Ctrl-C), an older file of that name stays as it
    was and nothing half-written is left. Unwritable when that fails.
    """
    make_folder(path.parent)
    temporary = None
    try:
        with _create(path) as file:
            temporary = Path(file.name)
            fill(file)
        _readable_by_all(temporary)
        os.replace(temporary, path)
    except BaseException as problem:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(problem, OSError):
            raise Unwritable(write_sentence(path, problem)) from problem
        raise
    return path


def sweep(path: Path) -> None:
    """Removes what a process that was killed while writing this file has left beside it."""
    for left in path.parent.glob(f"{glob.escape(_hidden(path))}*{PART}"):
        with contextlib.suppress(OSError):
            left.unlink()


def make_folder(folder: Path) -> Path:
    """Makes a folder with its parents. Unwritable when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise Unwritable(write_sentence(folder, problem)) from problem
    return folder


def check_writable(folder: Path) -> Path:
    """Makes the folder and tries it, so that a long edit does not end at a folder that is read-only."""
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as problem:
        raise Unwritable(write_sentence(folder, problem)) from problem


def _create(path: Path):
    return tempfile.NamedTemporaryFile(dir=path.parent, prefix=_hidden(path), suffix=PART, delete=False)


def _hidden(path: Path) -> str:
    return f".{path.name[:40]}."


def _readable_by_all(path: Path) -> None:
    """Temporary files are private; a result gets the mode of any other new file."""
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def write_sentence(path: Path, problem: OSError) -> str:
    """Why a file could not be written, and what to do."""
    return f"Cannot write {path}: {problem.strerror or problem}; choose another place for the results."
