"""How SaveImage calls its files: PREFIX_00001_.png, counted on from the highest number that is there."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from .errors import EditError
from .files import make_folder


class Place(NamedTuple):
    """A folder, how names in it begin, and the number of the next file."""

    folder: Path
    stem: str
    counter: int
    subfolder: str

    def path(self, number: int) -> Path:
        """The file of picture `number` (from 0) of a batch."""
        stem = self.stem.replace("%batch_num%", str(number))
        return self.folder / f"{stem}_{self.counter + number:05}_.png"


def save_place(output: Path, prefix: str, width: int, height: int, make: bool = True) -> Place:
    """Works out a filename prefix, which may name a subfolder and hold %width%, %height%, %year% … %second%.

    make: creates the folder. EditError for a prefix that leads out of the output folder.
    """
    path = Path(os.path.normpath(_filled_in(prefix, width, height)))
    folder = Path(os.path.normpath(output.absolute() / path.parent))
    if not folder.is_relative_to(os.path.normpath(output.absolute())) or path.name in ("", "..", "."):
        raise EditError(
            f"The filename prefix {prefix!r} leads out of the output folder {output}; choose another one."
        )
    if make:
        make_folder(folder)
    subfolder = "" if path.parent == Path() else str(path.parent)
    return Place(folder, path.name, 1 + _highest(folder, path.name), subfolder)


def _filled_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {"width": str(width), "height": str(height), "year": str(now.tm_year)}
    parts = {
        "month": now.tm_mon,
        "day": now.tm_mday,
        "hour": now.tm_hour,
        "minute": now.tm_min,
        "second": now.tm_sec,
    }
    values |= {name: f"{part:02}" for name, part in parts.items()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def _highest(folder: Path, stem: str) -> int:
    """The highest number among STEM_NNNNN_….* of a folder; 0 when there is none."""
    start = os.path.normcase(f"{stem}_")
    found = os.listdir(folder) if folder.is_dir() else []
    names = [n for n in found if os.path.normcase(n).startswith(start)]
    numbers = [n[len(start) :].split("_")[0] for n in names]
    return max((int(n) for n in numbers if n.isascii() and n.isdigit()), default=0)
