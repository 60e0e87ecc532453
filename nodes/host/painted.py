"""Masks painted on a node: where their files lie (ComfyUI's folders, or a runner's), and how they are read."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError

MOST_PIXELS = 170_000_000
KINDS = ("input", "output", "temp")
AGAIN = "paint it again, or wire a mask"

Places = Callable[[str | None], tuple[Path, ...]]
_places: Places = lambda kind: (Path(),)  # noqa: E731


def set_places(places: Places) -> None:
    """Where masks are looked for without ComfyUI: places("input" | "output" | "temp" | None for unsaid) -> folders."""
    global _places
    _places = places


def find(name: str) -> Path:
    """The file of `editkit/name.png`, also with ` [input]`, ` [output]` or ` [temp]` behind it, as ComfyUI writes it.

    EditError for a name that leads out of those folders, and for a file that is not there.
    """
    plain, kind = _annotation(name)
    folders = _folders(kind)
    inside = [path for folder in folders if (path := _below(folder, plain)) is not None]
    if not inside:
        raise EditError(f"The painted mask {name!r} lies outside of the {kind or 'input'} folder; {AGAIN}.")
    for path in inside:
        if path.is_file():
            return path
    raise EditError(f"The painted mask {name!r} is not in the {kind or 'input'} folder any more; {AGAIN}.")


def _annotation(name: str) -> tuple[str, str | None]:
    """(the name, the folder that it names itself)."""
    for kind in KINDS:
        if name.endswith(f"[{kind}]"):
            return name.removesuffix(f"[{kind}]").rstrip(), kind
    return name, None


def _folders(kind: str | None) -> tuple[Path, ...]:
    if "folder_paths" not in sys.modules:
        return tuple(path.absolute() for path in _places(kind))
    import folder_paths

    return (Path(folder_paths.get_directory_by_type(kind or "input")).absolute(),)


def _below(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, or None when the name leads out of it. Links in the folder may lead out."""
    if not name.strip() or "\0" in name:
        return None
    path = os.path.abspath(os.path.join(folder, name))
    try:
        inside = os.path.commonpath((folder, path)) == str(folder) and path != str(folder)
    except ValueError:  # another drive
        return None
    return Path(path) if inside else None


def digest(name: str) -> str:
    """SHA-256 of the file, so that a node runs again when it was painted over. EditError as in `find`."""
    return hashlib.sha256(find(name).read_bytes()).hexdigest()


def read(name: str) -> Tensor:
    """The mask [1, h, w], 0..1: a picture's luminance, less where it is transparent.

    EditError as in `find`, for a file that is no picture or damaged, and for one over 170 megapixels.
    """
    from PIL import Image, UnidentifiedImageError

    path = find(name)
    try:
        with Image.open(path) as image:
            _check_size(name, *image.size)
            return torch.from_numpy(_strength(image))[None]
    except EditError:
        raise
    except (Image.DecompressionBombError, MemoryError) as problem:
        raise EditError(f"The painted mask {name!r} is too large to be read; scale it down.") from problem
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as problem:
        raise EditError(f"The painted mask {name!r} is damaged or no picture; {AGAIN}.") from problem


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise EditError(
            f"The painted mask {name!r} has {width}x{height} pixels, more than {MOST_PIXELS // 10**6} million; "
            "scale it down."
        )


def _strength(image):
    """A Pillow image as float32 [h, w], 0..1, turned as its camera was held."""
    import numpy
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return numpy.asarray(image).astype(numpy.float32) / 65535
    opacity = 1.0
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        opacity = numpy.asarray(image.getchannel("A")).astype(numpy.float32) / 255
        image = image.convert("RGB")
    return numpy.asarray(image.convert("L")).astype(numpy.float32) / 255 * opacity
