"""The rows of a run: one per sample in Parquet, written so that a kill at any moment loses at most the running one.

ROOT/rows/NAME.parquet    rows as they come, one each
ROOT/rows.parquet         the same, gathered from time to time and at the end
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...headless.files import make_folder, write
from ...models.errors import EditError
from .metrics.catalogue import METRICS

GATHERED, PARTS, LOCK = "rows.parquet", "rows", ".running"
EVERY = 64  # rows that lie singly at most
TEXTS = ("id", "key", "given", "category", "session", "instruction", "source_caption", "target_caption", "marks",
         "status", "error", "note", "result", "sha256", "stem")  # fmt: skip
NUMBERS = ("turn", "width", "height")
DONE, FAILED = "done", "failed"


class Ledger:
    """The rows of one output folder by their samples' ids. EditError for a file that cannot be read."""

    def __init__(self, root: Path):
        self.root, self.loose = root, 0
        self.rows: dict[str, dict] = {}
        for path in files(root):
            self.rows |= {row["id"]: row for row in read_file(path)}

    def add(self, row: dict) -> None:
        """Puts a row on disk, in place of an older one of the same sample."""
        _write(self.root / PARTS / f"{row['stem']}.parquet", [row])
        self.rows[row["id"]] = row
        self.loose += 1
        if self.loose >= EVERY:
            self.gather()

    def gather(self) -> None:
        """Writes all rows into one file, and only then takes the single ones away."""
        if not self.rows:
            return
        _write(self.root / GATHERED, list(self.rows.values()))
        for path in (self.root / PARTS).glob("*.parquet"):
            path.unlink()
        self.loose = 0


def files(root: Path) -> list[Path]:
    """Where the rows of a folder lie, in the order in which later ones replace earlier ones."""
    gathered = [root / GATHERED] if (root / GATHERED).is_file() else []
    return gathered + sorted((root / PARTS).glob("*.parquet"))


def read_file(path: Path) -> list[dict]:
    """The rows of one file, with every column that this version has. EditError for a damaged one."""
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as problem:
        said = str(problem).splitlines()[0]
        raise EditError(f"{path} is damaged ({said}); delete it, and its samples are run again.") from None
    if any("id" not in row for row in rows):
        raise EditError(f"{path} is no table of results; delete it, or choose another --out.")
    return [dict.fromkeys((*TEXTS, *NUMBERS, "final", "seconds", *METRICS)) | row for row in rows]


def _write(path: Path, rows: Sequence[dict]) -> None:
    from pyarrow import BufferOutputStream, Table, parquet

    stream = BufferOutputStream()
    parquet.write_table(Table.from_pylist(list(rows), schema=_schema()), stream)
    content = stream.getvalue()
    make_folder(path.parent)
    write(path, lambda file: file.write(io.BytesIO(content).read()))


def _schema():
    import pyarrow as pa

    texts = [(name, pa.string()) for name in TEXTS]
    numbers = [(name, pa.int32()) for name in NUMBERS]
    values = [(name, pa.float64()) for name in ("seconds", *METRICS)]
    return pa.schema([*texts, *numbers, ("final", pa.bool_()), *values])


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keeps a second run out of the folder while this one lasts; the system lets go when a run is killed.

    EditError when another run holds it.
    """
    make_folder(root)
    with (root / LOCK).open("a+b") as file:
        if not _locked(file):
            raise EditError(f"Another run writes into {root}; wait for it, or choose another --out.")
        yield


def _locked(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
