"""Where the user keeps weights: the `editkit` key of ComfyUI's model folders."""

import json
import sys
from pathlib import Path

from ...models.errors import EditError

KEY = "editkit"
PACK = Path(__file__).resolve().parents[2]
SUFFIXES = {".safetensors"}
# Keys by which diffusers, transformers and EditMGT's transformer are known.
ANOTHERS = {"_class_name", "block_out_channels", "model_type", "architectures", "num_single_layers"}


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
    """Name -> folder of every BlazeEdit folder (one with its config.json), by its path below the root."""
    found: dict[str, Path] = {}
    for root in roots():
        for config in sorted(root.glob("**/config.json")) if root.is_dir() else []:
            if _is_anothers(config):
                continue
            found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    found.pop(".", None)
    return found


def _is_anothers(config: Path) -> bool:
    """Whether a config.json is a diffusers or transformers network's: a part of SwiftEdit's or EditMGT's release."""
    try:
        data = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # a damaged one is named when it is loaded
    return isinstance(data, dict) and not ANOTHERS.isdisjoint(data)


def model_folder(name: str) -> Path:
    """The folder of that name. EditError naming where models are looked for."""
    found = model_folders()
    if name not in found:
        looked = " or ".join(str(r) for r in roots())
        raise EditError(
            f"There is no model {name!r}; put its folder (config.json and .safetensors) into {looked}."
        )
    return found[name]


def release_roots() -> list[Path]:
    """Where SwiftEdit's release may lie: the `editkit` folders, and ComfyUI's `diffusion_models`."""
    if "folder_paths" not in sys.modules:
        return roots()
    import folder_paths

    return [*roots(), *(Path(p) for p in folder_paths.get_folder_paths("diffusion_models"))]


def releases() -> dict[str, Path]:
    """Name -> folder of everything below those roots that holds a SwiftEdit release or a part of it."""
    from ...models.swiftedit import checkpoint as swiftedit

    found: dict[str, Path] = {}
    for root in release_roots():
        for part in swiftedit.parts(root):
            top = part.relative_to(root).parts[0]
            found.setdefault(top, root / top)
    return dict(sorted(found.items()))


def release_folder(name: str) -> Path:
    """The SwiftEdit folder of that name. EditError naming where it is looked for."""
    from ...models.swiftedit import checkpoint as swiftedit

    found = releases()
    if name not in found:
        where = release_roots()[0] / (name or "swiftedit")
        raise EditError(
            f"There is no SwiftEdit folder {name!r}; put the release ({swiftedit.EXPECTED}) into {where}."
        )
    return found[name]


def editmgt_folders() -> dict[str, Path]:
    """Name -> folder of everything below the `editkit` folders that holds EditMGT's or Meissonic's release in part."""
    # it brings the networks, whose code no import of the pack needs
    from ...models.editmgt import checkpoint as editmgt

    return dict(sorted((folder.name, folder) for root in reversed(roots()) for folder in editmgt.folders(root)))


def editmgt_folder(name: str) -> Path:
    """The EditMGT folder of that name. EditError naming where it is looked for."""
    from ...models.editmgt import checkpoint as editmgt

    found = editmgt_folders()
    if name not in found:
        where = roots()[0] / (name or "editmgt")
        raise EditError(f"There is no EditMGT folder {name!r}; put the release ({editmgt.EXPECTED}) into {where}.")
    return found[name]


def lora_roots() -> list[Path]:
    """The folders in which LoRAs are looked for: ComfyUI's `loras`, or models/loras beside the `editkit` folders."""
    if "folder_paths" not in sys.modules:
        return [root.parent / "loras" for root in roots()]
    import folder_paths

    return [Path(p) for p in folder_paths.get_folder_paths("loras")]


def loras() -> list[str]:
    """Every LoRA by its path below its root; in ComfyUI from its own list, which it keeps in memory."""
    if "folder_paths" not in sys.modules:
        found = {p.relative_to(r).as_posix() for r in lora_roots() for p in r.glob("**/*") if p.is_file()}
    else:
        import folder_paths

        found = {name.replace("\\", "/") for name in folder_paths.get_filename_list("loras")}
    return sorted(n for n in found if Path(n).suffix in SUFFIXES and not Path(n).name.startswith("._"))


def lora(name: str) -> Path:
    """The LoRA of that name; either slash will do. EditError naming where it is looked for."""
    name = name.replace("\\", "/")
    if name in loras():
        return next(root / name for root in lora_roots() if (root / name).is_file())
    looked = " or ".join(map(str, lora_roots()))
    raise EditError(f"There is no LoRA {name!r}; put its .safetensors, and what lies beside it, into {looked}.")


def vision_folders(kind: str) -> dict[str, Path]:
    """Name -> folder, below the `editkit` folders, of transformers models that judge pictures.

    kind: "clip", or "chat" for vision-language models.
    """
    found: dict[str, Path] = {}
    for root in roots():
        for config in sorted(root.glob("**/config.json")) if root.is_dir() else []:
            if vision_kind(config) == kind and config.parent != root:
                found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    return found


def vision_kind(config: Path) -> str | None:
    """What a transformers folder holds: "clip", "chat", or something else."""
    try:
        data = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or "vision_config" not in data:
        return None
    if data.get("model_type") == "clip":
        return "clip"
    talks = any("Generation" in str(name) for name in data.get("architectures") or [])
    return "chat" if talks else None


def vision_folder(name: str, kind: str) -> Path:
    """The judge's folder of that name. EditError naming where it is looked for."""
    found = vision_folders(kind)
    if name not in found:
        what = {"clip": "a CLIP", "chat": "a vision-language model such as Qwen2.5-VL"}[kind]
        where = roots()[0] / (name or "judge")
        raise EditError(f"There is no judge {name!r}; put {what} in transformers' format into {where}.")
    return found[name]
