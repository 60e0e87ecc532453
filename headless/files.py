"""Writing files so that each is either whole or not there, and saying why when it cannot be written."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import EditError


def write(path: Path, fill: Callable[[BinaryIO], None]) -> Path:
    """Writes a file through a temporary one in the same folder, which replaces it in one step at the end.

    fill(file) writes the bytes. Whatever stops it (an error, Ctrl-C), an older file of that name stays as it
    was and nothing half-written is left. EditError when the place cannot be written to.
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
            raise EditError(_sentence(path, problem)) from problem
        raise
    return path


def make_folder(folder: Path) -> Path:
    """Makes a folder with its parents. EditError when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EditError(_sentence(folder, problem)) from problem
    return folder


def check_writable(folder: Path) -> Path:
    """Makes the folder and tries it, so that a long edit does not end at a folder that is read-only."""
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as problem:
        raise EditError(_sentence(folder, problem)) from problem


def _create(path: Path):
    return tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part", delete=False
    )


def _readable_by_all(path: Path) -> None:
    """Temporary files are private; a result gets the mode of any other new file."""
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)


def _sentence(path: Path, problem: OSError) -> str:
    return f"Cannot write {path}: {problem.strerror or problem}; choose another place for the results."
