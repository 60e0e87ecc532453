"""The photos of a folder, and the mask that belongs to each."""

from pathlib import Path

from . import pictures
from .errors import EditError


def listed(folder: Path, masks: Path | None = None) -> list[Path]:
    """The photos of a folder by name; without NAME_mask files where masks lie in the same folder.

    EditError for a folder that is not there, or holds none.
    """
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in pictures.SUFFIXES and p.is_file())
    except OSError as problem:
        raise EditError(f"There is no folder {folder} to read photos from ({problem.strerror}).") from problem
    if masks is not None and masks.is_dir() and masks.resolve() == folder.resolve():
        found = [p for p in found if not p.stem.endswith("_mask")]
    if not found:
        raise EditError(f"There are no photos in {folder}.")
    return found


def mask_for(photo: Path, masks: Path) -> Path:
    """The mask of a photo in a folder: of the same name, or NAME_mask, in any picture format."""
    names = [f"{photo.stem}_mask{s}" for s in pictures.SUFFIXES] + [
        f"{photo.stem}{s}" for s in pictures.SUFFIXES
    ]
    found = [masks / name for name in names if (masks / name).is_file() and (masks / name) != photo]
    return found[0] if found else masks / f"{photo.stem}.png"
