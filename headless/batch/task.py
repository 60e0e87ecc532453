"""What workers are told, and what they report: plain values that travel to any machine."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import EditError
from . import chunks
from .ledger import Ledger


@dataclass(frozen=True)
class Task:
    """What a worker has to know; plain values, so that any machine can be told."""

    input: str
    out: str
    folder: str  # the driver's working folder, from which the two above may be named
    block: int
    stamp: int
    leg: int = 1  # chunks that one stream reads
    seed: int | None = None  # from which, and from a picture's hash, its own seed follows
    own_seed: int | None = None  # the workflow's, which counts where there is no other
    column: str | None = None
    retry: bool = False
    threads: int = 1
    workflow_hash: str = ""

    @classmethod
    def read(cls, text: str) -> "Task":
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(asdict(self))

    def enter(self) -> None:
        """Goes to the driver's working folder, since models and relative paths are looked for from there."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        elif not Path(self.input).is_absolute() or not Path(self.out).is_absolute():
            raise EditError(f"This machine has no folder {self.folder}; give --input and --out as full paths.")

    def ledger(self) -> Ledger:
        return Ledger(Path(self.out), self.stamp)

    def source(self) -> chunks.Source:
        return chunks.source(Path(self.input), Path(self.out), self.column)


@dataclass
class Report:
    """What became of a chunk. `stop`: why nobody should go on. edited + found + failed are its pictures."""

    name: str = ""
    edited: int = 0
    found: int = 0
    failed: int = 0
    busy: float = 0.0  # seconds
    load: float = 0.0  # seconds before them, in which the worker read the workflow and imported what it needs
    model: float = 0.0  # seconds of them in the workflow's nodes that edit
    stop: str | None = None
    end: dict | None = None  # of a leg: where the next one begins, and what it held

    def count(self, what: str) -> None:
        setattr(self, what, getattr(self, what) + 1)

    @classmethod
    def read(cls, text: str) -> "Report":
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(asdict(self))
