"""ICEdit's LoRA files in ComfyUI's `loras` folders: read, and written whole or not at all."""

from pathlib import Path

from ...models import files
from ...models.errors import EditError
from ...models.icedit import lora
from . import folders

SUFFIX = ".safetensors"


def read(name: str, chosen: int = 1) -> lora.Lora:
    """A file taken apart. chosen: experts per token. EditError for a file cut off, and for another kind of LoRA."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = folders.lora(name)
    try:
        state = load_file(path)
        with safe_open(path, "pt") as opened:
            routing = (opened.metadata() or {}).get(lora.ROUTING)
    except (SafetensorError, OSError, ValueError):
        raise EditError(f"{path.name} is no whole .safetensors file; download it again.") from None
    try:
        return lora.parse(state, chosen, routing)
    except EditError as problem:
        raise EditError(f"{path.name} cannot be used as ICEdit's LoRA. {problem}") from None


def write_mean(name: str) -> Path:
    """Writes a mixture's mean as a plain LoRA beside it, NAME_mean.safetensors. EditError without experts."""
    path = folders.lora(name)
    found = read(name)
    if not found.experts:
        raise EditError(f"{path.name} has no experts; it is a plain LoRA already.")
    made = path.with_name(f"{path.stem}_mean{SUFFIX}")
    state = lora.plain_state(lora.averaged(found))
    try:
        files.save_tensors(made, state, {"made_of": path.name})
    except OSError as problem:
        raise EditError(f"{made} could not be written: {problem.strerror or problem}.") from None
    return made
