"""Gemma 2 as a text encoder: what EditMGT reads of an instruction. Names are those of the Hugging Face weights.

The released weights read `hidden_states[-2]`, the input of the last layer, without the final norm; so neither that
layer, nor the norm, nor the vocabulary head is built. Pads come first (256 tokens, padded on the left), are attended
as any token, and under a causal mask their states are the same for every instruction: they are worked out once.
"""

from dataclasses import dataclass, fields

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TEXT_TOKENS

Table = tuple[Tensor, Tensor]  # cosines and sines [n, head_dim]
Pair = tuple[Tensor, Tensor]  # keys and values [b, heads, n, head_dim]


@dataclass(frozen=True)
class GemmaConfig:
    """Gemma2-2B is the default. num_hidden_layers counts the last layer, which is not built."""

    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    query_pre_attn_scalar: float = 256
    attn_logit_softcapping: float | None = 50.0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    pad_token_id: int = 0


def read(data: dict) -> GemmaConfig:
    """A config from Gemma's config.json; what it does not say is as in Gemma2-2B."""
    data = {**(data.get("rope_parameters") or {}), **data}  # newer files keep rope_theta there
    known = {field.name for field in fields(GemmaConfig)}
    return GemmaConfig(**{k: v for k, v in data.items() if k in known and (v is not None or "softcap" in k)})


def weights(state: dict[str, Tensor], config: GemmaConfig) -> dict[str, Tensor]:
    """What of a Gemma state dict this encoder needs, by its own names: no `model.`, no head, no last layer."""
    named = {name.removeprefix("model."): value for name, value in state.items()}
    return {name: value for name, value in named.items() if needed(name, config)}


def needed(name: str, config: GemmaConfig) -> bool:
    """Whether the encoder has a weight of this name, with `model.` before it or not."""
    parts = name.removeprefix("model.").split(".")
    if parts[0] == "layers":
        return int(parts[1]) < config.num_hidden_layers - 1 and "rotary_emb" not in parts
    return parts[0] not in ("lm_head", "norm", "rotary_emb")


def rotary(positions: Tensor, config: GemmaConfig) -> Table:
    """Positions [n] to cosines and sines in float32; the two halves of a head turn together."""
    steps = (
        torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device) / config.head_dim
    )
    angles = positions.float()[:, None] * (1.0 / config.rope_theta**steps)[None]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: Table) -> Tensor:
    """Turns [b, heads, n, d] by the table's angles, in float32."""
    cosine, sine = table
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cosine + torch.cat([-second, first], dim=-1) * sine).to(x.dtype)


class Norm(nn.Module):
    """x / sqrt(mean(x²) + eps) · (1 + weight), in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * (1 + self.weight.to(wide))).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with fewer keys than queries; logits are capped at ±50 by tanh before the mask."""

    def __init__(self, config: GemmaConfig, operations=nn):
        super().__init__()
        self.config, width = config, config.hidden_size
        heads, pairs = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        )
        self.q_proj = operations.Linear(width, heads, bias=False)
        self.k_proj = operations.Linear(width, pairs, bias=False)
        self.v_proj = operations.Linear(width, pairs, bias=False)
        self.o_proj = operations.Linear(heads, width, bias=False)

    def forward(self, x: Tensor, table: Table, past: Pair | None = None) -> tuple[Tensor, Pair]:
        """[b, n, c] after the tokens that `past` holds; also gives keys and values of all of them."""
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", d=self.config.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, table), rotate(k, table)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        return self.o_proj(rearrange(self._attend(q, k, v), "b h n d -> b n (h d)")), (k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups, cap = q.shape[1] // k.shape[1], self.config.attn_logit_softcapping
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = (q @ k.transpose(-1, -2)).float() * self.config.query_pre_attn_scalar**-0.5
        if cap:
            scores = (scores / cap).tanh() * cap
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(
            k.shape[2] - q.shape[2] + 1
        )
        return scores.masked_fill(later, float("-inf")).softmax(-1).to(v.dtype) @ v


class FeedForward(nn.Module):
    """GELU (tanh) of one projection times another, and back."""

    def __init__(self, config: GemmaConfig, operations=nn):
        super().__init__()
        self.gate_proj = operations.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = operations.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = operations.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    """Attention and MLP, each with a norm before it and one after it."""

    def __init__(self, config: GemmaConfig, operations=nn):
        super().__init__()
        self.self_attn, self.mlp = Attention(config, operations), FeedForward(config, operations)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            setattr(self, f"{name}_layernorm", Norm(config.hidden_size, config.rms_norm_eps))

    def forward(self, x: Tensor, table: Table, past: Pair | None = None) -> tuple[Tensor, Pair]:
        attended, pair = self.self_attn(self.input_layernorm(x), table, past)
        x = x + self.post_attention_layernorm(attended)
        made = self.mlp(self.pre_feedforward_layernorm(x))
        return x + self.post_feedforward_layernorm(made), pair


@dataclass(frozen=True)
class Pads:
    """A run of pads from position 0: their states [1, n, c], and keys and values of every layer."""

    states: Tensor
    pairs: list[Pair]

    def first(self, count: int) -> "Pads":
        """The first `count` of them."""
        return Pads(self.states[:, :count], [(k[:, :, :count], v[:, :, :count]) for k, v in self.pairs])


class Gemma2(nn.Module):
    """Token ids [b, t] to `hidden_states[-2]` [b, t, c]."""

    def __init__(self, config: GemmaConfig, operations=nn):
        super().__init__()
        self.config = config
        self.embed_tokens = operations.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, operations) for _ in range(config.num_hidden_layers - 1))
        self._pads: dict[tuple, Pads] = {}

    def forward(self, ids: Tensor, dtype: torch.dtype | None = None, reuse: bool = True) -> Tensor:
        """States [b, t, c] of ids [b, t] with their pads on the left.

        dtype: of the computation, the embedding's by default. reuse: take the pads' keys, values and states from the
        last time instead of working them out again (equal to rounding); never where weights are being trained.
        """
        if not reuse or (torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())):
            return self._run(self._embed(ids, dtype))[0]
        return torch.cat([self._after_pads(row[None], dtype) for row in ids])

    def forget(self) -> None:
        """Gives the memory of the pads back; needed after weights were changed in place."""
        self._pads.clear()

    def _apply(self, *args, **kwargs):
        self.forget()  # the module moves, or its weights change their type
        return super()._apply(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        self.forget()
        return super().load_state_dict(*args, **kwargs)

    def _embed(self, ids: Tensor, dtype: torch.dtype | None) -> Tensor:
        x = self.embed_tokens(ids)
        x = x if dtype is None else x.to(dtype)
        return x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype, device=x.device)

    def _run(self, x: Tensor, past: Pads | None = None) -> tuple[Tensor, list[Pair]]:
        """All layers on x [b, n, c], which follows `past`; states, and keys and values of past and x."""
        start = 0 if past is None else past.states.shape[1]
        table = rotary(torch.arange(start, start + x.shape[1], device=x.device), self.config)
        pairs = []
        for index, layer in enumerate(self.layers):
            x, pair = layer(x, table, None if past is None else past.pairs[index])
            pairs.append(pair)
        return x, pairs

    def _after_pads(self, ids: Tensor, dtype: torch.dtype | None) -> Tensor:
        """One prompt [1, t]."""
        pads = int((ids[0] == self.config.pad_token_id).long().cumprod(0).sum())
        # the last token always runs, so that a prompt of pads alone has something to run
        pads = min(pads, ids.shape[1] - 1)
        x = self._embed(ids[:, pads:], dtype)
        if not pads:
            return self._run(x)[0]
        known = self._known(pads, x).first(pads)
        return torch.cat([known.states, self._run(x, known)[0]], dim=1)

    def _known(self, count: int, like: Tensor) -> Pads:
        """At least `count` pads, from memory where there are that many."""
        key = (like.device, like.dtype)
        if key not in self._pads or self._pads[key].states.shape[1] < count:
            # plain tensors, so that they serve training and inference alike
            with torch.inference_mode(False), torch.no_grad():
                ids = torch.full(
                    (1, max(count, TEXT_TOKENS - 1)), self.config.pad_token_id, device=like.device
                )
                states, pairs = self._run(self._embed(ids, like.dtype))
            self._pads[key] = Pads(states, pairs)
        return self._pads[key]
