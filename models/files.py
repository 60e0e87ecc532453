"""Files that are either whole or not there, and where a system keeps what belongs to a user."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

PART = ".part"
SETTINGS, CACHE = "settings", "cache"
# Windows' variable and its usual folder, macOS' folder, XDG's variable and its usual folder; below the home folder.
PLACES = {
    SETTINGS: ("APPDATA", "AppData/Roaming", "Library/Application Support", "XDG_CONFIG_HOME", ".config"),
    CACHE: ("LOCALAPPDATA", "AppData/Local", "Library/Caches", "XDG_CACHE_HOME", ".cache"),
}


@contextlib.contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[Path]:
    """A new, empty file in the same folder, which is made where it is missing; at the end of the `with` it takes the
    place of `path` in one step.

    Whatever ends the `with` otherwise (an error, Ctrl-C), an older file of that name stays as it was and nothing
    half-written is left; what a kill leaves is called `.NAME….part`. private: for this user alone, from the start.
    OSError when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{hidden(path)}{os.urandom(6).hex()}{PART}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    mode = part.stat().st_mode
    try:
        yield part
        part.chmod(mode)  # safetensors 0.8 puts a file of its own here, which nobody else may read
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def write(path: Path, content: bytes | str | Callable[[BinaryIO], object], private: bool = False) -> Path:
    """Writes a file whole or not at all: bytes, text as UTF-8, or what content(file) writes. OSError as replacing."""
    with replacing(path, private) as part, part.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
    return path


def save_tensors(path: Path, state: Mapping[str, "Tensor"], told: Mapping[str, str] | None = None) -> Path:
    """Writes a safetensors file whole or not at all. told: metadata beside {"format": "pt"}. OSError as replacing."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as part:
        try:
            save_file(tensors, part, {"format": "pt", **(told or {})})
        except SafetensorError as problem:  # of a full disk, without its number
            raise OSError(str(problem)) from problem
    return path


def hidden(path: Path) -> str:
    """How the names of a file's unfinished forms begin."""
    return f".{path.name[:40]}."


def of_user(kind: str) -> Path:
    """EditKit's folder among the user's SETTINGS or CACHE, as the platform has them."""
    windows, roaming, library, xdg, dotted = PLACES[kind]
    if sys.platform == "darwin":
        return Path.home() / library / "editkit"
    named, usual = (windows, roaming) if sys.platform == "win32" else (xdg, dotted)
    return Path(os.environ.get(named) or Path.home() / usual) / "editkit"
