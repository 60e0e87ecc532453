"""What Save Edited Image finds in ComfyUI's stead: the folders of a run, and stand-ins' names and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..nodes.host import saving
from ..nodes.host.saving import Place
from . import folders, pictures
from .files import write
from .names import save_place

if TYPE_CHECKING:
    from torch import Tensor


def offer() -> None:
    """From now on nodes save where the run's folders say."""
    saving.offer(lambda: Host(folders.current()))


@dataclass(frozen=True)
class Host:
    """The host of nodes.host.saving for one run's folders."""

    folders: folders.Folders

    @property
    def profile(self) -> bytes | None:
        return self.folders.profile

    def places(self, prefix: str, width: int, height: int):
        """As the stand-in of SaveImage names its files; with other suffixes too."""
        decided = self.folders.name
        counted = save_place(self.folders.output, prefix, width, height, make=decided is None)

        def place(number: int, suffix: str) -> Place:
            if decided is not None:
                return Place(decided(number), counted.subfolder, True)
            return Place(counted.path(number).with_suffix(suffix), counted.subfolder)

        return place

    def write(self, path: Path, data: bytes) -> None:
        write(path, lambda file: file.write(data))

    def stamp(self) -> str:
        return self.folders.stamp()

    def find(self, name: str) -> Path | None:
        return folders.find_picture(name)

    def load(self, name: str) -> "Tensor":
        return pictures.read(folders.picture(name))[0]
