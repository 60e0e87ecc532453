"""The input in chunks: groups of pictures that come out the same in every run, read as a stream.

A folder is walked in order of names. A new chunk begins where the hash of a picture's path says so, so a picture that
comes or goes changes its own chunk and no other (content-defined chunking, as backup programs do it). Whatever the
input's size, no more than the names of one folder per level, or one chunk, is in memory.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from .. import pictures
from ..errors import EditError

LONGEST = 4  # a chunk's most pictures, in units of the mean


@dataclass(frozen=True)
class Item:
    """One picture of the input: its name there, and size and time of the file, by which a change is noticed."""

    path: str
    size: int
    changed: int  # nanoseconds
    problem: str | None = None  # why it cannot be read, where that is known already

    def plain(self) -> dict:
        return asdict(self)


class Chunk(NamedTuple):
    """A group of pictures under a name of its own. contents: the pictures' bytes, where they are in a Parquet file."""

    name: str
    items: list[Item]
    contents: list[bytes | None] | None = None


Known = Callable[[str], list[Item] | None]  # what is known of a chunk by its name, when nothing is left to do there


class Source(Protocol):
    """What chunks come from. Cursors say where a chunk begins, so that a later stream can go on there."""

    column: str | None  # that holds a table's pictures

    def chunks(self, size: int, after: list | None, known: Known) -> Iterator[tuple[list, Chunk]]:
        """(cursor, chunk) of every chunk from a cursor on; `size` pictures each on average. Contents are not read
        where nothing is left to do."""

    def file(self, item: Item) -> Path:
        """Where a picture without contents lies."""


class Folder:
    """The pictures below a folder. Left out: files without a picture's suffix, dot-files, linked folders, `skip`."""

    column = None

    def __init__(self, root: Path, skip: Path):
        self.root, self.skip = root, skip

    def file(self, item: Item) -> Path:
        return self.root / item.path

    def chunks(self, size: int, after: list | None, known: Known) -> Iterator[tuple[list, Chunk]]:
        group: list[Item] = []
        for item in self.items(tuple(after or ())):
            if group and (_begins(item.path, size) or len(group) >= LONGEST * size):
                yield _named(group)
                group = []
            group.append(item)
        if group:
            yield _named(group)

    def items(self, after: tuple = ()) -> Iterator[Item]:
        """Every picture in order of its path's parts, from the path `after` on."""
        yield from self._below(self.root, "", after)

    def _below(self, folder: Path, prefix: str, after: tuple) -> Iterator[Item]:
        try:
            names = _names(folder)
        except OSError as problem:
            yield Item(prefix or ".", -1, 0, f"Cannot read {folder}: {problem.strerror}.")
            return
        for name, is_folder in names:
            if after and name < after[0]:
                continue
            rest = after[1:] if after and name == after[0] else ()
            if not is_folder:
                yield _item(folder / name, f"{prefix}{name}")
            elif not _same(folder / name, self.skip):
                yield from self._below(folder / name, f"{prefix}{name}/", rest)


def _named(group: list[Item]) -> tuple[list, Chunk]:
    first = group[0].path
    return first.split("/"), Chunk(_name(first), group)


def _name(first: str) -> str:
    return _digest(first).hex()[:24]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _begins(path: str, size: int) -> bool:
    return int.from_bytes(_digest(path)[-8:], "big") % size == 0


def _names(folder: Path) -> list[tuple[str, bool]]:
    """(name, is a folder) of what a folder holds for us, by name."""
    with os.scandir(folder) as entries:
        return sorted((e.name, e.is_dir()) for e in entries if _counts(e))


def _counts(entry: os.DirEntry) -> bool:
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        return not entry.is_symlink()  # a link may lead in a circle
    return entry.name.lower().endswith(pictures.SUFFIXES) and (entry.is_file() or entry.is_symlink())


def _same(folder: Path, other: Path) -> bool:
    return folder.name == other.name and other.exists() and folder.samefile(other)


def _item(file: Path, path: str) -> Item:
    try:
        found = file.stat()
    except OSError:
        return Item(path, -1, 0)  # reading it will say why
    return Item(path, found.st_size, found.st_mtime_ns)


class Parquet:
    """The rows of Parquet files: a column of paths, of bytes, or of {bytes, path} as datasets on hubs have it."""

    COLUMNS = ("image", "bytes", "path", "image_path", "file_name", "file_path")

    def __init__(self, pattern: Path, column: str | None = None):
        """pattern: a file, or several by `*` in the name. EditError for a file or a column that is not there."""
        self.files = sorted(pattern.parent.glob(pattern.name)) if "*" in pattern.name else [pattern]
        if not self.files:
            raise EditError(f"There is no Parquet file {pattern}.")
        self.folder, self.column = pattern.parent, column
        self.column = self._choose(_opened(self.files[0]), self.files[0])

    def file(self, item: Item) -> Path:
        return self.folder / item.path

    def chunks(self, size: int, after: list | None, known: Known) -> Iterator[tuple[list, Chunk]]:
        start, row = after or (0, 0)
        for number in range(start, len(self.files)):
            for first, chunk in self._file(self.files[number], size, known):
                if number > start or first >= row:
                    yield [number, first], chunk

    def _file(self, path: Path, size: int, known: Known) -> Iterator[tuple[int, Chunk]]:
        table, stat, row = _opened(path), path.stat(), 0
        self._choose(table, path)
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            starts = range(row, row + rows, size)
            done = [self._known(path, stat, first, known) for first in starts]
            values = None if all(done) else self._values(table, group, size)
            for first, chunk in zip(starts, done):
                made = [] if values is None else list(islice(values, size))
                yield first, chunk or self._chunk(path, stat, first, made)
            row += rows

    def _known(self, path: Path, stat: os.stat_result, first: int, known: Known) -> Chunk | None:
        """A chunk of bytes that an earlier run has finished, unless the file has changed since."""
        name, now = _name(f"{path.name}#{first}"), (stat.st_size, stat.st_mtime_ns)
        items = known(name)
        same = items and all(i.path.startswith(f"{path.name}#") and (i.size, i.changed) == now for i in items)
        return Chunk(name, items) if same else None

    def _values(self, table, group: int, size: int) -> Iterator:
        for batch in table.iter_batches(size, row_groups=[group], columns=[self.column]):
            for value in batch.column(0):
                yield value.as_py()

    def _chunk(self, path: Path, stat: os.stat_result, first: int, values: list) -> Chunk:
        items, contents = [], []
        for row, value in enumerate(values, first):
            data, name = _content(value)
            own = f"{path.name}#{row}"
            if data is not None:
                items.append(Item(own, stat.st_size, stat.st_mtime_ns))
            elif name is not None:
                items.append(_item(self.folder / name, name))
            else:
                items.append(Item(own, -1, 0, f"Row {row} of {path} holds no picture."))
            contents.append(data)
        return Chunk(_name(f"{path.name}#{first}"), items, contents)

    def _choose(self, table, path: Path) -> str:
        schema = table.schema_arrow
        wanted = [self.column] if self.column else [name for name in self.COLUMNS if name in schema.names]
        fitting = [name for name in wanted if name in schema.names and _fits(schema.field(name).type)]
        if not fitting:
            asked = f"no column {self.column!r}" if self.column else "no column"
            raise EditError(
                f"{path} has {asked} of pictures; it has {', '.join(schema.names)}: name one of paths or "
                "bytes with --column."
            )
        return fitting[0]


def _content(value) -> tuple[bytes | None, str | None]:
    """A row's bytes, or its path."""
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path")
    return (value, None) if isinstance(value, bytes) else (None, value)


def _fits(kind) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_string(kind) or types.is_large_string(kind)


def _opened(path: Path):
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, buffer_size=1 << 20)
    except FileNotFoundError as problem:
        raise EditError(f"There is no Parquet file {path}.") from problem
    except (OSError, pyarrow.ArrowInvalid) as problem:
        raise EditError(f"{path} is not a Parquet file that can be read; fetch it again.") from problem


def source(given: Path, out: Path, column: str | None) -> Folder | Parquet:
    """The source that --input names. EditError when there is none of that name."""
    if given.is_dir():
        if given.resolve() == out.resolve():
            raise EditError(f"--out {out} is the folder of the pictures; choose another one for the results.")
        if column is not None:
            raise EditError(f"--column {column} belongs to a .parquet file, and {given} is a folder; leave it out.")
        return Folder(given, out)
    if given.name.endswith(".parquet"):
        return Parquet(given, column)
    raise EditError(f"--input {given} is neither a folder of pictures nor a .parquet file.")


class Total:
    """The number of chunks and pictures, and a sum over the names that does not depend on their order."""

    def __init__(self):
        self.chunks, self.items, self.digest = 0, 0, 0

    def add(self, name: str, items: int) -> None:
        self.chunks, self.items = self.chunks + 1, self.items + items
        self.digest = (self.digest + int(name, 16)) % (1 << 96)

    def plain(self) -> list:
        return [self.chunks, self.items, str(self.digest)]


def leg(stream: Iterable[tuple[list, Chunk]], most: int) -> Iterator[tuple[Chunk | None, dict]]:
    """The first `most` chunks, and at the end (None, where to go on and the total): {"cursor", "total"}."""
    total = Total()
    for cursor, chunk in stream:
        if total.chunks == most:
            yield None, {"cursor": cursor, "total": total.plain()}
            return
        total.add(chunk.name, len(chunk.items))
        yield chunk, {}
    yield None, {"cursor": None, "total": total.plain()}
