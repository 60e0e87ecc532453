"""What a build starts from: a folder of pictures, or a table of them with captions, scores, instructions."""

from dataclasses import dataclass
from pathlib import Path

from ...models.errors import EditError
from .. import tables
from ..editmgt.data import SCORES

# Further names that a column may have, as in tables.COLUMNS.
COLUMNS = {
    "target_caption": ("target_caption", "edited_caption", "output_caption", "target_prompt"),
    "category": ("category", "edit_type", "task"),
    "aesthetic": SCORES,
}


@dataclass(frozen=True)
class Picture:
    """A picture to start from. name: its path below the folder, or its place in the table; cell: as in tables.read."""

    name: str
    cell: object
    caption: str = ""
    instruction: str = ""
    target_caption: str = ""
    category: str = ""
    aesthetic: float | None = None

    def data(self) -> bytes:
        """The file's bytes. OSError where it is not there."""
        return self.cell.read_bytes() if isinstance(self.cell, Path) else self.cell()


def find(images: str, out: Path) -> list[Picture]:
    """The pictures of --images, in a fixed order. EditError for no folder, no pictures, and an --out inside."""
    root = Path(images).expanduser()
    if not root.exists():
        raise EditError(f"There is no {root}, which --images names.")
    if root.is_dir() and out.resolve().is_relative_to(root.resolve()):
        raise EditError(f"--out {out} lies inside --images {root}, whose pictures are read; put it elsewhere.")
    if root.is_file() or any(p.suffix in tables.KINDS and not p.name.startswith("._") for p in root.iterdir()):
        return _of_table(root)
    found = [
        Picture(path.relative_to(root).as_posix(), path, _beside(path))
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in tables.PICTURES and not path.name.startswith("._") and path.is_file()
    ]
    if not found:
        kinds = ", ".join(sorted(tables.PICTURES))
        raise EditError(f"{root} holds no pictures ({kinds}); --images names a folder of some.")
    return found


def _beside(path: Path) -> str:
    """The caption in NAME.txt."""
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else ""


def _of_table(root: Path) -> list[Picture]:
    rows = tables.read(str(root), "--images", ("image",), ("caption", "instruction"))
    base = root if root.is_dir() else root.parent
    return [_picture(row, number, base) for number, row in enumerate(rows)]


def _picture(row: dict, number: int, base: Path) -> Picture:
    cell = row["image"]
    if not (callable(cell) or isinstance(cell, Path)):
        raise EditError(f"Row {number + 1} of {base} has {cell!r} for a picture; give paths, or pictures' bytes.")
    path = isinstance(cell, Path)
    name = cell.relative_to(base).as_posix() if path and cell.is_relative_to(base) else str(cell) if path else "row"
    texts = {column: _text(row.get(column)) for column in ("caption", "instruction")}
    texts |= {column: _text(_first(row, column)) for column in ("target_caption", "category")}
    score = _first(row, "aesthetic")
    score = None if score is None else tables.number(score, "aesthetic", number)
    # Several edits of one picture are several rows.
    return Picture(f"{name}#{number}", cell, **texts, aesthetic=score)


def _first(row: dict, column: str):
    return next((row[name] for name in COLUMNS[column] if row.get(name) not in (None, "")), None)


def _text(value) -> str:
    """A cell as text; of several captions or instructions the first."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else ""
    return "" if value is None else " ".join(str(value).split())
