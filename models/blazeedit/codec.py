"""From pixels to f8 features and back: the frozen autoencoder, the light decoder and the condition encoder f_θ."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import CodecConfig
from .layers import Downsample, ResBlock, Upsample, zeroed


class Encoder(nn.Module):
    """[b, c_in, h, w] -> [b, c_out, h/8, w/8]; the picture's sides are multiples of 8."""

    def __init__(self, c_in: int, c_out: int, cfg: CodecConfig, *, operations=nn):
        super().__init__()
        self.patch = cfg.patch
        self.stem = operations.Conv2d(c_in * cfg.patch**2, cfg.channels[0], 3, padding=1)
        self.blocks, c = nn.ModuleList(), cfg.channels[0]
        for level, width in enumerate(cfg.channels):
            if level:
                self.blocks.append(Downsample(c, width, operations=operations))
            self.blocks.extend(
                ResBlock(width, width, norm=cfg.norm, operations=operations) for _ in range(cfg.blocks)
            )
            c = width
        self.out = operations.Conv2d(c, c_out, 3, padding=1)
        self.linear = (
            operations.Conv2d(c_in, c_out, cfg.factor, stride=cfg.factor) if cfg.linear_path else None
        )
        if self.linear is not None:
            zeroed(self.out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(F.pixel_unshuffle(x, self.patch))
        for block in self.blocks:
            h = block(h)
        h = self.out(F.silu(h))
        return h if self.linear is None else h + self.linear(x)


class Decoder(nn.Module):
    """[b, c_in, h/8, w/8] -> [b, 3, h, w]."""

    def __init__(self, c_in: int, cfg: CodecConfig, *, operations=nn):
        super().__init__()
        self.patch, self.factor = cfg.patch, cfg.factor
        widths = cfg.channels[::-1]
        self.stem = operations.Conv2d(c_in, widths[0], 3, padding=1)
        self.blocks, c = nn.ModuleList(), widths[0]
        for level, width in enumerate(widths):
            if level:
                self.blocks.append(Upsample(c, width, operations=operations))
            self.blocks.extend(
                ResBlock(width, width, norm=cfg.norm, operations=operations) for _ in range(cfg.blocks)
            )
            c = width
        self.out = operations.Conv2d(c, 3 * cfg.patch**2, 3, padding=1)
        self.linear = operations.Conv2d(c_in, 3 * cfg.factor**2, 1) if cfg.linear_path else None
        if self.linear is not None:
            zeroed(self.out)

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(z)
        for block in self.blocks:
            h = block(h)
        x = F.pixel_shuffle(self.out(F.silu(h)), self.patch)
        return x if self.linear is None else x + F.pixel_shuffle(self.linear(z), self.factor)


class Autoencoder(nn.Module):
    """The frozen encoder E with a decoder D; latents are whitened per channel by measured statistics.

    `decoder` is the full one while the autoencoder is trained and the light one in the shipped model (section 3.1).
    """

    def __init__(self, latent_channels: int, encoder: CodecConfig, decoder: CodecConfig, *, operations=nn):
        super().__init__()
        self.encoder = Encoder(3, latent_channels, encoder, operations=operations)
        self.decoder = Decoder(latent_channels, decoder, operations=operations)
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, image: Tensor) -> Tensor:
        """image: [b, 3, h, w] in 0..1, sides multiples of 8. Returns whitened latents [b, c, h/8, w/8]."""
        z = self.encoder(image - 0.5)
        return (z - _channels(self.mean, z)) / _channels(self.std, z)

    def decode(self, latent: Tensor) -> Tensor:
        """Whitened latents [b, c, h/8, w/8] to an image [b, 3, h, w], not clamped."""
        return self.decoder(latent * _channels(self.std, latent) + _channels(self.mean, latent)) + 0.5


def _channels(vector: Tensor, like: Tensor) -> Tensor:
    return vector.to(like.device, like.dtype)[None, :, None, None]


def start_at_pca(autoencoder: Autoencoder, patches: Tensor) -> None:
    """Sets the linear paths of encoder and decoder to the principal components of image patches.

    patches: [n, 3, 8, 8] in 0..1, n >= 192 at least; the components keep an orthonormal basis, so D(E(x)) projects.
    """
    flat = (patches - 0.5).flatten(1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    basis = vectors[:, -autoencoder.mean.numel() :].flip(1).T.float()  # [c, 192], strongest first
    with torch.no_grad():
        autoencoder.encoder.linear.weight.copy_(basis.view_as(autoencoder.encoder.linear.weight))
        autoencoder.encoder.linear.bias.copy_(-(basis @ mean.float()))
        autoencoder.decoder.linear.weight.copy_(basis.T.reshape_as(autoencoder.decoder.linear.weight))
        autoencoder.decoder.linear.bias.copy_(mean.float())


@torch.no_grad()
def measure_latents(autoencoder: Autoencoder, images: Tensor) -> None:
    """Sets the whitening statistics from images [n, 3, h, w]: mean and standard deviation per channel."""
    z = autoencoder.encoder(images - 0.5)
    autoencoder.mean.copy_(z.mean((0, 2, 3)))
    autoencoder.std.copy_(z.std((0, 2, 3)).clamp_min(1e-3))
