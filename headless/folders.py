"""Where a run finds its pictures and puts its results."""

import contextlib
import contextvars
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import EditError

PACK = Path(__file__).resolve().parent.parent
MEDIA = PACK / "workflows" / "media"


@dataclass(frozen=True)
class Folders:
    """The folders of a run; ComfyUI's input, output and temp folders.

    inputs: searched for pictures after the working folder and before the samples (MEDIA).
    output: where SaveImage writes. name: when given, it decides instead of ComfyUI's counter what the picture
    number n of SaveImage is called (a path).
    profile: an ICC profile to write into results, so that a wide-gamut photo keeps its colours.
    """

    inputs: tuple[Path, ...] = ()
    output: Path = Path("out")
    temp: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "editkit")
    name: Callable[[int], Path] | None = None
    profile: bytes | None = None

    def stamp(self) -> str:
        """Differs when results go elsewhere. The decided name counts: a new function may lie where an old one lay."""
        return f"{self.output.absolute()} {self.name(0) if self.name else ''}"


_current: contextvars.ContextVar[Folders | None] = contextvars.ContextVar("editkit_folders", default=None)


def current() -> Folders:
    return _current.get() or Folders()


@contextlib.contextmanager
def use(folders: Folders) -> Iterator[Folders]:
    """Makes these the folders of everything that runs inside the `with`."""
    token = _current.set(folders)
    try:
        yield folders
    finally:
        _current.reset(token)


def input_folders() -> tuple[Path, ...]:
    """Where pictures are looked for besides the working folder."""
    return (*current().inputs, MEDIA)


def find_picture(name: str) -> Path | None:
    """Finds a picture by its path, absolute or from the working folder, else in the input folders.

    `name [output]`, `name [temp]` and `name [input]`, as ComfyUI writes them, name the folder themselves.
    """
    for kind in ("output", "temp", "input"):
        if name.endswith(f"[{kind}]"):
            return _first(name.removesuffix(f"[{kind}]").rstrip(), places(kind))
    return _first(name, places(None))


def places(kind: str | None) -> tuple[Path, ...]:
    """The folders behind `[output]`, `[temp]` and `[input]`; for None those of a name that says nothing."""
    if kind in ("output", "temp"):
        return (getattr(current(), kind),)
    return input_folders() if kind == "input" else (Path(), *input_folders())


def _first(name: str, places: tuple[Path, ...]) -> Path | None:
    if not name.strip() or "\0" in name:
        return None
    found = (place / Path(name).expanduser() for place in places)
    return next((path for path in found if os.path.isfile(path)), None)


def picture(name: str) -> Path:
    """As find_picture; EditError that says where it was looked for."""
    path = find_picture(name)
    if path is None:
        raise EditError(f"{not_found(name)}.")
    return path


def not_found(name: str) -> str:
    looked = ", ".join(str(p) for p in (Path.cwd(), *input_folders()))
    return f"Invalid image file: {name} (looked in {looked})"
