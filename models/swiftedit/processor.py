"""ARaM for a UNet of diffusers: attention processors. Used by training, the benchmarks and the parity checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from . import aram as rescaling
from .aram import Aram
from .branch import TOKENS, LayerBranch


@dataclass(frozen=True)
class Rescaling:
    """What ARaM needs in a call: M [1 or b, h, w] at the latent's size, and how. Rows: first sources, then edits."""

    mask: Tensor
    aram: Aram = rescaling.OFFICIAL


class ImageAttention(LayerBranch):
    """Decoupled cross-attention: the last 4 tokens of the context are the image's (Eq. 3), rescaled by ARaM when on."""

    def __init__(self, context: int, width: int, group: str):
        super().__init__(context, width)
        self.group, self.scale, self.rescaling = group, 1.0, None

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, **_):
        text, tokens = encoder_hidden_states[:, :-TOKENS], encoder_hidden_states[:, -TOKENS:]
        query, (key, value) = attn.to_q(hidden_states), super().forward(tokens)
        text = rescaling.attend(query, attn.to_k(text), attn.to_v(text), attn.heads)
        image = rescaling.attend(query, key, value, attn.heads)
        if self.rescaling is not None and self.rescaling.aram.rescales(self.group):
            out = self._rescaled(text, image, value)
        else:
            out = rescaling.source_row(text, image, self.scale)
        return attn.to_out[1](attn.to_out[0](out))

    def _rescaled(self, text: Tensor, image: Tensor, value: Tensor) -> Tensor:
        rows, aram = len(text), self.rescaling.aram
        size = rescaling.grid(text.shape[1], tuple(self.rescaling.mask.shape[-2:]))
        mask = rescaling.fitted_mask(self.rescaling.mask, size).to(text)
        if rows == 3:  # the released code's auxiliary picture
            out = rescaling.auxiliary_rows(text.split(1), (value[1:2], value[2:3]), image[:1], mask, aram)
            return _cat(rescaling.source_row(text[:1], image[:1]), *out)
        half = rows // 2
        background = image[:half] if aram.background == "source" else image[half:]
        foreground = rescaling.foreground_term(value[half:], image[half:], aram)
        edit = rescaling.edit_row(text[half:], foreground, background, mask, aram)
        return _cat(rescaling.source_row(text[:half], image[:half]), edit)


def _cat(*rows: Tensor) -> Tensor:
    import torch

    return torch.cat(rows)


def _for_both_rows(scale: float | Tensor) -> float | Tensor:
    """A scale per edit [b, 1, 1] for the sources and the edits of a batch [2b, 1, 1]; others as they are."""
    return _cat(scale, scale) if isinstance(scale, Tensor) and scale.ndim and len(scale) > 1 else scale


def group(layer: str) -> str:
    """ "down", "mid" or "up" for an attn2's path in diffusers' UNet."""
    return layer.split("_", 1)[0]


def install(unet: nn.Module) -> dict[str, ImageAttention]:
    """Gives every attn2 of a diffusers UNet an image branch that starts as a copy of its text branch.

    Returns the processors by the path of their layer, in diffusers' order: down, up, mid.
    """
    made, processors = {}, {}
    for name, kept in unet.attn_processors.items():
        layer = name.removesuffix(".processor")
        if not layer.endswith("attn2"):
            processors[name] = kept
            continue
        attention = unet.get_submodule(layer)
        width, context = attention.to_k.weight.shape
        made[layer] = processors[name] = ImageAttention(context, width, group(layer)).to(
            attention.to_k.weight
        )
        made[layer].to_k_ip.load_state_dict(attention.to_k.state_dict())
        made[layer].to_v_ip.load_state_dict(attention.to_v.state_dict())
    unet.set_attn_processor(processors)
    return made


@contextmanager
def rescaled(unet: nn.Module, mask: Tensor, aram: Aram = rescaling.OFFICIAL) -> Iterator[None]:
    """Within the block ARaM is on: M [1 or b, h, w] at the latent's size. A global s_x takes its place when given."""
    processors = [p for p in unet.attn_processors.values() if isinstance(p, ImageAttention)]
    before = [(p.rescaling, p.scale) for p in processors]
    try:
        for processor in processors:
            processor.rescaling = Rescaling(mask, aram)
            processor.scale = 1.0 if aram.image_scale is None else _for_both_rows(aram.image_scale)
        yield
    finally:
        for processor, (old, scale) in zip(processors, before, strict=True):
            processor.rescaling, processor.scale = old, scale
