"""The two namings of a FLUX.1 transformer's weights: BFL's and ComfyUI's in one file, and diffusers' folder.

The weights are the same but for two things: BFL fuses the queries, keys and values of a block (and, in single-stream
blocks, the first layer of the MLP) into one matrix, and its last modulation has the shift before the scale.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import EditError

ENDS = (".weight", ".bias")
PREFIX = "model.diffusion_model."  # what ComfyUI's own checkpoints put before BFL's names
MARK = "double_blocks.0.img_attn.norm.key_norm.scale"  # by which ComfyUI knows BFL's names
DIFFUSERS_MARK = "x_embedder.weight"

# BFL's name: diffusers', in the order in which they are fused. Names without an end stand for weight and bias.
OUTSIDE = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
GUIDANCE = {
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
}
DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_attn.norm.query_norm.scale": ("attn.norm_q.weight",),
    "img_attn.norm.key_norm.scale": ("attn.norm_k.weight",),
    "txt_attn.norm.query_norm.scale": ("attn.norm_added_q.weight",),
    "txt_attn.norm.key_norm.scale": ("attn.norm_added_k.weight",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm.scale": ("attn.norm_q.weight",),
    "norm.key_norm.scale": ("attn.norm_k.weight",),
}
SWAPPED = "final_layer.adaLN_modulation.1"


def is_bfl(state: dict[str, Tensor]) -> bool:
    """Whether names are BFL's, with or without ComfyUI's prefix."""
    return MARK in state or PREFIX + MARK in state


def to_bfl(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under diffusers' names to BFL's. EditError for one that is missing or left over."""
    out, left = {}, dict(state)
    for name, parts in _names(state, "transformer_blocks.", "single_transformer_blocks."):
        tensors = [_taken(left, part) for part in parts]
        whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        out[name] = _swapped(whole) if name.startswith(SWAPPED) else whole
    _check_nothing_left(left)
    return out


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under BFL's names, with or without ComfyUI's prefix, to diffusers'. EditError as above."""
    left = {name.removeprefix(PREFIX): value for name, value in state.items()}
    out, width = {}, _taken(dict(left), "img_in.bias").shape[0]
    for name, parts in _names(left, "double_blocks.", "single_blocks."):
        whole = _taken(left, name)
        if name.startswith(SWAPPED):
            whole = _swapped(whole)
        sizes = [width] * (len(parts) - 1)
        out.update(zip(parts, whole.split([*sizes, whole.shape[0] - sum(sizes)])))
    _check_nothing_left(left)
    return out


def _names(state: dict[str, Tensor], double: str, single: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(BFL's name, diffusers' names) of all that a network of so many blocks has."""
    guided = any("guidance" in name for name in state)
    yield from _ended(OUTSIDE | (GUIDANCE if guided else {}), "", "")
    for index in range(_count(state, double)):
        yield from _ended(DOUBLE, f"double_blocks.{index}.", f"transformer_blocks.{index}.")
    for index in range(_count(state, single)):
        yield from _ended(SINGLE, f"single_blocks.{index}.", f"single_transformer_blocks.{index}.")


def _ended(table: dict[str, tuple[str, ...]], bfl: str, diffusers: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, parts in table.items():
        for end in ("",) if name.endswith(".scale") else ENDS:
            yield f"{bfl}{name}{end}", tuple(f"{diffusers}{part}{end}" for part in parts)


def _count(state: dict[str, Tensor], start: str) -> int:
    return 1 + max((int(name.split(".")[1]) for name in state if name.startswith(start)), default=-1)


def _swapped(whole: Tensor) -> Tensor:
    """The two halves of the last modulation, exchanged."""
    first, second = whole.chunk(2)
    return torch.cat([second, first])


def _taken(state: dict[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise EditError(f"These are not the weights of a whole FLUX.1 transformer: {name!r} is missing.")
    return state.pop(name)


def _check_nothing_left(left: dict[str, Tensor]) -> None:
    if left:
        raise EditError(
            f"{len(left)} tensors belong to no FLUX.1 transformer, first {min(left)!r}; quantised and LoRA files are "
            "not read here."
        )
