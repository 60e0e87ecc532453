"""Where finished pictures go and where loaded ones lie: ComfyUI's folders, or those of the headless runner."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from ...models import files
from ...models.errors import EditError
from .devices import in_comfyui


class Place(NamedTuple):
    """A file to write, its folder below the output folder, and whether somebody has decided its name."""

    path: Path
    subfolder: str
    decided: bool = False


Places = Callable[[int, str], Place]  # of picture `number` of a batch, with a suffix


class Host(Protocol):
    """What the headless runner offers in ComfyUI's stead."""

    profile: bytes | None  # an ICC profile to write into results

    def places(self, prefix: str, width: int, height: int) -> Places:
        """Where the pictures of a batch go."""

    def write(self, path: Path, data: bytes) -> None:
        """Writes a file that is either whole or not there. EditError when it cannot be written."""

    def stamp(self) -> str:
        """Differs when results go elsewhere."""

    def find(self, name: str) -> Path | None:
        """The file that LoadImage reads under this name."""

    def load(self, name: str) -> Tensor:
        """What LoadImage makes of it: [b, h, w, 3]."""


_offered: Callable[[], Host] | None = None


def offer(make: Callable[[], Host] | None) -> None:
    """What gives the host where there is no ComfyUI; None for nothing."""
    global _offered
    _offered = make


def current() -> Host:
    """The host. EditError outside of ComfyUI and the headless runner."""
    if "folder_paths" in sys.modules:
        return _ComfyUI()
    if _offered is None:
        raise EditError("There is nowhere to save to; run the workflow in ComfyUI or with `python . run`.")
    return _offered()


class _ComfyUI:
    """ComfyUI's output and input folders, as SaveImage and LoadImage use them."""

    profile = None

    def places(self, prefix: str, width: int, height: int) -> Places:
        import folder_paths

        output = folder_paths.get_output_directory()
        try:
            folder, stem, counter, below, _ = folder_paths.get_save_image_path(prefix, output, width, height)
        except OSError as problem:
            raise EditError(f"Cannot write to {output}: {problem.strerror}; choose another prefix.") from problem
        except Exception as problem:  # core has no class of its own for this
            raise EditError(f"The prefix {prefix!r} leads out of the output folder; choose another.") from problem

        def place(number: int, suffix: str) -> Place:
            name = f"{stem.replace('%batch_num%', str(number))}_{counter + number:05}_{suffix}"
            return Place(Path(folder) / name, below)

        return place

    def write(self, path: Path, data: bytes) -> None:
        try:
            files.write(path, data)
        except OSError as problem:
            raise EditError(f"Cannot write {path}: {problem.strerror}; choose another prefix.") from problem

    def stamp(self) -> str:
        return ""

    def find(self, name: str) -> Path | None:
        import folder_paths

        path = Path(folder_paths.get_annotated_filepath(name))
        return path if path.is_file() else None

    def load(self, name: str) -> Tensor:
        import nodes

        return nodes.LoadImage().load_image(name)[0]


def keeps_metadata() -> bool:
    """Whether workflows are written into pictures: not where ComfyUI was started with --disable-metadata."""
    if not in_comfyui():
        return True
    from comfy.cli_args import args

    return not args.disable_metadata


def software() -> dict[str, str]:
    """The host's own version, where it is ComfyUI."""
    if not in_comfyui():
        return {}
    import comfyui_version

    return {"comfyui": str(comfyui_version.__version__)}


def tell(text: str) -> None:
    """Says something about a result in ComfyUI's log; the headless runner shows what the node returns."""
    if in_comfyui():
        logging.getLogger("EditKit").warning(text)
