"""LoRA files of EditMGT's trainers on a MODEL."""

from . import editmgt, folders

PARTS = {"as trained": None, "all tokens": "all", "reference": "reference"}


def add(model, name: str, strength: float, part: str):
    """A clone of a MODEL that wears the LoRA file of that name below the `loras` folders.

    part: of PARTS; as trained is what the lora_config.json beside the file says, all tokens without one. EditError for
    a missing, foreign or damaged file, and for one that does not fit the MODEL.
    """
    from ...models.editmgt import checkpoint, lora, worn  # the networks' code, only when one is loaded

    net, path = editmgt.module(model), folders.lora(name)
    made = worn.Worn(lora.read(path), strength, PARTS[part] or lora.part(path), checkpoint.trained_time(path.parent))
    return editmgt.wearing(model, worn.fitting(net.diffusion_model, made))


def fingerprint(name: str) -> tuple:
    """Changes when the file does."""
    stat = folders.lora(name).stat()
    return stat.st_mtime_ns, stat.st_size
