"""ICEdit's two LoRA files, read by their keys: the plain one, and the mixture with experts and routers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import EditError
from .experts import Experts, mean

PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.")
PLAIN = re.compile(r"(.+)\.lora_(A|B)(?:\.default)?\.weight")
EXPERT = re.compile(r"(.+)\.lora_(A|B)\.expert_(\d+)\.weight")
ROUTER = re.compile(r"(.+)\.lora_route(?:\.default)?\.weight")
# what the official configuration trains, by diffusers' names
TARGETS = re.compile(
    r"x_embedder"
    r"|transformer_blocks\.\d+\.(norm1\.linear|attn\.to_[qkv]|attn\.to_out\.0|ff\.net\.2)"
    r"|single_transformer_blocks\.\d+\.(norm\.linear|proj_mlp|proj_out|attn\.to_[qkv])"
)
# in a file's metadata, where its gates are of the softmax over all experts; the released files have none
ROUTING, SOFTMAX_FIRST = "routing", "softmax-first"
MIXED = re.compile(r"transformer_blocks\.\d+\.ff\.net\.2|single_transformer_blocks\.\d+\.proj_out")


@dataclass(frozen=True)
class Lora:
    """A file's content by the layers of diffusers' Flux.

    plain: layer -> (A [r, in], B [out, r], scale); experts: layer -> its mixture.
    """

    plain: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    experts: dict[str, Experts] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The largest rank in the file."""
        return max([len(a) for a, _, _ in self.plain.values()] + [e.rank for e in self.experts.values()])

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """layer -> (out, in), as its LoRA or mixture has it."""
        shapes = {name: (len(up), down.shape[1]) for name, (down, up, _) in self.plain.items()}
        return shapes | {name: one.shape for name, one in self.experts.items()}


def parse(state: dict[str, Tensor], chosen: int = 1, routing: str | None = None) -> Lora:
    """Takes a LoRA's state dict apart; ranks and the number of experts are read back from the shapes.

    chosen: k, experts per token; the official file does not say and means 1. routing: the file's metadata under
    ROUTING. EditError for a tensor that is none of
    a LoRA's, for half a LoRA and for experts that do not belong together.
    """
    found: dict[str, dict] = {}
    for name, value in state.items():
        layer, part = _part(name)
        found.setdefault(layer, {})[part] = value
    if not any(parts.keys() != {"alpha"} for parts in found.values()):
        raise EditError("It holds no LoRA; names should end in .lora_A.weight and .lora_B.weight.")
    mixed = {name for name, parts in found.items() if any(isinstance(p, tuple) for p in parts) or "route" in parts}
    plain = {name: _plain(name, parts) for name, parts in found.items() if name not in mixed}
    experts = {name: _experts(name, found[name], chosen) for name in mixed}
    return Lora(plain, {k: replace(one, softmax_first=routing == SOFTMAX_FIRST) for k, one in experts.items()})


def _part(name: str) -> tuple[str, object]:
    """(layer, which part of its LoRA): "A", "B", ("A", 0), "route" or "alpha"."""
    short = name
    while prefix := next((p for p in PREFIXES if short.startswith(p)), None):
        short = short.removeprefix(prefix)
    if match := EXPERT.fullmatch(short):
        return match[1], (match[2], int(match[3]))
    if match := ROUTER.fullmatch(short):
        return match[1], "route"
    if match := PLAIN.fullmatch(short):
        return match[1], match[2]
    if short.endswith(".alpha"):
        return short.removesuffix(".alpha"), "alpha"
    raise EditError(f"{name!r} is no weight of ICEdit's LoRA; names end in .lora_A.weight or .lora_B.weight.")


def _plain(name: str, parts: dict) -> tuple[Tensor, Tensor, float]:
    if not {"A", "B"} <= parts.keys():
        raise EditError(f"{name!r} has only one half of its LoRA; the file is incomplete, download it again.")
    down, up = parts["A"], parts["B"]
    _belong(name, down, up)
    return down, up, float(parts["alpha"]) / len(down) if "alpha" in parts else 1.0


def _experts(name: str, parts: dict, chosen: int) -> Experts:
    numbers = sorted({p[1] for p in parts if isinstance(p, tuple)})
    router = parts.get("route")
    complete = all((half, i) in parts for half in "AB" for i in numbers)
    if router is None or not complete or numbers != list(range(len(router))):
        raise EditError(
            f"{name!r} has experts {numbers} and a router for {0 if router is None else len(router)}; the file is "
            "incomplete, download it again."
        )
    downs, ups = ([parts[half, i] for i in numbers] for half in "AB")
    for down, up in zip(downs, ups, strict=True):
        _belong(name, down, up)
    if len({(d.shape, u.shape) for d, u in zip(downs, ups, strict=True)}) > 1 or router.shape[1] != downs[0].shape[1]:
        raise EditError(f"The experts of {name!r} have different shapes; they are not of one mixture.")
    if not 1 <= chosen <= len(numbers):
        raise EditError(f"{chosen} experts per token cannot be chosen of {len(numbers)}; choose 1 to {len(numbers)}.")
    scale = float(parts["alpha"]) / len(downs[0]) if "alpha" in parts else 1.0
    return Experts(torch.cat(downs), torch.cat(ups, dim=1), router, scale, chosen)


def _belong(name: str, down: Tensor, up: Tensor) -> None:
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise EditError(
            f"{name!r} has LoRA halves of {list(down.shape)} and {list(up.shape)}, which do not belong together."
        )


def foreign(lora: Lora, layers: dict[str, tuple[int, int]]) -> list[str]:
    """The layers of a LoRA that a network lacks or has in another shape. layers: name -> (out, in)."""
    return sorted(name for name, shape in lora.shapes.items() if layers.get(name) != shape)


def missing(lora: Lora, layers: Iterable[str]) -> list[str]:
    """The layers of a network that the official configuration trains and the LoRA does not have."""
    return sorted(name for name in layers if TARGETS.fullmatch(name) and name not in lora.shapes)


def flux_layers(double: int, single: int, hidden: int, inside: int, text: int) -> dict[str, tuple[int, int]]:
    """The layers of a Flux that a LoRA may change: diffusers' name -> (out, in). inside, text: numbers per token."""
    h, layers = hidden, {"x_embedder": (hidden, inside), "context_embedder": (hidden, text)}
    for i in range(double):
        block = f"transformer_blocks.{i}."
        for side, ff in (("norm1", "ff"), ("norm1_context", "ff_context")):
            layers[f"{block}{side}.linear"] = 6 * h, h
            layers |= {f"{block}{ff}.net.0.proj": (4 * h, h), f"{block}{ff}.net.2": (h, 4 * h)}
        names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        layers |= {f"{block}attn.{name}": (h, h) for name in names}
    for i in range(single):
        block = f"single_transformer_blocks.{i}."
        layers |= {f"{block}attn.{name}": (h, h) for name in ("to_q", "to_k", "to_v")}
        layers |= {f"{block}norm.linear": (3 * h, h), f"{block}proj_mlp": (4 * h, h), f"{block}proj_out": (h, 5 * h)}
    return layers


def averaged(lora: Lora) -> dict[str, tuple[Tensor, Tensor, float]]:
    """The file as a plain LoRA, its mixtures replaced by their means: layer -> (A, B, scale). Lossy."""
    return lora.plain | {name: (*mean(one), 1.0) for name, one in lora.experts.items()}


def plain_state(plain: dict[str, tuple[Tensor, Tensor, float]]) -> dict[str, Tensor]:
    """A plain LoRA's tensors by the names that diffusers and ComfyUI know."""
    state = {}
    for name, (down, up, scale) in plain.items():
        state |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
        if scale != 1:
            state[f"transformer.{name}.alpha"] = torch.tensor(scale * len(down))
    return state


def described(lora: Lora) -> str:
    """One line: what a file holds."""
    plain = f"{len(lora.plain)} plain layers of rank {max((len(a) for a, _, _ in lora.plain.values()), default=0)}"
    if not lora.experts:
        return f"{plain}, no experts"
    one = next(iter(lora.experts.values()))
    mixed = f"{len(lora.experts)} layers with {one.count} experts of rank {one.rank}, {one.chosen} per token"
    return f"{plain}, {mixed}" if lora.plain else f"{mixed}, no plain layers"
