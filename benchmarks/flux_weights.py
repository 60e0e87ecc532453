"""FLUX.1's weights as the released code names them, under the names of diffusers' FluxTransformer2DModel."""

from collections.abc import Iterator

import torch
from torch import Tensor

EMBEDDERS = {
    "time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder",
}  # fmt: skip
DOUBLE = {
    "img_mod.lin": "norm1.linear", "txt_mod.lin": "norm1_context.linear", "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out", "img_mlp.0": "ff.net.0.proj", "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj", "txt_mlp.2": "ff_context.net.2",
    "img_attn.norm.query_norm": "attn.norm_q", "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q", "txt_attn.norm.key_norm": "attn.norm_added_k",
}  # fmt: skip
SPLIT = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
SINGLE = {
    "modulation.lin": "norm.linear", "linear2": "proj_out",
    "norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k",
}  # fmt: skip
FUSED = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
TOP = {"txt_in": "context_embedder", "img_in": "x_embedder", "final_layer.linear": "proj_out"}


def is_released(state: dict[str, Tensor]) -> bool:
    """Whether the names are the released code's (ComfyUI's too)."""
    return any(name.startswith("double_blocks.") for name in state)


def diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under diffusers' names. KeyError for a name that FLUX.1 does not have."""
    return {new: value.contiguous() for name, tensor in state.items() for new, value in _renamed(name, tensor)}


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    path, _, kind = name.rpartition(".")
    kind = "weight" if kind == "scale" else kind
    head, _, rest = path.partition(".")
    if head in ("double_blocks", "single_blocks"):
        number, _, rest = rest.partition(".")
        block = f"{'single_' * (head == 'single_blocks')}transformer_blocks.{number}"
        yield from ((f"{block}.{new}.{kind}", part) for new, part in _in_block(head, rest, tensor))
    elif head in EMBEDDERS:
        layer = {"in_layer": "linear_1", "out_layer": "linear_2"}[rest]
        yield f"time_text_embed.{EMBEDDERS[head]}.{layer}.{kind}", tensor
    elif path == "final_layer.adaLN_modulation.1":
        shift, scale = tensor.chunk(2)
        yield f"norm_out.linear.{kind}", torch.cat([scale, shift])
    else:
        yield f"{TOP[path]}.{kind}", tensor


def _in_block(head: str, rest: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if rest in SPLIT:
        yield from zip(SPLIT[rest], tensor.chunk(3), strict=True)
    elif head == "single_blocks" and rest == "linear1":
        yield from zip(FUSED, _fused(tensor), strict=True)
    else:
        yield (DOUBLE if head == "double_blocks" else SINGLE)[rest], tensor


def _fused(tensor: Tensor) -> tuple[Tensor, ...]:
    """q, k, v and the MLP's 4 widths of a single block's first layer, which is 7 widths high."""
    width = len(tensor) // 7
    return tensor.split([width, width, width, len(tensor) - 3 * width])
