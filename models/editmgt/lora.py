"""LoRA files of the official trainer: `unet._orig_mod.<module>.lora_A.weight`, with lora_config.json beside them."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EditError
from . import files

CONFIG = "lora_config.json"
PREFIXES = ("base_model.", "model.", "unet.", "transformer.", "diffusion_model.", "_orig_mod.", "module.")
PART = re.compile(r"(.+)\.(lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)(?:\.[A-Za-z]\w*)??\.weight")
DOWN = ("lora_A", "lora_down", "lora.down")


@dataclass(frozen=True)
class Lora:
    """W + scale · B·A of one module. A: [r, in], B: [out, r]."""

    A: Tensor
    B: Tensor
    scale: float = 1.0


def read(path: Path | str) -> dict[str, Lora]:
    """The LoRAs of a file, or of a folder with one, by the names of the transformer's modules.

    EditError, in one sentence, for a file that is missing, corrupt, or no LoRA of a transformer.
    """
    path = _file(Path(path))
    config = path.parent / CONFIG
    settings = files.read_json(config) if config.is_file() else {}
    try:
        return parse(files.read_file(path), settings)
    except EditError as error:
        raise error if str(path) in str(error) else EditError(f"{path}: {error}") from None


def part(path: Path | str) -> str:
    """On what a LoRA was trained, "all" tokens or the "reference" alone, by the lora_config.json beside its file."""
    config = _file(Path(path)).parent / CONFIG
    return "reference" if config.is_file() and files.read_json(config).get("lora_part_enable") else "all"


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = files.here(path, "*.safetensors")
    if len(found) != 1:
        raise EditError(f"{path} holds {len(found)} .safetensors files; choose the one with the LoRA.")
    return found[0]


def parse(state: dict[str, Tensor], settings: dict | None = None) -> dict[str, Lora]:
    """Takes a LoRA's state dict apart. settings: r and alpha (or lora_alpha) of lora_config.json; alpha = r without.

    EditError for a tensor that is none of a LoRA's, and for a half whose other half lacks or has another rank.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, value in state.items():
        if name.endswith(".alpha"):
            alphas[module_name(name.removesuffix(".alpha"))] = float(value)
        elif found := PART.fullmatch(name):
            halves.setdefault(module_name(found[1]), {})["A" if found[2] in DOWN else "B"] = value
        else:
            raise EditError(
                f"{name!r} is no weight of a LoRA; names end in .lora_A.weight or .lora_B.weight."
            )
    if not halves:
        raise EditError("It holds no LoRA; names should end in .lora_A.weight and .lora_B.weight.")
    return {name: _one(name, pair, alphas.get(name), settings or {}) for name, pair in halves.items()}


def module_name(name: str) -> str:
    """A module's name in the transformer, without what trainers put before it."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _one(name: str, pair: dict[str, Tensor], alpha: float | None, settings: dict) -> Lora:
    if pair.keys() != {"A", "B"}:
        raise EditError(f"{name!r} has only one half of its LoRA; the file is incomplete.")
    down, up = pair["A"], pair["B"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise EditError(
            f"{name!r} has LoRA halves of {list(down.shape)} and {list(up.shape)}, which do not belong together."
        )
    rank, noted = len(down), settings.get("r")
    if noted not in (None, rank) and not settings.get("rank_pattern"):
        raise EditError(
            f"{name!r} has a LoRA of rank {rank}, and the {CONFIG} beside the file is of one of rank {noted}; keep "
            "each LoRA in a folder of its own."
        )
    alpha = alpha if alpha is not None else settings.get("lora_alpha", settings.get("alpha"))
    scale = 1.0 if alpha is None else float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)
    return Lora(down, up, scale)


def delta(lora: Lora, strength: float = 1.0) -> Tensor:
    """What a LoRA adds to its weight: [out, in] in float32."""
    return strength * lora.scale * (lora.B.float() @ lora.A.float())


def check(weights: dict[str, Tensor], loras: dict[str, Lora]) -> None:
    """EditError for a LoRA of a module that a transformer does not have, or has in another shape.

    weights: the transformer's, by the names of its modules.
    """
    for name, lora in loras.items():
        if name not in weights:
            raise EditError(f"The LoRA changes {name!r}, which this transformer does not have; it is another model's.")
        if tuple(weights[name].shape) != (len(lora.B), lora.A.shape[1]):
            raise EditError(
                f"The LoRA of {name!r} is for {len(lora.B)}x{lora.A.shape[1]} weights, and the transformer's are "
                f"{'x'.join(map(str, weights[name].shape))}; it is another model's."
            )


def merged(state: dict[str, Tensor], loras: dict[str, Lora], strength: float = 1.0) -> dict[str, Tensor]:
    """A transformer's state dict with LoRAs added to it, in its own precision; the given one stays as it is.

    EditError for a module that the transformer does not have, or has in another shape.
    """
    check({key.removesuffix(".weight"): value for key, value in state.items() if key.endswith(".weight")}, loras)
    out = dict(state)
    for name, lora in loras.items():
        key = f"{name}.weight"
        with torch.no_grad():
            change = delta(lora, strength).to(state[key].device)
            out[key] = (state[key].float() + change).to(state[key].dtype)
    return out
