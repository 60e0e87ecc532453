"""Tables of examples: CSV, JSON lines, parquet, or a folder with one of them or with captions beside the pictures."""

import csv
import io
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..models.errors import EditError

HELD = 16  # held out for measuring, and never more than a fifth
REFERENCES = 4  # that an edit of a table may have
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
KINDS = (".csv", ".jsonl", ".parquet")
# The names that a column may have; the first is ours, others those of published data sets.
COLUMNS = {
    "image": ("image", "file", "file_name", "jpg"),
    "caption": ("caption", "text", "prompt"),
    "source": ("source", "source_image", "input", "input_image", "original_image", "input_img",
               "source_img", "src_img"),
    "target": ("target", "target_image", "output", "edited_image", "output_image", "output_img",
               "target_img", "edited_img", "edited"),
    "instruction": ("instruction", "edit", "edit_prompt", "edit_instruction", "edited_prompt_list", "prompt"),
    "mask": ("mask", "mask_image", "mask_img"),
}
# Where an edit has several references: source, source_2, source_3, source_4.
SOURCES = ("source", *(f"source_{i}" for i in range(2, REFERENCES + 1)))
COLUMNS |= {name: (name, name.replace("source", "input_image")) for name in SOURCES[1:]}
OF_PICTURES = {name for kind in ("image", "target", "mask", *SOURCES) for name in COLUMNS[kind]}


def split(items: list) -> tuple[list, list]:
    """(trained on, held out): evenly spaced, so that a sorted list is held out evenly. EditError for fewer than two."""
    if len(items) < 2:
        raise EditError("A training needs at least two captions or pictures, for one is held out.")
    held = set(np.linspace(0, len(items) - 1, max(1, min(HELD, len(items) // 5))).astype(int).tolist())
    return [x for i, x in enumerate(items) if i not in held], [items[i] for i in sorted(held)]


def read(path: str, flag: str, wanted: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[dict]:
    """The rows of a table, with columns named as in COLUMNS; other columns stay as they are.

    A picture's cell is a path below the table's folder, or a function that gives its bytes. EditError, in one
    sentence, for what is missing: the file or folder, a column, rows.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise EditError(f"There is no {root}, which {flag} names.")
    rows = _rows(root, flag, wanted)
    if not rows:
        raise EditError(f"{root} holds no rows; {flag} names a table or folder of examples.")
    return [_named(row, root, wanted, optional) for row in rows]


def _rows(root: Path, flag: str, wanted: tuple[str, ...]) -> list[dict]:
    if root.is_file():
        return table(root)
    tables = sorted(p for p in root.iterdir() if p.suffix in KINDS and not p.name.startswith("._"))
    if tables:
        return [row for path in tables for row in table(path)]
    if "caption" in wanted:
        return _beside(root)
    raise EditError(f"{root} holds no table; put a {', '.join(KINDS)} with {', '.join(wanted)} there.")


def _beside(root: Path) -> list[dict]:
    """A folder of pictures, each with its caption as NAME.txt."""
    rows = []
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("._")):
        text = path.with_suffix(".txt")
        if text.is_file():
            rows.append({"image": path, "caption": text.read_text(encoding="utf-8").strip()})
    return rows


def table(path: Path) -> list[dict]:
    """The rows of one table as they are, columns by their own names; EditError for what cannot be read.

    A picture's cell is as in `read`.
    """
    if path.suffix not in KINDS:
        raise EditError(f"{path} is no table that is read; use one of {', '.join(KINDS)}.")
    if path.suffix == ".parquet":
        return _parquet(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, filter(str.strip, file))
            rows = [dict(row) for row in lines]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise EditError(f"{path} is not readable as a table ({error}).") from None
    return [{k: _below(path.parent, k, v) for k, v in row.items()} for row in rows]


def _below(folder: Path, column: str, value):
    """Paths in a table are below its folder."""
    return folder / value if column in OF_PICTURES and isinstance(value, str) and value else value


def _parquet(path: Path) -> list[dict]:
    """Text and numbers are read at once; pictures stored in the file only when they are asked for."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise EditError(
            f"{path} is read by pyarrow, which is not installed; say `pip install pyarrow`, or give a .csv or .jsonl."
        ) from None
    try:
        file = parquet.ParquetFile(path)
        stored = {f.name for f in file.schema_arrow if str(f.type).startswith(("struct", "binary", "large_binary"))}
        light = [name for name in file.schema_arrow.names if name not in stored]
        rows = []
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            table = file.read_row_group(group, columns=light).to_pylist() if light else [{}] * count
            for number, row in enumerate(table):
                row = {k: _below(path.parent, k, v) for k, v in row.items()}
                rows.append(row | {name: _Stored(file, group, name, number) for name in stored})
    except (OSError, ArrowException) as error:
        raise EditError(f"{path} is not readable as parquet ({error}).") from None
    return rows


class _Stored:
    """The bytes of a picture inside a parquet file; of the row group that was read last, the columns are kept.

    One thread reads at a time: pyarrow's files are not for several, and another's row group would be another picture.
    """

    last: tuple = ()
    turn = threading.Lock()

    def __init__(self, file, group: int, column: str, number: int):
        self.file, self.group, self.column, self.number = file, group, column, number

    def __call__(self) -> bytes:
        with _Stored.turn:
            value = self._values()[self.number].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def _values(self):
        """The column in the row group."""
        if _Stored.last[:2] != (self.file, self.group):
            _Stored.last = (self.file, self.group, {})
        columns = _Stored.last[2]
        if self.column not in columns:
            columns[self.column] = self.file.read_row_group(self.group, columns=[self.column]).column(0)
        return columns[self.column]


def number(value, column: str, index: int) -> float:
    """A cell as a number. EditError for what is none, naming its row (from 0 here) and column."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise EditError(f"Row {index + 1} has {value!r} in the column {column}, which is no number.")
    return found


def _named(row: dict, root: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> dict:
    out = dict(row)
    for column in (*wanted, *optional):
        found = next((name for name in COLUMNS[column] if row.get(name) not in (None, "")), None)
        if found is not None:
            out[column] = row[found]
        elif column in wanted:
            has = ", ".join(map(str, row)) or "none"
            raise EditError(f"{root} has a row without {column}; its columns are {has}.")
        else:
            out.pop(column, None)
    return out


def opened(cell: Path | Callable[[], bytes], mode: str = "RGB"):
    """A picture of a table, turned upright. EditError for one that cannot be read."""
    from PIL import Image, ImageOps

    try:
        given = cell if isinstance(cell, Path) else io.BytesIO(cell())
        with Image.open(given) as image:
            return ImageOps.exif_transpose(image).convert(mode)
    except (OSError, ValueError, SyntaxError, TypeError):
        name = cell if isinstance(cell, Path) else "A picture stored in the table"
        raise EditError(f"{name} cannot be read as a picture; take its row away.") from None
