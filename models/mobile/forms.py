"""The same networks in the op forms that mobile delegates take: rank 4 at most, no broadcast, no gather, static shapes.

`mobile(module)` copies a network and exchanges its layers; weights and results stay the same (differences of rounding).
"""

import copy

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..blazeedit.codec import Decoder, Encoder
from ..blazeedit.denoiser import UViT, run_blocks
from ..blazeedit.layers import AttentionBlock, Upsample


def mobile(module: nn.Module) -> nn.Module:
    """A copy of an encoder, decoder or U-ViT in mobile form, for pictures of one fixed size and a batch of one."""
    module = copy.deepcopy(module).eval()
    for name, layer in list(module.named_modules()):
        if type(layer) in FORMS:
            _replace(module, name, FORMS[type(layer)](layer))
    return WHOLE[type(module)](module) if type(module) in WHOLE else module


def _replace(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, new)


class GroupNorm(nn.Module):
    """Means and variances per channel, then over each group's channels: exact, without a broadcast operator."""

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.eps, grouped = norm.eps, (1, 1, norm.num_groups, -1)
        self.register_buffer("weight", norm.weight.detach().view(grouped).clone())
        self.register_buffer("bias", norm.bias.detach().view(grouped).clone())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # [1, c, 1, 1]
        x = x - mean
        variance = (
            (x * x).mean((2, 3), keepdim=True).reshape(self.weight.shape)
        )  # [1, 1, groups, channels of one]
        mean = mean.reshape(self.weight.shape)
        apart = mean - mean.mean(3, keepdim=True)
        variance = (variance + apart * apart).mean(3, keepdim=True)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = apart * scale + self.bias
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class Attention(AttentionBlock):
    """Attention with separate projections and an explicit softmax(q kᵀ) v on [1, heads, tokens, channels]."""

    def __init__(self, block: AttentionBlock):
        nn.Module.__init__(self)
        self.__dict__.update({k: v for k, v in block.__dict__.items() if not k.startswith("_")})
        self._modules.update({k: v for k, v in block._modules.items() if k != "qkv"})
        weight, bias = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
        for name, w, b in zip("qkv", weight, bias, strict=True):
            layer = nn.Linear(w.shape[1], w.shape[0])
            layer.weight, layer.bias = nn.Parameter(w.detach().clone()), nn.Parameter(b.detach().clone())
            self.add_module(name, layer)

    def attend(self, tokens: Tensor) -> Tensor:
        split = "b n (h d) -> b h n d"
        q, k, v = (rearrange(getattr(self, name)(tokens), split, h=self.heads) for name in "qkv")
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        return self.out(rearrange(scores.softmax(-1) @ v, "b h n d -> b n (h d)"))


class ToSpace(nn.Module):
    """A convolution whose output channels are unfolded to r x r pixels: pixel_shuffle in one transpose of rank 4."""

    def __init__(self, conv: nn.Conv2d, r: int):
        super().__init__()
        self.r, self.conv = r, copy.deepcopy(conv)
        c = conv.out_channels // r**2
        order = torch.arange(conv.out_channels).view(c, r, r).permute(1, 2, 0).flatten()  # (c y x) -> (y x c)
        with torch.no_grad():
            self.conv.weight.copy_(conv.weight[order])
            self.conv.bias.copy_(conv.bias[order])

    def forward(self, x: Tensor) -> Tensor:
        x, r = self.conv(x).permute(0, 2, 3, 1), self.r  # [1, h, w, (y x c)]
        h, w = x.shape[1:3]
        x = x.reshape(h, w, r, -1).transpose(1, 2)  # [h, y, w, (x c)]
        return x.reshape(1, h * r, w * r, -1).permute(0, 3, 1, 2)


class PatchStem(nn.Module):
    """pixel_unshuffle and a 3x3 convolution as one strided convolution."""

    def __init__(self, conv: nn.Conv2d, patch: int):
        super().__init__()
        weight = rearrange(conv.weight.detach(), "o (c y x) i j -> o c (i y) (j x)", y=patch, x=patch)
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3 * patch, stride=patch, padding=patch)
        self.conv.weight, self.conv.bias = (
            nn.Parameter(weight.contiguous()),
            nn.Parameter(conv.bias.detach().clone()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class MobileEncoder(nn.Module):
    """`codec.Encoder`, its stem strided."""

    def __init__(self, net: Encoder):
        super().__init__()
        self.stem, self.blocks, self.out, self.linear = (
            PatchStem(net.stem, net.patch),
            net.blocks,
            net.out,
            net.linear,
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        h = self.out(F.silu(h))
        return h if self.linear is None else h + self.linear(x)


class MobileDecoder(nn.Module):
    """`codec.Decoder`, its pixels unfolded by `ToSpace`."""

    def __init__(self, net: Decoder):
        super().__init__()
        self.stem, self.blocks = net.stem, net.blocks
        self.out = ToSpace(net.out, net.patch)
        self.linear = None if net.linear is None else ToSpace(net.linear, net.factor)

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(z)
        for block in self.blocks:
            h = block(h)
        x = self.out(F.silu(h))
        return x if self.linear is None else x + self.linear(z)


class MobileUViT(nn.Module):
    """`denoiser.UViT` for sides that are multiples of 4 · patch."""

    def __init__(self, net: UViT):
        super().__init__()
        self.net = net
        self.stem = PatchStem(net.stem, net.patch)
        self.out = ToSpace(net.out, net.patch) if net.patch > 1 else net.out

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        net = self.net
        time = net.embed(t, x.dtype) if net.time_channels else None
        h0 = run_blocks(net.down0, self.stem(x), time)
        h1 = run_blocks(net.down1, net.to1(h0), time)
        h2 = run_blocks(net.middle, net.to2(h1), time)
        h1 = run_blocks(net.up1, torch.cat([net.from2(h2), h1], dim=1), time)
        h0 = run_blocks(net.up0, torch.cat([net.from1(h1), h0], dim=1), time)
        return self.out(F.silu(net.norm(h0)))


FORMS = {
    nn.GroupNorm: GroupNorm,
    AttentionBlock: Attention,
    Upsample: lambda layer: ToSpace(layer.conv, 2),
}
WHOLE = {Encoder: MobileEncoder, Decoder: MobileDecoder, UViT: MobileUViT}
