"""What the UNets of the Stable Diffusion 1.5 and 2.1 families look like, from their configs or their weights."""

import re

from torch import Tensor

from ..errors import EditError

ORDER = {"down": 0, "up": 1, "mid": 2}  # diffusers lists the middle last
FAMILY = {768: "SD1.5", 1024: "SD2.1", 2048: "SDXL"}


def attn2_layers(state: dict[str, Tensor]) -> list[str]:
    """Paths of the cross-attentions of a UNet's state dict, in diffusers' order: down, up, mid."""
    return ordered(name.removesuffix(".to_k.weight") for name in state if name.endswith(".attn2.to_k.weight"))


def ordered(layers) -> list[str]:
    """The same paths in diffusers' order: down, up, mid, each by its numbers."""
    return sorted(
        layers,
        key=lambda name: (ORDER.get(name.split("_", 1)[0], 3), [int(n) for n in re.findall(r"\d+", name)]),
    )


def family(context: int) -> str:
    """The family of a UNet by the width of its text embeddings, for messages."""
    return FAMILY.get(context, f"a model of text width {context}")


def infer_config(state: dict[str, Tensor]) -> dict:
    """The diffusers config of an SD1.5- or SD2.1-like UNet, from its weights alone. EditError for another network."""
    if "conv_in.weight" not in state or not attn2_layers(state):
        raise EditError("The weights are not those of a diffusers UNet with cross-attention.")
    if any(name.startswith("add_embedding") for name in state):
        raise EditError("The weights are SDXL's; SwiftEdit needs a UNet of the SD2.1 or SD1.5 family.")
    levels = _count(state, r"down_blocks\.(\d+)\.")
    channels = [len(state[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(levels)]
    crosses = [any(n.startswith(f"down_blocks.{i}.attentions.") for n in state) for i in range(levels)]
    context = state[f"{attn2_layers(state)[0]}.to_k.weight"].shape[1]
    linear = state["mid_block.attentions.0.proj_in.weight"].ndim == 2
    heads = [max(1, c // 64) for c in channels] if linear else 8
    down = ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crosses]
    return {
        "in_channels": state["conv_in.weight"].shape[1], "out_channels": len(state["conv_out.weight"]),
        "block_out_channels": channels, "layers_per_block": _count(state, r"down_blocks\.0\.resnets\.(\d+)\."),
        "down_block_types": down, "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "attention_head_dim": heads, "cross_attention_dim": context, "use_linear_projection": linear,
    }  # fmt: skip


def _count(state: dict[str, Tensor], pattern: str) -> int:
    return 1 + max(int(found[1]) for name in state if (found := re.match(pattern, name)))


def check(config: dict, where: str) -> None:
    """EditError unless the config is that of a UNet of the SD1.5 or SD2.1 family (SDXL is the usual mistake)."""
    if config.get("addition_embed_type") or config.get("cross_attention_dim") == 2048:
        raise EditError(f"{where} is an SDXL UNet; SwiftEdit needs one of the SD2.1 or SD1.5 family.")
    if config.get("in_channels", 4) != 4 or config.get("class_embed_type"):
        raise EditError(f"{where} is not a text-to-image UNet of 4 latent channels; SwiftEdit needs one.")
