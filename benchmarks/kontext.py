"""A step of FLUX.1 Kontext with its context reused, beside the same with every token computed. Part `kontext`.

The network is diffusers' FLUX with one double and one single block and two heads of the released 128 channels, random
weights; the tokens are the real ones: 512 of text, 4096 of a target and of each reference of 1024x1024. Both ways have
the same attention kernel. By tokens alone a step with n references costs (4608 + 4096·n) / 4608 of one with reuse.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.kontext import schedule
from ..models.kontext.attention import attention_of
from ..models.kontext.layout import Layout
from ..models.kontext.plan import Plan, Planned
from ..models.kontext.references import Reference
from ..models.kontext.reuse import Cache, Entry, Reuse
from . import stable_diffusion, timing

SIDE, QUICK_SIDE = 128, 16  # latent pixels of a picture of 1024x1024; 4096 tokens
TEXT, QUICK_TEXT = 512, 8
AIMS = {1: 1.8, 2: 2.6, 3: 3.4}
STEPS, REFRESHES = 4, (2, 4)
BEFORE, NOW = torch.tensor(0.9), torch.tensor(0.8)  # two noise levels that follow one another
POOLED, WORDS = 32, 64
LIVELIER = 2.0  # torch's own first weights are so small that a reference hardly counts
FAST = 70  # frequencies of the time that turn more than once between noise and picture; trained networks are smooth


def network(quick: bool = False):
    """diffusers' FLUX, scaled down, with random weights that let it move."""
    from diffusers import FluxTransformer2DModel

    settings = {
        "patch_size": 1, "in_channels": 64, "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2,
        "attention_head_dim": 32 if quick else 128, "joint_attention_dim": WORDS, "pooled_projection_dim": POOLED,
        "guidance_embeds": True, "axes_dims_rope": (8, 12, 12) if quick else (16, 56, 56),
    }  # fmt: skip
    net = stable_diffusion.lively(lambda: FluxTransformer2DModel(**settings), seed=1)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter *= LIVELIER
    embedding = net.time_text_embed.timestep_embedder.linear_1.weight  # [c, cosines and sines of 128 frequencies]
    embedding.view(len(embedding), 2, -1)[..., :FAST] = 0
    return net


class Hooked(nn.Module):
    """diffusers' attention of FLUX, with `attend` [b, heads, n, d] in the place of the kernel's call."""

    def __init__(self):
        super().__init__()
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] = _plain

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        from diffusers.models.embeddings import apply_rotary_emb

        q, k, v = self._heads(attn, hidden_states, ("to_q", "to_k", "to_v"), attn.norm_q, attn.norm_k)
        text = 0
        if encoder_hidden_states is not None:
            text, names = encoder_hidden_states.shape[1], ("add_q_proj", "add_k_proj", "add_v_proj")
            own = self._heads(attn, encoder_hidden_states, names, attn.norm_added_q, attn.norm_added_k)
            q, k, v = (torch.cat(pair, 1) for pair in zip(own, (q, k, v), strict=True))
        q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=1) for x in (q, k))
        out = self.attend(*(x.transpose(1, 2) for x in (q, k, v)))
        if encoder_hidden_states is None:
            return out
        return attn.to_out[1](attn.to_out[0](out[:, text:])), attn.to_add_out(out[:, :text])

    def _heads(self, attn, x: Tensor, names, norm_q, norm_k) -> list[Tensor]:
        q, k, v = (getattr(attn, name)(x).unflatten(-1, (attn.heads, -1)) for name in names)
        return [norm_q(q), norm_k(k), v]


def _plain(q: Tensor, k: Tensor, v: Tensor, mask=None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@dataclass
class Kit:
    """A network, a target and references of one size, in tokens of 64 channels."""

    net: nn.Module
    hooked: Hooked
    layout: Layout
    x: Tensor  # [1, n, 64]
    references: Tensor  # [1, m, 64]
    words: Tensor
    pooled: Tensor
    at: int = field(default=0)  # the attention layer that comes next

    @property
    def text(self) -> int:
        return self.words.shape[1]

    def velocity(self, x: Tensor, time: Tensor, context: bool = True) -> Tensor:
        """[1, n, 64] of the target's tokens."""
        tokens = torch.cat([x, self.references], 1) if context else x
        self.at = 0
        out = self.net(
            hidden_states=tokens, encoder_hidden_states=self.words, pooled_projections=self.pooled,
            timestep=time[None], guidance=torch.full((1,), 2.5), img_ids=self.layout.ids(context),
            txt_ids=torch.zeros(self.text, 3),
        ).sample  # fmt: skip
        return out[:, : x.shape[1]]

    def core(self, x: Tensor, time: Tensor) -> Tensor:
        """Every token at every step."""
        self.hooked.attend = _plain
        return self.velocity(x, time)

    def alone(self, x: Tensor, time: Tensor) -> Tensor:
        """Without the references."""
        self.hooked.attend = _plain
        return self.velocity(x, time, context=False)

    def reused(self, cache: Cache, x: Tensor, time: Tensor) -> Tensor:
        """The same with the context's keys and values from the cache where it has usable ones."""
        entry = cache.usable("only", float(time), x, self.layout)
        if entry is not None:
            return self._reading(entry, x, time)
        entry, attention = cache.fill("only", float(time), x, self.layout), attention_of(self.layout)

        def keeping(q, k, v):
            first = self.text + self.layout.target_tokens
            cache.keep(entry, k[:, :, first:], v[:, :, first:])
            return attention(_plain, q, k, v)

        self.hooked.attend = keeping
        out = self.velocity(x, time)
        entry.complete = True
        return out

    def _reading(self, entry: Entry, x: Tensor, time: Tensor) -> Tensor:
        attention = attention_of(self.layout, context=False)

        def joined(q, k, v):
            more = (kept.get() for kept in entry.layers[self.at])
            self.at += 1
            return attention(_plain, q, *(torch.cat(pair, 2) for pair in zip((k, v), more, strict=True)))

        self.hooked.attend = joined
        return self.velocity(x, time, context=False)


def kit(references: int, quick: bool = False, net=None) -> Kit:
    """The network with so many references of the target's size."""
    net, side = net or network(quick), QUICK_SIDE if quick else SIDE
    random = torch.Generator().manual_seed(2)
    tokens, text = (side // 2) ** 2, QUICK_TEXT if quick else TEXT
    plan = Plan(tuple(Planned(Reference(torch.zeros(1, 1, side, side))) for _ in range(references)))
    hooked = Hooked()
    net.set_attn_processor(hooked)
    return Kit(
        net, hooked, plan.at(1.0, (side, side))[1], torch.randn(1, tokens, 64, generator=random),
        torch.randn(1, tokens * references, 64, generator=random), torch.randn(1, text, WORDS, generator=random),
        torch.randn(1, POOLED, generator=random),
    )  # fmt: skip


def sampled(kit: Kit, step: Callable[[Tensor, Tensor], Tensor], steps: int = STEPS) -> Tensor:
    """Euler steps of the released schedule from the kit's noise."""
    x, times = kit.x, schedule.bfl(steps, kit.x.shape[1])
    with torch.inference_mode():
        for now, then in zip(times[:-1], times[1:], strict=True):
            x = x + (then - now) * step(x, now)
    return x


def rows(row: Callable[..., list[dict]], repeats: int, quick: bool) -> list[dict]:
    """Seconds of a step both ways and their ratio, memory, and how far the results are apart. row: speed.row."""
    net, out = network(quick), []
    for number, aim in AIMS.items():
        made = kit(number, quick, net)
        out += _speed(row, number, made, repeats, aim) + _deviation(row, number, made)
    return out


def _named(number: int, what: str) -> str:
    return f"{number} reference{'s' * (number > 1)}, {what}"


def _speed(row, number: int, made: Kit, repeats: int, aim: float) -> list[dict]:
    cache = Cache(Reuse(0, limit=64.0))
    with torch.inference_mode():
        made.reused(cache, made.x, BEFORE)
    jobs = {
        "every token": lambda: made.core(made.x, NOW), "reuse": lambda: made.reused(cache, made.x, NOW),
        "fill": lambda: made.reused(Cache(Reuse(0, limit=64.0)), made.x, NOW),
    }  # fmt: skip
    seconds = timing.interleaved(jobs, repeats, f"kontext, {number}")
    out = []
    for name in jobs:
        out += row("kontext", _named(number, f"a step, {name}"), statistics.median(seconds[name]), "s")
    times = timing.median_ratio(seconds["every token"], seconds["reuse"])
    out += row("kontext", _named(number, "reuse is faster by"), times, "x", aim=aim, at_most=False)
    return out + row("kontext", _named(number, "keys and values"), cache.bytes / 2**20, "MiB")


def _deviation(row, number: int, made: Kit) -> list[dict]:
    """|ours - every token| / |every token| of the latents after some steps; beside it the same without references."""
    core, out = sampled(made, made.core), []
    ways = {"left out": made.alone}
    for refresh in REFRESHES:
        cache = Cache(Reuse(refresh, limit=64.0))
        ways[f"every {refresh} steps"] = partial(made.reused, cache)
    for name, step in ways.items():
        away = (sampled(made, step) - core).norm() / core.norm()
        out += row("kontext", _named(number, f"{name}: apart by"), away, "")
    with torch.inference_mode():
        full, filled = made.core(made.x, NOW), made.reused(Cache(Reuse(0, limit=64.0)), made.x, NOW)
    return out + row("kontext", _named(number, "a filling step: apart by"), (full - filled).abs().max(), "", must=0.0)
