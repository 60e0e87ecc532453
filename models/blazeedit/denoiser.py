"""The U-ViT of *simple diffusion*: ResNet blocks at high resolution, self-attention at low (paper, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import UViTConfig
from .layers import AttentionBlock, Downsample, ResBlock, Upsample, norm_groups, time_embedding, zeroed


class UViT(nn.Module):
    """[b, c_in, h, w] -> [b, c_out, h, w]; sides are padded inside to a multiple of 4 · patch and cut again.

    t: [b] in 0..1, or None for a network without time embedding.
    """

    def __init__(self, c_in: int, c_out: int, cfg: UViTConfig, *, operations=nn):
        super().__init__()
        (c0, c1, c2), (n0, n1, n2), t = cfg.channels, cfg.blocks, cfg.time_channels
        options = {"time_channels": t, "operations": operations}
        self.patch, self.time_channels = cfg.patch, t
        if t:
            self.time_in = operations.Linear(t, t)
            self.time_out = operations.Linear(t, t)
        self.stem = operations.Conv2d(c_in * cfg.patch**2, c0, 3, padding=1)
        self.down0 = nn.ModuleList(ResBlock(c0, c0, **options) for _ in range(n0))
        self.to1 = Downsample(c0, c1, operations=operations)
        self.down1 = nn.ModuleList(ResBlock(c1, c1, **options) for _ in range(n1))
        self.to2 = Downsample(c1, c2, operations=operations)
        attention = {"head_channels": cfg.head_channels, "mlp_ratio": cfg.mlp_ratio, **options}
        self.middle = nn.ModuleList(AttentionBlock(c2, **attention) for _ in range(n2))
        self.from2 = Upsample(c2, c1, operations=operations)
        self.up1 = nn.ModuleList(ResBlock(c1 if i else 2 * c1, c1, **options) for i in range(n1))
        self.from1 = Upsample(c1, c0, operations=operations)
        self.up0 = nn.ModuleList(ResBlock(c0 if i else 2 * c0, c0, **options) for i in range(n0))
        self.norm = operations.GroupNorm(norm_groups(c0), c0)
        self.out = zeroed(operations.Conv2d(c0, c_out * cfg.patch**2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        time = self.embed(t, x.dtype) if self.time_channels else None
        h, w = x.shape[-2:]
        multiple = 4 * self.patch
        pad = (-w % multiple, -h % multiple)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
        h0 = run_blocks(self.down0, self.stem(F.pixel_unshuffle(x, self.patch)), time)
        h1 = run_blocks(self.down1, self.to1(h0), time)
        h2 = run_blocks(self.middle, self.to2(h1), time)
        h1 = run_blocks(self.up1, torch.cat([self.from2(h2), h1], dim=1), time)
        h0 = run_blocks(self.up0, torch.cat([self.from1(h1), h0], dim=1), time)
        out = F.pixel_shuffle(self.out(F.silu(self.norm(h0))), self.patch)
        return out[..., :h, :w] if any(pad) else out

    def embed(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        features = time_embedding(t, self.time_channels).to(dtype)
        return F.silu(self.time_out(F.silu(self.time_in(features))))


def run_blocks(blocks: nn.ModuleList, x: Tensor, time: Tensor | None) -> Tensor:
    """One block after the other."""
    for block in blocks:
        x = block(x, time)
    return x
