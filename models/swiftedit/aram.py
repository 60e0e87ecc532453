"""Attention rescaling for mask-aware editing (ARaM, Eq. 9), and the decoupled cross-attention below it (Eq. 3).

Per layer there are two rows: the source prompt's, which reconstructs, and the edit prompt's. With T the attention to
the text and I the attention to the image tokens, the released code computes

    source  T_s + I_s
    edit    s_y·T_e + s_edit·M·mean(V_img) + s_non-edit·(1 - M)·I_s

which is not Eq. 9 to the letter; `Aram` says where they differ and PRESETS holds both.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError

TEXT_REGIONS = ("everywhere", "masked")
FOREGROUNDS = ("uniform", "query")
BACKGROUNDS = ("source", "edit")
LAYERS = {"up": ("up",), "mid+up": ("mid", "up"), "all": ("down", "mid", "up")}


@dataclass(frozen=True)
class Aram:
    """How the edit row is put together. A scale is a number, or a tensor that broadcasts over [b, n, c].

    text_region: the text term counts everywhere (released code) or only where M is (Eq. 9).
    foreground: inside M the image term is the mean of the image tokens' values (released code) or attends (Eq. 9).
    background: outside M the image term is the source row's (released code) or the edit row's own (Eq. 9).
    layers: which layers are rescaled: "up" (released code), "mid+up" or "all"; the others add the image term as it is.
    image_scale: the one global scale s_x of Eq. 3 in place of the three, for both rows and all layers; None: ARaM.
    """

    text_scale: float | Tensor = 1.0  # s_y
    edit_scale: float | Tensor = 0.2  # s_edit
    non_edit_scale: float | Tensor = 1.0  # s_non-edit
    text_region: str = "everywhere"
    foreground: str = "uniform"
    background: str = "source"
    layers: str = "up"
    image_scale: float | Tensor | None = None  # s_x

    def __post_init__(self):
        _choice("text region", self.text_region, TEXT_REGIONS)
        _choice("foreground", self.foreground, FOREGROUNDS)
        _choice("background", self.background, BACKGROUNDS)
        _choice("choice of layers", self.layers, LAYERS)

    def rescales(self, group: str) -> bool:
        """Whether the layers of a group ("down", "mid", "up") are rescaled by the mask."""
        return self.image_scale is None and group in LAYERS[self.layers]

    @property
    def needs_source(self) -> bool:
        """Whether the edit row needs the source row's image terms."""
        return self.image_scale is None and self.background == "source"


def _choice(what: str, value: str, known) -> None:
    if value not in known:
        raise EditError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")


OFFICIAL = Aram()
PRESETS = {
    "official": OFFICIAL,
    "paper": replace(OFFICIAL, text_scale=2.0, edit_scale=0.0),
    "eq9": Aram(2.0, 0.0, 1.0, "masked", "query", "edit", "all"),
}


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(Q·K^T/sqrt(d))·V per head: [b, n, c], [b, m, c], [b, m, c] to [b, n, c]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def source_row(text: Tensor, image: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Eq. 3: the attention to the text plus s_x times the attention to the image, [b, n, c] each."""
    return text + scale * image


def edit_row(
    text: Tensor, foreground: Tensor, background: Tensor, mask: Tensor, aram: Aram = OFFICIAL
) -> Tensor:
    """Eq. 9 in the form that `aram` chooses.

    text: attention to the edit prompt [b, n, c]. foreground, background: image terms [b, n or 1, c] from
    `foreground_term` and the row that aram.background names. mask: M as [b or 1, n, 1], 1 inside the edit.
    """
    scaled = aram.text_scale * text
    if aram.text_region == "masked":
        scaled = scaled * mask
    return scaled + aram.edit_scale * mask * foreground + aram.non_edit_scale * (1 - mask) * background


def foreground_term(value: Tensor, image: Tensor | None, aram: Aram = OFFICIAL) -> Tensor:
    """The image term inside the mask: the mean of the tokens' values [b, 1, c], or the attention [b, n, c].

    The released code adds finfo.min to all keys of a row, which in fp32 leaves every key the same weight; the mean is
    that result without the overflow that makes it fail in fp16.
    """
    return value.mean(1, keepdim=True) if aram.foreground == "uniform" else image


def auxiliary_rows(
    texts: tuple[Tensor, Tensor, Tensor],
    values: tuple[Tensor, Tensor],
    background: Tensor,
    mask: Tensor,
    aram: Aram,
) -> tuple[Tensor, Tensor]:
    """(edit, auxiliary) rows of the released code's third branch, a second picture whose values join inside the mask.

    texts: text attention of the source, edit and auxiliary rows. values: image values of the edit and auxiliary rows
    [b, m, c]. background: the source row's image term. Here the text is scaled inside the mask only.
    """
    _, text, other = texts
    mean = (values[0].mean(1, keepdim=True) + values[1].mean(1, keepdim=True)) / 2
    scaled = (aram.text_scale * mask + (1 - mask)) * text
    edit = scaled + aram.edit_scale * mask * mean + aram.non_edit_scale * (1 - mask) * background
    return edit, other + values[1].mean(1, keepdim=True)


def fitted_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask [b, h, w] at a layer's (height, width), nearest as in the released code, as [b, height·width, 1]."""
    return F.interpolate(mask[:, None].float(), size, mode="nearest").flatten(2).transpose(1, 2)


def grid(tokens: int, shape: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of a layer with that many tokens, of a latent of that (height, width).

    Each downsampling halves a side, rounding up. EditError when no layer of such a UNet has that many tokens.
    """
    height, width = shape
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise EditError(f"A layer of {tokens} tokens does not belong to a latent of {shape[1]}x{shape[0]}.")
    return height, width


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A user's mask [b, h, w] at the latent's (height, width), averaged where it shrinks so that thin strokes count."""
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask.float()
    shrinks = mask.shape[-2] >= size[0] and mask.shape[-1] >= size[1]
    if shrinks:
        return F.adaptive_avg_pool2d(mask[:, None].float(), size)[:, 0]
    return F.interpolate(mask[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def scales(*values: float) -> Tensor:
    """One scale per row, to broadcast over [b, n, c]."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
