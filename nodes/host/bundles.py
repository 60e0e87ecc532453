"""Mobile bundles on this machine: where they lie, and the engine that runs a BlazeEdit: torch, or LiteRT."""

import logging
import os
import sys
from pathlib import Path

from ...models import files
from ...models.errors import EditError
from ...models.mobile import manifest, packages
from .devices import Managed, in_comfyui, load_device
from .folders import roots

ENGINES = ["auto", "torch", "litert"]
FOLDER = "mobile"  # below models/editkit
_told: set[str] = set()
_loaded: dict[tuple, Managed] = {}


def cache() -> Path:
    """EditKit's folder in the user's cache."""
    return files.of_user(files.CACHE)


def home() -> Path:
    """Where new bundles go: models/editkit/mobile of ComfyUI, or the user's cache without one."""
    first = roots()[0]
    belongs = in_comfyui() or (first.parent.parent / "folder_paths.py").is_file()
    return (first if belongs else cache()) / FOLDER


def found() -> dict[str, Path]:
    """Name -> folder of every bundle below the editkit model folders and the user's cache."""
    out: dict[str, Path] = {}
    for root in [*roots(), cache()]:
        for path in sorted(root.glob(f"**/{manifest.NAME}")) if root.is_dir() else []:
            name = path.parent.relative_to(root).as_posix()
            if not any(part.startswith(".") for part in path.parent.relative_to(root).parts):
                out.setdefault(name.removeprefix(f"{FOLDER}/"), path.parent)
    out.pop(".", None)
    return out


def folder(name: str) -> Path:
    """The bundle of that name, or at that path. EditError naming where bundles are looked for."""
    known = found()
    if name in known:
        return known[name]
    path = Path(os.path.expanduser(name))
    if (path / manifest.NAME).is_file():
        return path
    raise EditError(
        f"There is no bundle {name!r}; make one with `python . export`, which puts it into {home()}."
    )


def load(path: Path, threads: int = 0) -> Managed:
    """A bundle, its manifest and hashes checked, in the place of a model. One that has changed is loaded again."""
    from ...models.mobile.runtime import BundleModel

    packages.litert()
    stamp = (path / manifest.NAME).stat() if (path / manifest.NAME).is_file() else None
    key = (str(path), threads, stamp and (stamp.st_mtime_ns, stamp.st_size))
    if key not in _loaded:
        for old in [k for k in _loaded if k[:2] == key[:2]]:
            del _loaded[old]
        checked = manifest.read(path)
        manifest.check_files(path, checked)
        _loaded[key] = Managed(BundleModel(path, checked, threads=threads or None))
    return _loaded[key]


def choose(engine: str, weights_sha256: str) -> Path | None:
    """The bundle that runs these weights, or None for torch. Says once which engine it is.

    auto: the int8 bundle where there is no GPU, LiteRT is installed and `python . export` has made one of the same
    weights. litert: any bundle of these weights, int8 first; EditError when there is none.
    """
    if engine not in ENGINES:
        raise EditError(f"The engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    if engine == "torch":
        return None
    if engine == "auto" and (load_device().type != "cpu" or not packages.can_run()):
        say(f"BlazeEdit runs with torch ({load_device().type}).")
        return None
    if engine == "litert":
        packages.litert()
    fitting = [path for path, kind in _fitting(weights_sha256) if kind == "int8" or engine == "litert"]
    found = next((path for path in fitting if _loads(path)), None)
    if engine == "litert" and found is None:
        raise EditError(
            "There is no bundle of these weights to run with LiteRT; make one with `python . export`."
        )
    say("BlazeEdit runs with torch (cpu)." if found is None else f"BlazeEdit runs with LiteRT ({found}).")
    return found


def _loads(path: Path) -> bool:
    """Whether a bundle is whole; checked once, until its manifest changes."""
    try:
        load(path)
        return True
    except EditError as problem:
        say(f"The bundle {path} is passed over: {problem}")
        return False


def _fitting(weights_sha256: str) -> list[tuple[Path, str]]:
    """Bundles of these weights with their quantisation, int8 first; damaged ones are passed over."""
    out = []
    for path in found().values():
        try:
            data = manifest.read(path).data
        except EditError as problem:
            say(f"The bundle {path} is passed over: {problem}")
            continue
        if data["model"]["weights_sha256"] == weights_sha256:
            out.append((path, data["quantisation"]))
    return sorted(out, key=lambda pair: pair[1] != "int8")


def say(text: str, level: int = logging.INFO, once: bool = True) -> None:
    """Tells the user, of what does not change only once: in ComfyUI's log, or on the terminal."""
    if once and text in _told:
        return
    _told.add(text)
    if in_comfyui():
        logging.getLogger("EditKit").log(level, text)
    else:
        print(text, file=sys.stderr, flush=True)
