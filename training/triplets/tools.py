"""Who does the work of a build, made outside: editors run workflows, a judge compares, a voice answers in words.

The command line hands their makers in, because only it knows the nodes. What they make is used here by these words.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .working import Asked

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class Editor(Protocol):
    """A workflow with its models in memory. seeds: NAME -> value of the inputs that a seed goes to."""

    workflow_hash: str
    seeds: Mapping[str, int]

    def edit(self, image: Path, *, sets: Mapping[str, str] | None = None) -> "Image.Image": ...


class Decision(Protocol):
    """winner: which candidate, from 0; failures: what the judge left open."""

    winner: int | None
    lines: Sequence[str]
    failures: Sequence[str]


class Judge(Protocol):
    """Whoever says which of several results is best."""

    name: str

    def choose(
        self, candidates: Sequence["Tensor"], original: "Tensor", instruction: str, tell: Callable[[int, int], None]
    ) -> Decision: ...


@dataclass(frozen=True)
class Speaker:
    """Which model to ask, and how. place: the address of an endpoint, or a local model's folder."""

    place: str
    model: str = ""
    key_variable: str = ""
    seconds: float = 60.0
    retries: int = 2
    tokens: int = 512
    temperature: float = 0.0

    @property
    def remote(self) -> bool:
        return self.place.lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Tools:
    """editor(workflow, server, sets, needed titles) opens one, for a `with`; voice(speaker, pictures) a model to ask in
    words, that is shown pictures or none; judge(asked, both orders)."""

    editor: Callable[[Path, str | None, Sequence[str], Sequence[str]], AbstractContextManager[Editor]]
    voice: Callable[[Speaker, bool], Asked]
    judge: Callable[[Asked, bool], Judge]
