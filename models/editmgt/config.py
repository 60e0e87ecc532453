"""What a transformer of the EditMGT and Meissonic family looks like, from its config.json and its keys."""

from dataclasses import dataclass, fields

from torch import Tensor

from ..errors import EditError

PREFIXES = ("_orig_mod.", "module.")
MICRO = 256  # width of the embedding of each of the five micro-conditions
TEXT_TOKENS = 256  # Gemma's prompt, padded on the left


@dataclass(frozen=True)
class MGTConfig:
    """The released sizes are the defaults. connector: see `connectors`."""

    num_layers: int = 14
    num_single_layers: int = 28
    num_attention_heads: int = 8
    attention_head_dim: int = 128
    joint_attention_dim: int = 2304
    pooled_projection_dim: int = 1024
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    vocab_size: int = 8256
    codebook_size: int = 8192
    downsample: bool = True
    upsample: bool = True
    connector: str = "linear"

    @property
    def width(self) -> int:
        """Channels of every token."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def mask_token(self) -> int:
        """The id of [MASK]."""
        return self.vocab_size - 1

    @property
    def blocks(self) -> int:
        """Double and single blocks together; a block's global index counts the double ones first."""
        return self.num_layers + self.num_single_layers


def clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without what torch.compile and DDP put before its names."""
    out = {}
    for name, value in state.items():
        while name.startswith(PREFIXES):  # in any order: the two may wrap each other
            name = name.partition(".")[2]
        out[name] = value
    return out


def connector_kind(state: dict[str, Tensor]) -> str:
    """Which connector lies between Gemma and the transformer, from the names of its weights."""
    names = {name.removeprefix("connector.") for name in state if name.startswith("connector.")}
    if not names:
        return "none"
    if "latents" in names:
        return "qformer"
    if "queries" in names:
        return "blip2"
    if "projector.weight" in names:
        return "linear"
    layers = sum(name.endswith(".weight") for name in names)
    return "fmlp" if layers > 2 else "mlp"


def read(data: dict, state: dict[str, Tensor]) -> MGTConfig:
    """A config from config.json, with what the weights say where both could. EditError when the two disagree."""
    known = {field.name for field in fields(MGTConfig)}
    chosen = {name: value for name, value in data.items() if name in known}
    chosen["axes_dims_rope"] = tuple(chosen.get("axes_dims_rope", MGTConfig.axes_dims_rope))
    chosen["downsample"] = any(name.startswith("down_block.") for name in state)
    chosen["upsample"] = any(name.startswith("up_block.") for name in state)
    chosen["connector"] = connector_kind(state)
    config = MGTConfig(**chosen)
    rows, width = state["embed.embeddings.weight"].shape if "embed.embeddings.weight" in state else (0, 0)
    if (rows, width) != (config.vocab_size, config.width):
        raise EditError(
            f"The weights have {rows} tokens of width {width}, and config.json says {config.vocab_size} of "
            f"{config.width}; the two do not belong together."
        )
    return config
