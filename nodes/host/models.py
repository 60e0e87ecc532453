"""BlazeEdit models, loaded once per process and kept as long as somebody may need them."""

from pathlib import Path

import torch

from ...models.blazeedit import checkpoint
from . import bundles
from .devices import Managed, managed, offload_device, operations
from .folders import model_folder

SHIPPED = "shipped"
_loaded: dict[tuple, Managed] = {}
_digests: dict[tuple, str] = {}


def blazeedit(name: str = SHIPPED, engine: str = "torch") -> Managed:
    """The model of that name (a folder below models/editkit), or the one that ships with the pack.

    engine: "torch", "litert" (a bundle of the same weights), or "auto" (the faster one here). A folder whose files
    have changed is loaded again. EditError for a missing or broken one.
    """
    folder = checkpoint.SHIPPED if name == SHIPPED else model_folder(name)
    bundle = bundles.choose(engine, _digest(folder)) if engine != "torch" else None
    if bundle is not None:
        return bundles.load(bundle)
    key = (str(folder), fingerprint(folder))
    if key not in _loaded:
        for old in [k for k in _loaded if k[0] == key[0]]:
            del _loaded[old]
        model = checkpoint.load(folder, device=offload_device(), dtype=torch.float32, operations=operations())
        _loaded[key] = managed(model, folder)
    return _loaded[key]


def _digest(folder: Path) -> str:
    """`checkpoint.digest`, worked out again only when the files have changed."""
    key = (str(folder), fingerprint(folder))
    if key not in _digests:
        _digests[key] = checkpoint.digest(folder)
    return _digests[key]


def fingerprint(folder: Path) -> tuple:
    """Names, sizes and times of a model folder's files: changes when they do."""
    files = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".json"))
    return tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files)
