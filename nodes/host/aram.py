"""ARaM as patches of a ComfyUI MODEL's cross-attentions (attn2_replace). Clone-scoped; other patches keep working."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.swiftedit import aram as rescaling
from ...models.swiftedit.aram import Aram
from ...models.swiftedit.processor import group
from .unets import block_of

EDIT, SOURCE = 0, 1  # where a guider's conditionings stand in `cond_or_uncond`: positive, then negative
TERMS = "editkit_swiftedit_terms"  # the key of a pass's `SourceTerms` in transformer_options


class SourceNeeded(EditError):
    """An edit row came without its source row, and nobody has run that before."""


class SourceTerms:
    """The source row's image terms of one pass by layer, for when ComfyUI runs the rows one after the other.

    shared: the source row runs once for a batch of edits of one picture.
    """

    def __init__(self, shared: bool = False):
        self.by_layer: dict[str, Tensor] = {}
        self.shared = shared


@dataclass
class Conditioning:
    """What all layers share: M [1 or b, h, w] of any size, and how to rescale."""

    mask: Tensor
    aram: Aram
    _fitted: dict = field(default_factory=dict)

    def at(self, latent: tuple, layer: tuple, like: Tensor) -> Tensor:
        """M at a layer's size as [1 or b, n, 1]."""
        key = (latent, layer, like.dtype, like.device)
        if key not in self._fitted:
            small = rescaling.latent_mask(self.mask.to(like.device), latent)
            self._fitted[key] = rescaling.fitted_mask(small, layer).to(like)
        return self._fitted[key]


class LayerPatch:
    """Replaces one attn2: ComfyUI calls it with the projected (q, k, v) of all rows and its extra_options."""

    def __init__(self, name: str, key: Tensor, value: Tensor, shared: Conditioning, before=None):
        self.name, self.key, self.value, self.shared, self.before = name, key, value, shared, before
        self.rescales = shared.aram.rescales(group(name))

    def __deepcopy__(self, memo):
        return self  # ModelPatcher.clone() copies its options deeply; the tensors here never change

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        text = self._text(q, k, v, extra_options)
        heads, aram = extra_options["n_heads"], self.shared.aram
        rows = extra_options.get("cond_or_uncond") or [EDIT]
        terms = extra_options.get(TERMS) or SourceTerms()
        texts, queries = text.chunk(len(rows)), q.chunk(len(rows))
        if not self.rescales:
            scale = _like(1.0 if aram.image_scale is None else aram.image_scale, q)
            images = [rescaling.attend(x, *self._tokens(x, terms), heads) for x in queries]
            return torch.cat([rescaling.source_row(t, i, scale) for t, i in zip(texts, images, strict=True)])
        out = [None] * len(rows)
        for i in sorted(range(len(rows)), key=lambda i: rows[i] != SOURCE):  # sources first, whatever their place
            run = self._source_row if rows[i] == SOURCE else self._edit_row
            out[i] = run(texts[i], queries[i], heads, terms, extra_options)
        return torch.cat(out)

    def _tokens(self, q: Tensor, terms: SourceTerms) -> tuple[Tensor, Tensor]:
        """Keys and values of the image tokens for these queries."""
        one = terms.shared and len(q) == 1  # the pictures of the batch are one and the same
        return tuple(_rows(x[:1] if one else x, len(q)).to(q) for x in (self.key, self.value))

    def _text(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        """The attention to the text, by the patch that was there before (IP-Adapter and the like) or as it is."""
        if self.before is not None:
            return self.before(q, k, v, extra_options)
        from comfy.ldm.modules.attention import optimized_attention

        return optimized_attention(
            q, k, v, heads=extra_options["n_heads"], attn_precision=extra_options.get("attn_precision"),
            transformer_options=extra_options,  # where other packs put their own attention
        )  # fmt: skip

    def _source_row(self, text, q, heads, terms, extra_options):
        image = rescaling.attend(q, *self._tokens(q, terms), heads)
        terms.by_layer[self.name] = image
        return rescaling.source_row(text, image)

    def _edit_row(self, text, q, heads, terms, extra_options):
        aram, (key, value) = self.shared.aram, self._tokens(q, terms)
        own = None
        if aram.foreground == "query" or aram.background == "edit":
            own = rescaling.attend(q, key, value, heads)
        background = self._background(own, terms, len(q))
        foreground = rescaling.foreground_term(value, own, aram)
        latent, layer = extra_options["original_shape"][-2:], extra_options["activations_shape"][-2:]
        mask = self.shared.at(tuple(latent), tuple(layer), q)
        return rescaling.edit_row(text, foreground, background, _rows(mask, len(q)), _on(aram, q))

    def _background(self, own: Tensor | None, terms: SourceTerms, rows: int) -> Tensor:
        if self.shared.aram.background == "edit":
            return own
        if self.name not in terms.by_layer:
            raise SourceNeeded(
                "ARaM takes the background from the source prompt's row, which did not run; sample with SwiftEdit "
                "Guider, or choose the background edit in SwiftEdit ARaM."
            )
        return _rows(terms.by_layer[self.name], rows)


def _rows(x: Tensor, count: int) -> Tensor:
    """One row for all, or one each. EditError otherwise."""
    if len(x) not in (1, count):
        raise EditError(
            f"SwiftEdit ARaM has {len(x)} masks or images and {count} latents are sampled; give one, or one each."
        )
    return x


def _like(scale, q: Tensor):
    return scale.to(q) if isinstance(scale, Tensor) else scale


def _on(aram: Aram, q: Tensor) -> Aram:
    """The same settings with tensors of scales where the rows are."""
    names = ("text_scale", "edit_scale", "non_edit_scale")
    moved = {n: getattr(aram, n).to(q) for n in names if isinstance(getattr(aram, n), Tensor)}
    return replace(aram, **moved) if moved else aram


def patched(model, keys_values: dict[str, tuple[Tensor, Tensor]], mask: Tensor, aram: Aram):
    """A clone of a MODEL with the image branch in its cross-attentions, rescaled by ARaM.

    keys_values: layer (diffusers' path) -> keys and values of the image tokens [1 or b, 4, width]. EditError when the
    MODEL lacks one of the layers.
    """
    clone, shared = model.clone(), Conditioning(mask, aram)
    config = model.model.model_config.unet_config
    replaced = _replaced(model.model_options)
    for name, (key, value) in keys_values.items():
        block, number, index = block_of(name, config)
        before = replaced.get((block, number, index), replaced.get((block, number)))
        if isinstance(before, LayerPatch):
            before = before.before  # ARaM twice is the later ARaM
        patch = LayerPatch(name, key, value, shared, before)
        clone.set_model_attn2_replace(patch, block, number, index)
    return clone


def is_patched(model) -> bool:
    """Whether a MODEL has been through `patched`."""
    return any(isinstance(patch, LayerPatch) for patch in _replaced(model.model_options).values())


def one_picture(model_options: dict) -> bool:
    """Whether all rows of a batch see the same picture's tokens, so that their source row is one and the same."""
    patches = [p for p in _replaced(model_options).values() if isinstance(p, LayerPatch)]
    return all(bool((x == x[:1]).all()) for p in patches[:1] for x in (p.key, p.value))


def _replaced(model_options: dict) -> dict:
    return model_options.get("transformer_options", {}).get("patches_replace", {}).get("attn2", {})
