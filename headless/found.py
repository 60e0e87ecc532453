"""What `doctor` finds of the parts that systems share: FLUX.1, judges and faces, mobile bundles, the front end."""

import re
from pathlib import Path

from .doctor import header, installed

FLUX_INPUTS = {64: "FLUX.1", 384: "FLUX.1 Fill, for ICEdit"}  # channels that the first layer takes
COMPANIONS = {
    "text_encoders": ("clip_l", "t5xxl"),
    "vae": ("ae",),
}
OLD_NAMES = {"diffusion_models": "unet", "text_encoders": "clip"}  # ComfyUI still reads these folders


def flux(comfy: Path | None) -> list[str]:
    """Lines on FLUX.1's transformers, text encoders and VAE below ComfyUI's models; Kontext and ICEdit need them."""
    if comfy is None:
        return ["  no ComfyUI, which runs it"]
    lines = [line for path in _files(comfy, "diffusion_models") if (line := _transformer(path))]
    for folder, parts in COMPANIONS.items():
        there = [path.name for path in _files(comfy, folder)]
        lines += [_companion(folder, part, there) for part in parts] if lines else []
    return lines or ["  no transformer in models/diffusion_models; only Kontext and ICEdit need one (README, Hardware)"]


def _files(comfy: Path, folder: str) -> list[Path]:
    """Weight files of a models folder, also under its old name. Those of extra_model_paths.yaml are not looked for."""
    roots = [comfy / "models" / name for name in (folder, OLD_NAMES.get(folder)) if name]
    paths = [p for root in roots if root.is_dir() for p in sorted(root.rglob("*"))]
    return [p for p in paths if p.suffix in (".safetensors", ".gguf", ".sft") and not p.name.startswith("._")]


def _transformer(path: Path) -> str | None:
    """A line on a FLUX.1 transformer, None for another network. GGUF files are known by their name alone."""
    if path.suffix == ".gguf":
        return f"  {path}\n    FLUX.1 by its name (GGUF)" if "flux" in path.name.lower() else None
    try:
        entries = header(path)
    except (OSError, ValueError, KeyError, TypeError):
        return f"  {path}\n    cannot be read; fetch it again" if "flux" in path.name.lower() else None
    first = next((e for name, e in entries.items() if name.endswith("img_in.weight")), None)
    kind = FLUX_INPUTS.get(first["shape"][-1]) if first and "double_blocks" in " ".join(entries) else None
    if kind == "FLUX.1":
        kind += " Kontext by its name" if "kontext" in path.name.lower() else ", text to image by its name"
    return f"  {path}\n    {kind}" if kind else None


def _companion(folder: str, part: str, there: list[str]) -> str:
    found = [name for name in there if re.match(rf"{part}\b|{part}_|{part}\.", name)]
    return f"  models/{folder}: {', '.join(found) or f'no {part}; FLUX.1 needs it'}"


def judges(folders: list[Path]) -> list[str]:
    """Lines on the models that judge edits and on those that compare faces, below the `editkit` folders."""
    from ..nodes.host import folders as hosts

    lines = []
    for config in sorted(p for root in folders if root.is_dir() for p in root.glob("**/config.json")):
        kind = hosts.vision_kind(config)
        if kind:
            lines.append(f"  {config.parent}\n    {'CLIP' if kind == 'clip' else 'a vision-language model'}")
    beside = [*folders, *(root.parent / "insightface" for root in folders)]
    faces = [p for root in beside if root.is_dir() for p in sorted(root.glob("**/*.onnx")) if p.name[0] != "."]
    runs = "" if installed("onnxruntime") else "; onnxruntime, which runs it, is not installed here"
    lines += [f"  {path}\n    an ONNX network{runs}" for path in faces]
    return lines or ["  none found; only judging and face similarity need them (help pages of the judges, Drift Meter)"]


def bundles() -> list[str]:
    """Lines on mobile bundles, and on what runs them."""
    from ..nodes.host import bundles as hosts

    runs = installed("ai-edge-litert")
    lines = [f"  {name}: {folder}" for name, folder in hosts.found().items()]
    lines.append(f"  ai-edge-litert {runs}" if runs else "  ai-edge-litert, which runs bundles, is not installed here")
    return lines if len(lines) > 1 else ["  no bundle found (`python . export` makes one)", *lines]


def front_end(comfy: Path) -> str:
    """The installed front end of a ComfyUI: that of its own .venv, else that of this Python."""
    for place in ("lib/python*/site-packages", "Lib/site-packages"):
        for folder in comfy.glob(f".venv/{place}/comfyui_frontend_package-*.dist-info"):
            return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return installed("comfyui-frontend-package") or "of unknown version"
