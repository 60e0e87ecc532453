"""The parts of the transformer: norms, embeddings, rotary positions, attention, double and single blocks."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attend, ReferenceCache
from .config import MGTConfig

HALF_LIMIT = 65504  # the largest number of fp16


def sinusoid(values: Tensor, width: int) -> Tensor:
    """[n] numbers to [n, width] cosines and sines (DDPM's embedding, cosines first), always in float32."""
    half = width // 2
    steps = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float()[:, None] * steps[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rotary_table(ids: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Positions [n, 3] to cosines and sines [n, head width] in float32, each pair of channels one angle (theta 10000).

    Angles are worked out in float64, where the device has it, so that large positions keep apart.
    """
    precise = torch.float32 if ids.device.type == "mps" else torch.float64
    parts = []
    for axis, width in enumerate(axes):
        steps = 1.0 / 10000 ** (torch.arange(0, width, 2, dtype=precise, device=ids.device) / width)
        parts.append(ids[:, axis, None].to(precise) * steps[None])
    angles = torch.cat(parts, dim=-1).repeat_interleave(2, dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turns neighbouring channels of [b, heads, n, d] by the table's angles, in float32."""
    pairs = x.float().contiguous().unflatten(-1, (-1, 2))
    if x.device.type not in ("cpu", "cuda"):  # others may not know complex numbers
        (real, imaginary), (cosine, sine) = pairs.unbind(-1), (part[:, ::2] for part in table)
        turned = torch.stack([real * cosine - imaginary * sine, imaginary * cosine + real * sine], dim=-1)
    else:
        turn = torch.complex(*(part[:, ::2].contiguous() for part in table))  # both channels of a pair have one angle
        turned = torch.view_as_real(torch.view_as_complex(pairs) * turn)
    return turned.flatten(-2).to(x.dtype)


def grid_ids(height: int, width: int, device=None) -> Tensor:
    """Rotary positions (0, row, column) of a grid of tokens: [height·width, 3]."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, the mean in float32."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return (x * scale).to(x.dtype) * self.weight.to(x)


class TwoLayers(nn.Module):
    """Linear, SiLU, linear: how conditions become vectors."""

    def __init__(self, incoming: int, width: int, bias: bool, operations=nn):
        super().__init__()
        self.linear_1 = operations.Linear(incoming, width, bias=bias)
        self.linear_2 = operations.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class Modulation(nn.Module):
    """AdaLN: a condition vector [b, width] to `parts` vectors [b, 1, width] each."""

    def __init__(self, width: int, parts: int, operations=nn):
        super().__init__()
        self.parts = parts
        self.linear = operations.Linear(width, parts * width)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(condition))[:, None].chunk(self.parts, dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights, scaled and shifted."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class FeedForward(nn.Module):
    """Linear to four times the width, GELU (tanh), and back. Names as diffusers has them."""

    def __init__(self, width: int, operations=nn):
        super().__init__()
        first = nn.Module()
        first.proj = operations.Linear(width, 4 * width)
        self.net = nn.ModuleList([first, nn.Identity(), operations.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


@dataclass(frozen=True)
class Tokens:
    """Text [b, t, c], picture [b, n, c] and reference [b, n, c] (or None) on their way through the blocks."""

    text: Tensor
    image: Tensor
    reference: Tensor | None = None


class Vectors:
    """Every block's AdaLN vectors for all steps of a run: each projection is read once, at the first step.

    conditions: [steps, b, width], the picture's condition of each step. reference: [b, width], which never changes.
    """

    def __init__(self, conditions: Tensor, reference: Tensor | None = None):
        self.conditions, self.reference = conditions, reference
        self._known: dict[tuple, Tensor] = {}

    def image(self, module: Modulation, index: int) -> tuple[Tensor, ...]:
        """The vectors of text and picture at a step."""
        key = ("image", id(module))
        if key not in self._known:
            self._known[key] = module.linear(F.silu(self.conditions))
        return self._known[key][index][:, None].chunk(module.parts, dim=-1)

    def of_reference(self, module: Modulation) -> tuple[Tensor, ...]:
        """The vectors of the reference, whose timestep is always 0."""
        key = ("reference", id(module))
        if key not in self._known:
            self._known[key] = module.linear(F.silu(self.reference))
        return self._known[key][:, None].chunk(module.parts, dim=-1)


@dataclass(frozen=True)
class Step:
    """What every block of one step shares. rotary: tables of text and picture, and of the reference."""

    vectors: Vectors
    index: int
    rotary: tuple[Tensor, Tensor]
    reference_rotary: tuple[Tensor, Tensor] | None
    attention: Attend
    cache: ReferenceCache | None = None


class Capture:
    """Collects the rows of chosen text tokens from the attention of chosen blocks (Eq. 3).

    blocks: global indices. rows: text positions, or None for all. half: whether the batch's second half alone counts
    (the conditional one). What is kept per block is [b, heads, rows, n] or, with `mean`, its mean [b, n]. pads: for how
    many the first text token stands (`padding`), as a key and among all rows.
    """

    def __init__(self, blocks, rows: Tensor | None = None, half: bool = False, mean: bool = True, pads: int = 1):
        self.blocks, self.rows, self.half, self.mean, self.pads = frozenset(blocks), rows, half, mean, pads
        self.maps: dict[int, Tensor] = {}

    def __call__(self, block: int, q: Tensor, k: Tensor, text: int, image: int) -> None:
        """q, k: [b, heads, text + image + …, d] after norm and rotation."""
        if block not in self.blocks:
            return
        if self.half:
            q, k = (x[len(x) // 2 :] for x in (q, k))
        rows = q[:, :, :text] if self.rows is None else q[:, :, self.rows.to(q.device)]
        scores = rows.float() @ k[:, :, : text + image].float().transpose(-1, -2) * q.shape[-1] ** -0.5
        scores[..., 0] += math.log(self.pads)
        found = scores.softmax(-1)[..., text:]
        self.maps[block] = self._mean(found) if self.mean else found

    def _mean(self, found: Tensor) -> Tensor:
        """The mean over heads and rows, each row as often as it stands for a token."""
        if self.pads == 1 or self.rows is not None:
            return found.mean((1, 2))
        found = found.mean(1)
        return (found.sum(1) + (self.pads - 1) * found[:, 0]) / (found.shape[1] + self.pads - 1)


class Captures:
    """Several readers of one step's attention, where a `Capture` goes."""

    def __init__(self, *parts):
        self.parts, self.blocks = parts, frozenset().union(*(part.blocks for part in parts))

    def __call__(self, block: int, q: Tensor, k: Tensor, text: int, image: int) -> None:
        for part in self.parts:  # each knows its own blocks
            part(block, q, k, text, image)


class Attention(nn.Module):
    """Projections of one block. The reference goes through the picture's weights; the text has its own if `joint`."""

    def __init__(self, config: MGTConfig, joint: bool, operations=nn):
        super().__init__()
        width, self.heads = config.width, config.num_attention_heads
        for name in ("to_q", "to_k", "to_v"):
            setattr(self, name, operations.Linear(width, width))
        self.norm_q, self.norm_k = (RMSNorm(config.attention_head_dim) for _ in range(2))
        self.joint = joint
        if joint:
            for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
                setattr(self, name, operations.Linear(width, width))
            self.norm_added_q, self.norm_added_k = (RMSNorm(config.attention_head_dim) for _ in range(2))
            self.to_out = nn.ModuleList([operations.Linear(width, width)])

    def project(self, x: Tensor, table=None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [b, heads, n, d] of picture tokens (of all tokens in a single block)."""
        return self._heads(
            (self.to_q(x), self.to_k(x), self.to_v(x)), self.norm_q, self.norm_k, table
        )

    def project_reference(self, x: Tensor, table=None) -> tuple[Tensor, Tensor, Tensor]:
        """The same of reference tokens: the same weights, unless a LoRA acts on this path alone."""
        return self.project(x, table)

    def project_text(self, x: Tensor, table=None) -> tuple[Tensor, Tensor, Tensor]:
        """The same of text tokens, in a double block."""
        added = (self.add_q_proj(x), self.add_k_proj(x), self.add_v_proj(x))
        return self._heads(added, self.norm_added_q, self.norm_added_k, table)

    def _heads(self, projected, norm_q, norm_k, table):
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=self.heads) for x in projected)
        q, k = norm_q(q), norm_k(k)
        return (q, k, v) if table is None else (rotate(q, table), rotate(k, table), v)


def _joined(*parts) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.cat(group, dim=2) for group in zip(*parts, strict=True))


def _bounded(x: Tensor) -> Tensor:
    return x.clip(-HALF_LIMIT, HALF_LIMIT) if x.dtype == torch.float16 else x


def _part(table, start: int, end: int):
    return tuple(x[start:end] for x in table)


class Block(nn.Module):
    """What double and single blocks share. `index` is the block's global one."""

    index = 0

    def attend(self, q, k, v, step: Step, text: int, image: int, capture=None, only_image: bool = False) -> Tensor:
        """Attention of a step's tokens, with the reference's keys and values remembered or recalled.

        only_image: nobody asks for what text and reference see.
        """
        if capture is not None:
            capture(self.index, q, k, text, image)
        if only_image:
            q = q[:, :, text : text + image]
        cache = step.cache
        if cache is not None and cache.reuse:
            kept = cache.by_block[self.index]
            k, v = torch.cat([k, kept[0]], dim=2), torch.cat([v, kept[1]], dim=2)
        elif cache is not None and k.shape[2] > text + image:
            cache.by_block[self.index] = k[:, :, text + image :], v[:, :, text + image :]
        return step.attention(q, k, v, text, k.shape[2] - text - image, text if only_image else 0)


class DoubleBlock(Block):
    """Text and picture with weights of their own; the reference through the picture's, at its own timestep."""

    def __init__(self, config: MGTConfig, operations=nn):
        super().__init__()
        self.norm1, self.norm1_context = (Modulation(config.width, 6, operations) for _ in range(2))
        self.attn = Attention(config, joint=True, operations=operations)
        self.ff, self.ff_context = (FeedForward(config.width, operations) for _ in range(2))

    def forward(self, x: Tokens, step: Step, capture=None, last: bool = False) -> Tokens:
        text, image = x.text.shape[1], x.image.shape[1]
        both = text + image
        vectors = [step.vectors.image(module, step.index) for module in (self.norm1_context, self.norm1)]
        joined = [
            self.attn.project_text(modulated(x.text, *vectors[0][:2]), _part(step.rotary, 0, text)),
            self.attn.project(modulated(x.image, *vectors[1][:2]), _part(step.rotary, text, both)),
        ]
        if x.reference is not None:
            vectors.append(step.vectors.of_reference(self.norm1))
            joined.append(self.attn.project_reference(modulated(x.reference, *vectors[2][:2]), step.reference_rotary))
        out = self.attend(*_joined(*joined), step, text, image, capture)
        rest, made = self._rest, self.attn.to_out[0]
        return Tokens(
            _bounded(rest(x.text, self.attn.to_add_out(out[:, :text]), vectors[0], self.ff_context)),
            rest(x.image, made(out[:, text:both]), vectors[1], self.ff),
            None if x.reference is None else rest(x.reference, made(out[:, both:]), vectors[2], self.ff),
        )

    @staticmethod
    def _rest(x: Tensor, attended: Tensor, vectors: tuple, feed_forward: nn.Module) -> Tensor:
        _, _, gate, shift, scale, second = vectors
        x = x + gate * attended
        return x + second * feed_forward(modulated(x, shift, scale))


class SingleBlock(Block):
    """Text and picture as one sequence, the reference as another, all through the same weights."""

    def __init__(self, config: MGTConfig, operations=nn):
        super().__init__()
        self.norm = Modulation(config.width, 3, operations)
        self.attn = Attention(config, joint=False, operations=operations)
        self.proj_mlp = operations.Linear(config.width, 4 * config.width)
        self.proj_out = operations.Linear(5 * config.width, config.width)

    def forward(self, x: Tokens, step: Step, capture=None, last: bool = False) -> Tokens:
        """last: nothing but the picture is needed afterwards, so nothing else is worked out to the end."""
        text, image = x.text.shape[1], x.image.shape[1]
        together = torch.cat([x.text, x.image], dim=1)
        shift, scale, gate = step.vectors.image(self.norm, step.index)
        normed = modulated(together, shift, scale)
        joined = [self.attn.project(normed, step.rotary)]
        if x.reference is not None:
            shift, scale, reference_gate = step.vectors.of_reference(self.norm)
            reference = modulated(x.reference, shift, scale)
            joined.append(self.attn.project_reference(reference, step.reference_rotary))
        out = self.attend(*_joined(*joined), step, text, image, capture, last)
        if last:
            picture = x.image + gate * self._out(out, normed[:, text:])
            return Tokens(x.text, _bounded(picture))
        together = _bounded(together + gate * self._out(out[:, : text + image], normed))
        if x.reference is None:
            return Tokens(together[:, :text], together[:, text:])
        reference = x.reference + reference_gate * self._out(out[:, text + image :], reference)
        return Tokens(together[:, :text], together[:, text:], reference)

    def _out(self, attended: Tensor, normed: Tensor) -> Tensor:
        hidden = F.gelu(self.proj_mlp(normed), approximate="tanh")
        return self.proj_out(torch.cat([attended, hidden], dim=2))
