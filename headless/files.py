"""Writing results, and saying in one sentence why it cannot be done."""

import contextlib
import glob
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..models import files
from .errors import EditError


class Unwritable(EditError):
    """A file could not be written: the disk is full, or the place is closed to us."""


def write(path: Path, fill: Callable[[BinaryIO], object]) -> Path:
    """As models.files.write: whole or not at all. Unwritable where the disk or the place does not take it."""
    try:
        return files.write(path, fill)
    except OSError as problem:
        raise Unwritable(write_sentence(path, problem)) from problem


def sweep(path: Path) -> None:
    """Removes what a process that was killed while writing this file has left beside it."""
    for left in path.parent.glob(f"{glob.escape(files.hidden(path))}*{files.PART}"):
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


def write_sentence(path: Path, problem: OSError) -> str:
    """Why a file could not be written, and what to do."""
    return f"Cannot write {path}: {problem.strerror or problem}; choose another place for the results."
