"""Tables and JSON of published data sets, and the pictures that their cells name or hold."""

import json
from pathlib import Path
from typing import Any

from ....models.errors import EditError
from ....training.tables import table
from ..samples import Picture, on_disk, stored


def read_json(path: Path) -> Any:
    """EditError for a file that is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as problem:
        raise EditError(f"{path} is not JSON that can be read ({problem}).") from None


def records(path: Path, fields: tuple[str, ...]) -> list[dict]:
    """The rows of a JSON list (or of an object's values). EditError for another shape, or a row without the fields."""
    found = read_json(path)
    rows = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EditError(f"{path} is no list of samples.")
    return [having(row, fields, path) for row in rows]


def having(row: dict, fields: tuple[str, ...], path: Path) -> dict:
    """The row itself. EditError naming the fields that it lacks."""
    missing = [name for name in fields if name not in row]
    if missing:
        raise EditError(f"A sample in {path} has no {' and no '.join(missing)}; it has {', '.join(map(str, row))}.")
    return row


def tables_below(folder: Path, kinds: tuple[str, ...], names: tuple[str, ...] = ()) -> list[Path]:
    """The tables of these endings in a folder and below it; names: words of which a file's path holds one."""
    found = sorted(p for kind in kinds for p in folder.rglob(f"*{kind}") if not p.name.startswith("."))
    named = [p for p in found if any(word in p.relative_to(folder).as_posix().lower() for word in names)]
    return named or ([] if names else found)


def rows_of(paths: list[Path], fields: tuple[str, ...]) -> list[dict]:
    """The rows of several tables, each with all the fields; `_folder` and `_file` are where they were found."""
    found = ((path, row) for path in paths for row in table(path))
    return [having(row, fields, path) | {"_folder": path.parent, "_file": path.name} for path, row in found]


def picture(cell: Any, folder: Path, name: str) -> Picture | None:
    """What a cell names or holds, or None for an empty one. name: what an error calls it."""
    if callable(cell):
        return stored(name, cell)
    if isinstance(cell, dict):  # {"bytes", "path"}, as the `datasets` library writes pictures
        if cell.get("bytes"):
            return stored(name, lambda: cell["bytes"])
        cell = cell.get("path")
    if cell is None or str(cell).strip() in ("", "None"):
        return None
    return on_disk(cell if isinstance(cell, Path) else folder / str(cell))


def text(value: Any) -> str:
    """A cell as words: nothing, NaN and the word None count as none."""
    return "" if value is None or value != value or str(value) == "None" else str(value).strip()
