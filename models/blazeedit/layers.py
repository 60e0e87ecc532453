"""The blocks that BlazeEdit's networks are made of, built on an injected `operations` namespace.

`operations` is `torch.nn` or one of ComfyUI's (comfy.ops.manual_cast), whose layers cast and offload weights.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def norm_groups(channels: int) -> int:
    """The largest divisor of `channels` up to 32 groups of at least 4 channels."""
    return next(g for g in range(min(32, channels // 4) or 1, 0, -1) if channels % g == 0)


def zeroed(layer):
    """Starts a layer at zero, so that the block around it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def time_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal features of a time in 0..1. t: [b]. Returns [b, channels]."""
    half = channels // 2
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angles = 1000.0 * t.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a residual, optionally group-normed and modulated by time (FiLM)."""

    def __init__(self, c_in: int, c_out: int, *, time_channels: int = 0, norm: bool = True, operations=nn):
        super().__init__()
        self.norm1 = operations.GroupNorm(norm_groups(c_in), c_in) if norm else nn.Identity()
        self.conv1 = operations.Conv2d(c_in, c_out, 3, padding=1)
        self.film = zeroed(operations.Linear(time_channels, 2 * c_out)) if time_channels else None
        self.norm2 = operations.GroupNorm(norm_groups(c_out), c_out) if norm else nn.Identity()
        self.conv2 = zeroed(operations.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = operations.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None:
            scale, shift = self.film(time)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


class AttentionBlock(nn.Module):
    """Self-attention and an MLP over the pixels of a feature map.

    A depthwise 3x3 convolution stands for the position, so that any size can be run.
    """

    def __init__(
        self, channels: int, *, head_channels: int, mlp_ratio: int, time_channels: int = 0, operations=nn
    ):
        super().__init__()
        self.heads = channels // head_channels
        self.position = zeroed(operations.Conv2d(channels, channels, 3, padding=1, groups=channels))
        self.norm1 = operations.LayerNorm(channels)
        self.film = zeroed(operations.Linear(time_channels, 2 * channels)) if time_channels else None
        self.qkv = operations.Linear(channels, 3 * channels)
        self.out = zeroed(operations.Linear(channels, channels))
        self.norm2 = operations.LayerNorm(channels)
        self.mlp_in = operations.Linear(channels, mlp_ratio * channels)
        self.mlp_out = zeroed(operations.Linear(mlp_ratio * channels, channels))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h, w = x.shape[-2:]
        tokens = rearrange(x + self.position(x), "b c h w -> b (h w) c")
        tokens = tokens + self.attend(self.modulate(self.norm1(tokens), time))
        tokens = tokens + self.mlp_out(F.gelu(self.mlp_in(self.norm2(tokens)), approximate="tanh"))
        return rearrange(tokens, "b (h w) c -> b c h w", h=h, w=w)

    def modulate(self, tokens: Tensor, time: Tensor | None) -> Tensor:
        if self.film is None:
            return tokens
        scale, shift = self.film(time)[:, None].chunk(2, dim=-1)
        return tokens * (1 + scale) + shift

    def attend(self, tokens: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class Downsample(nn.Module):
    """Halves the size with a strided 3x3 convolution."""

    def __init__(self, c_in: int, c_out: int, *, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(c_in, c_out, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Doubles the size with a 1x1 convolution and a pixel shuffle."""

    def __init__(self, c_in: int, c_out: int, *, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(c_in, 4 * c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)
