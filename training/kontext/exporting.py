"""`train kontext export`: the averages as the file that ComfyUI loads, a diffusers folder, or a LoRA's file."""

import argparse
import json
from pathlib import Path

from torch import Tensor

from ...models.errors import EditError
from ...models.kontext import names
from ..prepared import TYPES
from ..store import Store, write_weights
from . import adapters, flux, running
from .stages import STAGES

WEIGHTS = "diffusion_pytorch_model.safetensors"  # as diffusers calls it


def export(arguments: argparse.Namespace, store: Store) -> dict:
    """Writes what was trained last, or the named stage. Returns where. EditError for no trained stage, and for a LoRA
    that cannot be merged."""
    card = running.card_of(store)
    stage, kind = _trained(store, arguments.trained)
    dtype, told = TYPES[arguments.dtype], {"stage": stage, "recipe": json.dumps(card["recipes"][stage])}
    if kind == "lora" and not arguments.merge:
        state = adapters.to_file(store.read_part(f"{stage}_lora"), _choice(card, stage))
        path = _out(arguments, store, f"kontext_{stage}_lora.safetensors")
        write_weights(path, state, dtype, told)
    else:
        state = _weights(arguments, store, card, stage, kind)
        path = _write_model(arguments, store, card["stages"][stage], stage, state, told)
    megabytes = sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir())) / 1e6
    return {"written": str(path), "stage": stage, "kind": kind, "megabytes": megabytes}


def _trained(store: Store, wanted: str | None) -> tuple[str, str]:
    """The stage and whether it left a transformer or a LoRA."""
    for stage in [wanted] if wanted else reversed(STAGES):
        for kind in ("lora", "transformer"):
            if store.has(f"{stage}_{kind}"):
                return stage, kind
    raise EditError(f"{store.root} holds no trained {wanted or 'stage'}; train it first, and name the same --state.")


def _choice(card: dict, stage: str) -> adapters.Choice:
    noted = card["lora"][stage]
    return adapters.Choice(noted["rank"], noted["alpha"], tuple(noted["targets"]))


def _weights(arguments, store: Store, card: dict, stage: str, kind: str) -> dict[str, Tensor]:
    """The transformer's, under diffusers' names; of a LoRA what it was trained on, with it added."""
    if kind == "transformer":
        return store.read_part(f"{stage}_transformer")
    model = arguments.model or card["model"]
    if not model:
        raise EditError("The LoRA was trained on weights at random, so there is nothing to merge it with.")
    _, base = flux.read(model)
    return adapters.merged(base, store.read_part(f"{stage}_lora"), _choice(card, stage))


def _write_model(arguments, store: Store, config: dict, stage: str, state: dict[str, Tensor], told: dict) -> Path:
    if arguments.layout == "comfyui":
        path = _out(arguments, store, f"kontext_{stage}.safetensors")
        write_weights(path, names.to_bfl(state), TYPES[arguments.dtype], told)
        return path
    folder = _out(arguments, store, f"kontext_{stage}")
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps({"_class_name": "FluxTransformer2DModel"} | config, indent=2, sort_keys=True)
    (folder / flux.CONFIG).write_text(written + "\n", encoding="utf-8")
    write_weights(folder / WEIGHTS, state, TYPES[arguments.dtype], {"format": "pt"})
    return folder


def _out(arguments, store: Store, usual: str) -> Path:
    return Path(arguments.out).expanduser() if arguments.out else store.root / "export" / usual
