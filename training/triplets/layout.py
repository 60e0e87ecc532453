"""What a build leaves: a table and folders that the trainers of EditMGT, ICEdit and BlazeEdit read, and the rejects.

OUT/triplets/triplets.parquet         source, target, instruction, category, captions, scores: a row for each triplet
OUT/triplets/CATEGORY/x/KEY.png       the source (BlazeEdit's TASK/x); the table's paths lead here
OUT/triplets/CATEGORY/y/KEY.png       the result
OUT/rejects.csv                       what was rejected, by which stage and why
OUT/statistics/                       counts and plots (A.2)
OUT/state/, pictures/, edits/         the ledgers, the curated pictures, every editor's results
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ...models.errors import EditError
from .checking import TRIPLETS
from .ledger import write

TABLE, REJECTS = "triplets.parquet", "rejects.csv"
STAGES = ("curation", "instructions", "edits", "checks")
PASSED_ON = ("instruction", "category", "caption", "target_caption", "aesthetic", "clip_text", "clip_image", "changed",
             "editor", "verdict", "width", "height", "picture", "key")  # fmt: skip


def need_pyarrow() -> None:
    """EditError where parquet cannot be written, before hours of work."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise EditError("The table is written by pyarrow, which is not installed; say `pip install pyarrow`.") from None


def write_table(out: Path, rows: Sequence[Mapping]) -> Path | None:
    """The table of all triplets; None, and no table, where there is none. A column is there if every row has it."""
    path = out / TRIPLETS / TABLE
    if not rows:
        path.unlink(missing_ok=True)
        return None
    import pyarrow
    from pyarrow import parquet

    names = [name for name in PASSED_ON if all(row.get(name) is not None for row in rows)]
    below = lambda place: PurePosixPath(place).relative_to(TRIPLETS).as_posix()  # noqa: E731
    paths = ({side: below(row[side]) for side in ("source", "target")} for row in rows)
    table = pyarrow.Table.from_pylist([some | {n: row[n] for n in names} for some, row in zip(paths, rows)])
    return write(path, lambda file: parquet.write_table(table, file))


def tidy(out: Path, rows: Iterable[Mapping]) -> None:
    """Takes second names of pictures away that the table does not name; BlazeEdit reads whole folders."""
    named = {out / row[side] for row in rows for side in ("source", "target")}
    for path in (out / TRIPLETS).glob("*/[xy]/*"):
        if path not in named and not path.name.startswith("."):
            path.unlink()
    for folder in (*(out / TRIPLETS).glob("*/[xy]"), *(out / TRIPLETS).glob("*")):
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()


def write_rejects(out: Path, rows: Iterable[Mapping]) -> Path:
    """Stage, picture, category, instruction and reason of everything that was rejected."""
    text = io.StringIO()
    made = csv.DictWriter(text, ("stage", "picture", "category", "instruction", "reason", "key"), extrasaction="ignore")
    made.writeheader()
    made.writerows(rows)
    return write(out / REJECTS, lambda file: file.write(text.getvalue().encode()))
