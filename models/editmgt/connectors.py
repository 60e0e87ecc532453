"""What lies between the language model and the transformer (Sec. C.3): linear (released), MLPs, Q-Former, ELLA.

The released code calls ELLA's time-aware resampler "qformer"; so do configs, and BLIP-2's Q-Former is "blip2".
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import EditError
from .config import TEXT_TOKENS, MGTConfig

KINDS = ("none", "linear", "mlp", "fmlp", "blip2", "qformer", "ella")
TIME_WIDTH = 1024  # of the Q-Former's timestep


def connector(config: MGTConfig, operations=nn) -> nn.Module | None:
    """The connector of a config, or None. EditError for an unknown one."""
    width, incoming = config.width, config.joint_attention_dim
    if config.connector == "none":
        return None
    if config.connector == "linear":
        return Projector(operations.Linear(incoming, width))
    if config.connector == "mlp":
        return Projector(_mlp([incoming, width, width], operations))
    if config.connector == "fmlp":
        return Projector(_mlp([incoming, 4 * incoming, width, width], operations))
    if config.connector in ("qformer", "ella"):
        return Resampler(width, incoming, operations)
    if config.connector == "blip2":
        return QFormer(width, incoming, operations)
    raise EditError(f"The connector {config.connector!r} is unknown; choose one of {', '.join(KINDS)}.")


def _mlp(widths: list[int], operations) -> nn.Sequential:
    layers = []
    for first, second in zip(widths, widths[1:]):
        layers += [operations.Linear(first, second), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class Projector(nn.Module):
    """Token by token: [b, t, joint] to [b, t, width]."""

    timed = False  # whether it has to be told the timestep, and so called for every step

    def __init__(self, projector: nn.Module):
        super().__init__()
        self.projector = projector

    def forward(self, x: Tensor, timestep: Tensor | None = None) -> Tensor:
        return self.projector(x)


def time_embedding(timestep: Tensor, width: int) -> Tensor:
    """The Q-Former's own embedding of a step's number [b] times 1000: sines first, the last frequency 1/10000."""
    half = width // 2
    steps = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / (half - 1))
    angles = timestep.float()[:, None] * 1000 * steps[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimedNorm(nn.Module):
    """LayerNorm without weights, shifted and scaled by the timestep."""

    def __init__(self, width: int, operations=nn):
        super().__init__()
        self.linear = operations.Linear(TIME_WIDTH, 2 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class PerceiverBlock(nn.Module):
    """Latents attend to themselves and to the text, then a squared-ReLU MLP."""

    def __init__(self, width: int, heads: int, operations=nn):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = operations.Linear(width, 4 * width), operations.Linear(4 * width, width)
        self.ln_1, self.ln_2, self.ln_ff = (TimedNorm(width, operations) for _ in range(3))

    def forward(self, x: Tensor, latents: Tensor, time: Tensor) -> Tensor:
        normed = self.ln_1(latents, time)
        keys = torch.cat([normed, self.ln_2(x, time)], dim=1)
        latents = latents + self.attn(normed, keys, keys, need_weights=False)[0]
        return latents + self.mlp.c_proj(F.relu(self.mlp.c_fc(self.ln_ff(latents, time))).square())


class QFormerBlock(nn.Module):
    """Queries attend to themselves, then to the text, then an MLP; the norm comes after each (BERT's order)."""

    def __init__(self, width: int, heads: int, operations=nn):
        super().__init__()
        self.self_attn, self.cross_attn = (nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.c_fc, self.c_proj = operations.Linear(width, 4 * width), operations.Linear(4 * width, width)
        self.ln_self, self.ln_cross, self.ln_ff = (operations.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        queries = self.ln_self(queries + self.self_attn(queries, queries, queries, need_weights=False)[0])
        queries = self.ln_cross(queries + self.cross_attn(queries, x, x, need_weights=False)[0])
        return self.ln_ff(queries + self.c_proj(F.gelu(self.c_fc(queries))))


class QFormer(nn.Module):
    """BLIP-2's: a few learnt queries read the text, [b, t, joint] to [b, 6, width]."""

    timed = False

    def __init__(self, width: int, incoming: int, operations=nn, queries: int = 6, layers: int = 2, heads: int = 8):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.proj_in = operations.Linear(incoming, width)
        self.blocks = nn.ModuleList(QFormerBlock(width, heads, operations) for _ in range(layers))

    def forward(self, x: Tensor, timestep: Tensor | None = None) -> Tensor:
        x = self.proj_in(x)
        queries = self.queries.to(x)[None].expand(len(x), -1, -1)
        for block in self.blocks:
            queries = block(queries, x)
        return queries


class Resampler(nn.Module):
    """Learnt latents read the text, told the timestep: [b, t, joint] to [b, 256, width]. Once for every step."""

    timed = True

    def __init__(self, width: int, incoming: int, operations=nn, layers: int = 3, heads: int = 8):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(TEXT_TOKENS, width) * width**-0.5)
        self.time_aware_linear = operations.Linear(TIME_WIDTH, width)
        self.proj_in = operations.Linear(incoming, width)
        self.perceiver_blocks = nn.ModuleList(PerceiverBlock(width, heads, operations) for _ in range(layers))

    def forward(self, x: Tensor, timestep: Tensor | None = None) -> Tensor:
        if timestep is None:
            raise EditError("The connector qformer needs the timestep; give it for every step.")
        time = time_embedding(timestep, TIME_WIDTH).to(x)
        latents = self.latents.to(x)[None] + self.time_aware_linear(F.silu(time))[:, None]
        x = self.proj_in(x)
        for block in self.perceiver_blocks:
            latents = block(x, latents, time)
        return latents
