"""One edit by SwiftEdit, ours beside the same steps done the released code's way. Part `swiftedit` of `bench speed`.

Both have the same networks (SD2.1's sizes, random weights), text embeddings, CLIP embedding and picture; text encoders
and CLIP are outside, for they cost both the same. The released way samples the VAE's posterior without a seed, so each
encodes for itself, and both go on from one latent: the pictures can then be compared.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.swiftedit import edit, processor
from ..models.swiftedit.branch import TOKENS, ImageProjection
from ..models.swiftedit.generators import DEFAULT, INVERSION_TIMESTEP, LATENT_SCALE, generator
from . import large_photo, stable_diffusion, timing

SIZE, QUICK = 512, 64
EMBEDDING = 1024
SCALES = (1.0, 0.2, 1.0)  # the released defaults: s_y, s_edit, s_non-edit
OURS, ALONE, RELEASED = "ours", "ours, the edit alone", "the released way"


class ReleasedAttention(nn.Module):
    """Decoupled cross-attention as the released code goes about it, on the weights of one of our processors.

    With a mask (up blocks only) it computes the logits of both rows for nothing, then each row again with einsum, the
    edit row's image attention twice over: with the lowest number added to all keys of the queries outside, and inside.
    Without one it keeps a map of the image attention that nobody reads.
    """

    def __init__(self, ours: processor.ImageAttention):
        super().__init__()
        self.to_k_ip, self.to_v_ip, self.group = ours.to_k_ip, ours.to_v_ip, ours.group
        self.mask, self.scales = None, SCALES

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, **_):
        context, tokens = encoder_hidden_states[:, :-TOKENS], encoder_hidden_states[:, -TOKENS:]
        parts = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        parts += self.to_k_ip(tokens), self.to_v_ip(tokens)
        heads = [x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in parts]  # [b, heads, n, d] each
        out = self._plain(*heads) if self.mask is None else self._masked(*heads)
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))

    def _plain(self, query, key, value, image_key, image_value) -> Tensor:
        text = F.scaled_dot_product_attention(query, key, value)
        image = F.scaled_dot_product_attention(query, image_key, image_value)
        self.map = query @ image_key.transpose(-2, -1).softmax(-1)
        return text + image

    def _masked(self, query, key, value, image_key, image_value) -> Tensor:
        side = round(query.shape[2] ** 0.5)  # squares only, as released
        mask = F.interpolate(self.mask[None, None], (side, side)).reshape(1, -1, 1)  # [1, n, 1]
        text_scale, edit_scale, non_edit_scale = self.scales
        for keys in (key, image_key):
            _logits(query.flatten(0, 1), keys.flatten(0, 1))
        text = torch.stack([_attend(q, k, v) for q, k, v in zip(query, key, value, strict=True)])
        text[1] *= text_scale
        source = _attend(query[0], image_key[0], image_value[0])
        inside, _ = _attend(query[1], image_key[1], image_value[1], mask).chunk(2)
        target = edit_scale * inside * mask + non_edit_scale * source * (1 - mask)
        return text + torch.stack([source, target])


def _logits(query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("hid,hjd->hij", query, key) * query.shape[-1] ** -0.5


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """[heads, n, d] each; with a mask [1, n, 1] twice as many, for inside and outside."""
    logits = _logits(query, key)
    if mask is not None:
        lowest = torch.finfo(logits.dtype).min
        both = [logits + mask.masked_fill(mask == where, lowest) for where in (1, 0)]
        logits, value = torch.cat(both), torch.cat([value, value])
    return torch.einsum("hij,hjd->hid", logits.softmax(-1), value)


@dataclass
class Kit:
    """What both ways share. ours, released: attention processors of the generator by name."""

    vae: nn.Module
    inversion: nn.Module
    generator: nn.Module
    projection: ImageProjection
    ours: dict[str, nn.Module]
    released: dict[str, nn.Module]
    picture: Tensor  # [1, 3, h, w], -1..1
    latent: Tensor  # [1, 4, h/8, w/8], in the networks' scale
    text: Tensor  # [2, 77, c], the source prompt's and the edit prompt's
    embedding: Tensor  # [1, e]

    def context(self) -> Tensor:
        """Text embeddings with the image tokens behind them, [2, 81, c]."""
        return torch.cat([self.text, self.projection(self.embedding).expand(2, -1, -1)], 1)

    def decoded(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] around 0..1 of latents in the networks' scale."""
        return (self.vae.decode(latents / LATENT_SCALE).sample + 1) / 2


def kit(quick: bool = False) -> Kit:
    """Random networks of SD2.1's sizes (7.3 GB), or tiny ones, and a picture."""
    size = QUICK if quick else SIZE
    vae = stable_diffusion.vae(quick, stable_diffusion.lively)
    inversion, network = (stable_diffusion.unet21(quick, seed) for seed in (1, 2))
    width = network.config.cross_attention_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        projection = ImageProjection(EMBEDDING, width).requires_grad_(False)
        text, embedding = torch.randn(2, stable_diffusion.TOKENS, width), torch.randn(1, EMBEDDING)
        picture = large_photo.photograph(size, size)[0] * 2 - 1
        with torch.inference_mode():
            latent = vae.encode(picture).latent_dist.sample() * LATENT_SCALE
    return Kit(
        vae, inversion, network, projection, *both_processors(network), picture, latent, text, embedding
    )


def both_processors(network) -> tuple[dict, dict]:
    """(ours, the released way) of a generator, by name, on the same weights."""
    if not any(isinstance(p, processor.ImageAttention) for p in network.attn_processors.values()):
        processor.install(network)
    ours = dict(network.attn_processors)
    released = {
        name: ReleasedAttention(one) if isinstance(one, processor.ImageAttention) else one
        for name, one in ours.items()
    }
    return ours, released


def ours(kit: Kit, reconstruct: bool = True) -> tuple[Tensor, Tensor]:
    """(reconstruction and edit [2, 3, h, w], mask) by the functions that the nodes call; or without the first."""
    kit.generator.set_attn_processor(dict(kit.ours))
    kit.vae.encode(kit.picture).latent_dist.mode()
    inversion = edit.invert(_called(kit.inversion), kit.latent, *kit.text.split(1))
    mask = inversion.mask()
    rescaled = partial(processor.rescaled, kit.generator)
    rows = kit.context().split(1)
    made = edit.generate(_called(kit.generator), rescaled, kit.latent, inversion.source, *rows, mask)
    latents = torch.cat([made.reconstruction, made.edit]) if reconstruct else made.edit
    return kit.decoded(latents), mask[0]


def _called(network) -> edit.Network:
    return lambda sample, timestep, context: network(sample, timestep, context).sample


def released(kit: Kit) -> tuple[Tensor, Tensor]:
    """The same by the released code's steps: those that nothing depends on are taken too."""
    model = generator(DEFAULT)
    kit.generator.set_attn_processor(dict(kit.released))
    kit.vae.encode(kit.picture).latent_dist.sample()
    noise = kit.inversion(torch.cat([kit.latent] * 2), INVERSION_TIMESTEP, kit.text).sample
    mask = released_mask(*noise)
    control(kit.released.values(), mask)
    start = (model.alpha * kit.latent + model.sigma * noise[:1]).repeat(2, 1, 1, 1)
    out = kit.generator(start, model.timestep, kit.context()).sample
    pictures = kit.decoded((start - model.sigma * out) / model.alpha)
    kit.decoded(start)  # a picture of the noise, twice, which is dropped
    return pictures, mask


def control(processors, mask: Tensor, scales: tuple[float, float, float] = SCALES) -> None:
    """Gives the mask [h, w] to the layers that the released code reaches: those of the up blocks."""
    for one in processors:
        if isinstance(one, ReleasedAttention) and one.group == "up":
            one.mask, one.scales = mask, scales


def released_mask(source: Tensor, target: Tensor, clamp: float = 3.0, threshold: float = 0.5) -> Tensor:
    """M [h, w] of two noises [4, h, w], number by number in Python as released."""
    difference = (source - target).abs().mean(0)
    top = float(difference.mean() * clamp)
    return (difference.clamp(0, top) / top).clone().apply_(lambda x: float(x > threshold))


def rows(row: Callable[..., list[dict]], repeats: int, quick: bool) -> list[dict]:
    """Seconds of both, their ratio, and how far their pictures are apart. row: speed.row."""
    shared, made = kit(quick), {}
    ways = {OURS: ours, ALONE: partial(ours, reconstruct=False), RELEASED: released}
    jobs = {name: partial(_keep, made, name, way, shared) for name, way in ways.items()}
    seconds = timing.interleaved(jobs, repeats, "swiftedit")
    out = []
    for name in (RELEASED, OURS, ALONE):
        out += row("swiftedit", f"one edit, {name}", statistics.median(seconds[name]), "s")
    times, alone = (timing.median_ratio(seconds[RELEASED], seconds[name]) for name in (OURS, ALONE))
    out += row("swiftedit", "ours is faster by", times, "x", aim=1.5, at_most=False)
    out += row("swiftedit", "without the reconstruction by", alone, "x")
    (picture, mask), (other, _) = made[OURS], made[RELEASED]
    out += row(
        "swiftedit", "largest difference of their pictures", (picture - other).abs().max(), "", must=1e-3
    )
    out += row("swiftedit", "white part of the mask", mask.mean(), "")
    return out + row("swiftedit", "standard deviation of the edit's pixels", picture[1].std(), "")


def _keep(made: dict, name: str, way: Callable, shared: Kit) -> None:
    made[name] = way(shared)
