"""Where the user keeps weights: the `editkit` key of ComfyUI's model folders."""

import sys
from pathlib import Path

from ...models.errors import EditError

KEY = "editkit"
PACK = Path(__file__).resolve().parents[2]
SUFFIXES = {".safetensors"}


def register() -> None:
    """Adds models/editkit to ComfyUI's folders; a user's extra_model_paths.yaml may add more to the same key."""
    if "folder_paths" not in sys.modules:
        return
    import folder_paths

    known, _ = folder_paths.folder_names_and_paths.get(KEY, ([], set()))
    own = str(Path(folder_paths.models_dir) / KEY)
    paths = known if own in known else [*known, own]
    folder_paths.folder_names_and_paths[KEY] = (paths, set(SUFFIXES))


def roots() -> list[Path]:
    """The folders in which models are looked for. Without ComfyUI: models/editkit beside the pack's parent, which is
    where a ComfyUI with the pack in its custom_nodes keeps them, and below the current folder."""
    if "folder_paths" in sys.modules:
        import folder_paths

        register()
        return [Path(p) for p in folder_paths.get_folder_paths(KEY)]
    return list(dict.fromkeys(base / "models" / KEY for base in (PACK.parent.parent, Path.cwd())))


def model_folders() -> dict[str, Path]:
    """Name -> folder of every model folder (one with a config.json), by its path below the root."""
    found: dict[str, Path] = {}
    for root in roots():
        for config in sorted(root.glob("**/config.json")) if root.is_dir() else []:
            found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    found.pop(".", None)
    return found


def model_folder(name: str) -> Path:
    """The folder of that name. EditError naming where models are looked for."""
    found = model_folders()
    if name not in found:
        looked = " or ".join(str(r) for r in roots())
        raise EditError(
            f"There is no model {name!r}; put its folder (config.json and .safetensors) into {looked}."
        )
    return found[name]
