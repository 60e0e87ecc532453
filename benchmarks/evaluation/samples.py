"""What every benchmark comes down to: a picture, words, perhaps a mask and a target, and where they are read from."""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ...models.errors import EditError

WHITE = 127  # grey levels above it are inside a mask
NAME_LENGTH = 80


@dataclass(frozen=True)
class Picture:
    """A picture that is read when it is needed. name: what an error calls it; path: where it lies as a file; content:
    the bytes that it is made of, by which it is known again."""

    name: str
    read: Callable[[], Image.Image]
    path: Path | None = None
    content: Callable[[], bytes | None] = bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its content in hex; nothing for a picture that is not there."""
        try:
            content = self.content()
        except OSError:
            return ""
        return hashlib.sha256(content).hexdigest() if content else ""

    def load(self) -> Image.Image:
        """The picture in RGB, upright. EditError, in one sentence, when it is not there or is none."""
        return self._opened(lambda found: found.convert("RGB"))

    def grey(self) -> Image.Image:
        """The same as 8-bit grey, for masks."""
        return self._opened(lambda found: found.convert("L"))

    def _opened(self, converted: Callable[[Image.Image], Image.Image]) -> Image.Image:
        try:
            return converted(ImageOps.exif_transpose(self.read()))
        except FileNotFoundError:
            raise EditError(f"There is no picture {self.name}, which the benchmark names.") from None
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as problem:
            raise EditError(f"{self.name} is not a picture that can be read ({problem}).") from None


def on_disk(path: Path) -> Picture:
    """A picture in a file."""
    return Picture(str(path), lambda: Image.open(path), path, path.read_bytes)


def stored(name: str, read: Callable[[], bytes | None]) -> Picture:
    """A picture inside a table. read: gives its bytes; none at all count as a missing picture."""

    def opened() -> Image.Image:
        content = read()
        if not content:
            raise FileNotFoundError(name)
        return Image.open(io.BytesIO(content))

    return Picture(name, opened, content=read)


@dataclass(frozen=True)
class Sample:
    """One edit of a benchmark.

    mask: white where the picture is to change, for the workflow. scored: the same region as the benchmark's metrics
    take it; the mask itself where it is not given. session, turn: of a multi-turn benchmark, from 1; `final` marks a
    session's last turn. reference: a further picture, of edits that are guided by one.
    """

    id: str
    source: Picture
    instruction: str = ""
    source_caption: str = ""
    target_caption: str = ""
    mask: Picture | None = None
    target: Picture | None = None
    scored: Picture | None = None
    reference: Picture | None = None
    category: str = ""
    session: str = ""
    turn: int = 0
    final: bool = True
    marks: tuple[str, ...] = ()

    @property
    def region(self) -> Picture | None:
        """Where the metrics look for the edit."""
        return self.scored or self.mask

    @cached_property
    def key(self) -> str:
        """A digest of what was asked, the words and the source, by which a row is known to belong to this sample."""
        words = (self.id, self.instruction, self.source_caption, self.target_caption, self.session, str(self.turn),
                 self.source.digest)  # fmt: skip
        return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]

    @property
    def stem(self) -> str:
        """The id as a file name; what a name may not hold is replaced, and a digest keeps such names apart."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", self.id).strip("._")[:NAME_LENGTH]
        return safe if safe == self.id else f"{safe or 'sample'}-{hashlib.sha256(self.id.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Found:
    """What a reader found. notes: a sentence each about what it left out or took for something else."""

    samples: Sequence[Sample]
    notes: Sequence[str] = field(default_factory=tuple)


def checked(samples: Sequence[Sample], folder: Path, what: str, notes: Sequence[str] = ()) -> Found:
    """EditError where nothing was found, ids come twice, or not one of the source pictures is there."""
    if not samples:
        raise EditError(f"{folder} holds no samples of {what}.")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise EditError(f"{folder} names the sample {sample.id!r} twice; give each its own id.")
        seen.add(sample.id)
    files = [sample.source.path for sample in samples if sample.source.path is not None]
    if len(files) == len(samples) and not any(path.is_file() for path in files):
        raise EditError(f"None of the {len(files)} source pictures of {what} is there; the first should be {files[0]}.")
    return Found(tuple(samples), tuple(notes))
