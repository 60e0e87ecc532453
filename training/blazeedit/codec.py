"""Stages `autoencoder` (encoder and full decoder) and `decoder` (the light one, with the encoder frozen)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.blazeedit.codec import Autoencoder, measure_latents, start_at_pca
from ...models.blazeedit.config import BlazeEditConfig
from ..loop import Stage
from ..store import Store
from .sheets import grid
from .sources import Sources, crops


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Per-image PSNR in dB of [b, c, h, w] in 0..1."""
    return -10 * torch.log10(
        F.mse_loss(a.float(), b.float(), reduction="none").mean((1, 2, 3)).clamp_min(1e-10)
    )


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences of [b, c, h, w]."""
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 + 8 MSE + 0.5 L1 of gradients; the gradient term keeps what L1 alone would smooth away."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(out), gradients(target), strict=True))
    return F.l1_loss(out, target) + 8 * F.mse_loss(out, target) + 0.5 * edges


def hold_linear_paths(autoencoder: Autoencoder) -> None:
    """Freezes the principal components: the learned part corrects them, and Adam's steps would only unsettle them."""
    autoencoder.encoder.linear.requires_grad_(False)
    autoencoder.decoder.linear.requires_grad_(False)


class AutoencoderStage(Stage):
    """Encoder and full decoder. Half of the batch is decoded from latents with 5 % noise, so that the decoder
    forgives a denoiser's small errors."""

    name = "autoencoder"

    def __init__(self, config: BlazeEditConfig, sources: Sources, store: Store):
        super().__init__()
        self.sources = sources
        self.autoencoder = Autoencoder(config.latent_channels, config.encoder, config.decoder)
        if config.encoder.linear_path:
            patches = crops(sources.photos, np.random.default_rng(1), 4000, 32)
            patches = F.unfold(torch.from_numpy(patches), 8, stride=8).transpose(1, 2).reshape(-1, 3, 8, 8)
            start_at_pca(self.autoencoder, patches)
            hold_linear_paths(self.autoencoder)
        self.held = torch.from_numpy(crops(sources.held, np.random.default_rng(2), 24, 256))
        with torch.no_grad():
            measure_latents(
                self.autoencoder, torch.from_numpy(crops(sources.photos, np.random.default_rng(3), 64, 128))
            )
        store.load_part("autoencoder", self.autoencoder)

    def parts(self):
        return {"autoencoder": self.autoencoder}

    def batch(self, rng, count, size):
        return (torch.from_numpy(crops(self.sources.photos, rng, count, size)),)

    def forward(self, role: str, image: Tensor) -> dict[str, Tensor]:
        z = self.autoencoder.encode(image)
        half, spread = len(z) // 2, z.detach().std((0, 2, 3), keepdim=True)
        noisy = torch.cat([z[:half] + 0.05 * spread * torch.randn_like(z[:half]), z[half:]])
        out = self.autoencoder.decode(noisy)
        return {"loss": reconstruction_loss(out.float(), image)}

    def validate(self):
        device = self.autoencoder.mean.device
        out = [self.autoencoder.decode(self.autoencoder.encode(x.to(device))) for x in self.held.split(8)]
        self.last = torch.cat(out).float().clamp(0, 1).cpu()
        value = psnr(self.last, self.held).mean().item()
        return {"psnr": value, "loss": reconstruction_loss(self.last, self.held).item(), "score": -value}

    def sheet(self):
        return grid([self.held[:6], self.last[:6]])


class DecoderStage(AutoencoderStage):
    """The light decoder for the frozen encoder (paper, section 3.1, after MobileDiffusion).

    The encoder changes no more from here on, so the statistics that whiten its latents are measured first.
    """

    name = "decoder"

    def __init__(self, config: BlazeEditConfig, sources: Sources, store: Store):
        Stage.__init__(self)
        self.sources = sources
        self.full = Autoencoder(config.latent_channels, config.encoder, config.decoder)
        store.load_part("autoencoder", self.full)
        self.full.requires_grad_(False)
        measure_latents(self.full, torch.from_numpy(crops(sources.photos, np.random.default_rng(3), 64, 128)))
        self.autoencoder = Autoencoder(config.latent_channels, config.encoder, config.light_decoder)
        self.autoencoder.encoder.load_state_dict(self.full.encoder.state_dict())
        self.autoencoder.encoder.requires_grad_(False)
        self.autoencoder.mean.copy_(self.full.mean)
        self.autoencoder.std.copy_(self.full.std)
        if config.decoder.linear_path:
            self.autoencoder.decoder.linear.load_state_dict(self.full.decoder.linear.state_dict())
            hold_linear_paths(self.autoencoder)
        self.held = torch.from_numpy(crops(sources.held, np.random.default_rng(2), 24, 256))

    def parts(self):
        return {"light": self.autoencoder}

    def validate(self):
        measures = super().validate()
        device = self.autoencoder.mean.device
        full = [
            self.full.decode(self.full.encode(x.to(device))).float().clamp(0, 1).cpu()
            for x in self.held.split(8)
        ]
        return {**measures, "behind_full": psnr(torch.cat(full), self.held).mean().item() - measures["psnr"]}
