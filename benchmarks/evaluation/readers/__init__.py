"""Readers of the benchmarks' folders as they were published: a folder in, samples out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ....models.errors import EditError
from ..samples import Found
from . import anybench, emu_edit, folder, gedit_bench, kontext_bench, magicbrush, pie_bench

READERS: dict[str, Callable[[Path, "Options"], Found]] = {
    "pie-bench": pie_bench.read,
    "magicbrush": magicbrush.read,
    "emu-edit": emu_edit.read,
    "anybench": anybench.read,
    "gedit-bench": gedit_bench.read,
    "kontext-bench": kontext_bench.read,
    "folder": folder.read,
}


@dataclass(frozen=True)
class Options:
    """What of a benchmark is wanted.

    split: of Emu Edit (validation or test). language: of GEdit-Bench (en, cn or all). turns: of MagicBrush (single or
    multi). keep_flawed: keeps the samples of Emu Edit whose captions cannot be right.
    """

    split: str = ""
    language: str = "en"
    turns: str = "single"
    keep_flawed: bool = False


def read(benchmark: str, data: Path, options: Options | None = None) -> Found:
    """The samples of a folder. EditError for a folder that is missing, or is not laid out as this benchmark is."""
    if not data.is_dir():
        raise EditError(f"There is no folder {data}, which --data names.")
    return READERS[benchmark](data, options or Options())
