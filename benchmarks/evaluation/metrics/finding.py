"""Where metric models are looked for: --models, then the `editkit` folders of ComfyUI's models."""

from pathlib import Path

from ....nodes.host.folders import roots


def places(models: Path | None) -> list[Path]:
    """The folders, in their order."""
    return ([models] if models else []) + roots()


def home(models: Path | None) -> Path:
    """Where a missing model is to be put: --models, or a ComfyUI's models/editkit, or the one below this folder."""
    return models or next((root for root in roots() if root.parent.is_dir()), roots()[-1])


def folder(name: str, models: Path | None) -> Path | None:
    """The transformers folder of that name (one with a config.json), at any depth."""
    for place in places(models):
        for config in sorted(place.glob(f"**/{name}/config.json")) if place.is_dir() else ():
            return config.parent
    return None


def file(pattern: str, places: list[Path]) -> Path | None:
    """The first file that a name's pattern fits, at any depth."""
    for place in places:
        for path in sorted(place.glob(f"**/{pattern}")) if place.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                return path
    return None
