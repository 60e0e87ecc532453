"""Pictures for looking at: PNGs in ComfyUI's temp folder, or in the headless runner's; the server and the runner list
them by the keys of a node's ui outputs."""

import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...models import files
from ...models.errors import EditError

QUICK = 1  # PNG's compression, as core's previews have it
_folder: Callable[[], Path] = lambda: Path(tempfile.gettempdir()) / "editkit"  # noqa: E731


def set_folder(folder: Callable[[], Path]) -> None:
    """Where previews go when there is no ComfyUI."""
    global _folder
    _folder = folder


def metadata(prompt, extra_pnginfo: Mapping | None) -> dict:
    """What a PNG carries so that dropping it on the canvas restores the workflow; nothing where the user forbids it."""
    if "comfy.cli_args" in sys.modules and sys.modules["comfy.cli_args"].args.disable_metadata:
        return {}
    return ({} if prompt is None else {"prompt": prompt}) | dict(extra_pnginfo or {})


def save(images: Tensor, name: str, texts: Mapping | None = None) -> list[dict]:
    """Writes [b, h, w, 3 or 4] in 0..1 as 8-bit PNGs: {filename, subfolder, type} of each, as a ui output has them.

    Each name is new, so that no browser shows an older picture. EditError when the folder cannot be written to.
    """
    folder, mark = _place(), uuid.uuid4().hex[:10]
    shown = []
    for number, image in enumerate(images):
        path = folder / f"EditKit_{name}_{mark}_{number + 1:05}_.png"
        _write(path, image, texts or {})
        shown.append({"filename": path.name, "subfolder": "", "type": "temp"})
    return shown


def _place() -> Path:
    if "folder_paths" not in sys.modules:
        return _folder()
    import folder_paths

    return Path(folder_paths.get_temp_directory())


def _write(path: Path, image: Tensor, texts: Mapping) -> None:
    """One PNG, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    values = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    info = PngInfo()
    for key, value in texts.items():
        info.add_text(key, json.dumps(value))
    try:
        files.write(path, lambda file: Image.fromarray(values).save(file, "PNG", pnginfo=info, compress_level=QUICK))
    except OSError as problem:
        said = problem.strerror or problem
        raise EditError(f"The preview {path} could not be written ({said}); make room there.") from None
