"""Finds a ComfyUI checkout and the interpreter to run it with, or says in one line why there is none."""

import os
from pathlib import Path
from typing import NamedTuple


class Checkout(NamedTuple):
    """A ComfyUI to test against."""

    folder: Path
    python: Path


class NoComfyUI(Exception):
    """One line: what is missing and how to give it."""


def find(environ: dict, pack: Path, home: Path) -> Checkout:
    """Looks at COMFYUI_PATH, then above the pack when it lies in a custom_nodes/, then in ~/comfy/ComfyUI.

    The interpreter is COMFYUI_PYTHON, else the one of the checkout's .venv. NoComfyUI when either is missing.
    """
    folder = _folder(environ, pack, home)
    if folder is None:
        raise NoComfyUI("no ComfyUI checkout: set COMFYUI_PATH, or clone it to ~/comfy/ComfyUI")
    named = environ.get("COMFYUI_PYTHON")
    own = [folder / ".venv/bin/python", folder / ".venv/Scripts/python.exe"]
    for python in [Path(named)] if named else own:
        if python.is_file():
            return Checkout(folder, python)
    raise NoComfyUI(f"no interpreter for {folder}: set COMFYUI_PYTHON, or make {own[os.name == 'nt']}")


def _folder(environ: dict, pack: Path, home: Path) -> Path | None:
    """The first candidate that holds a main.py; a COMFYUI_PATH that was set is the only candidate."""
    if environ.get("COMFYUI_PATH"):
        candidates = [Path(environ["COMFYUI_PATH"])]
    else:
        above = [pack.parent.parent] if pack.parent.name == "custom_nodes" else []
        candidates = [*above, home / "comfy" / "ComfyUI"]
    return next((c for c in candidates if (c / "main.py").is_file()), None)
