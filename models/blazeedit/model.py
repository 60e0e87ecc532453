"""BlazeEdit as one module: frozen autoencoder, condition encoder f_θ, U-ViT denoiser, and the map heads."""

import torch
from torch import Tensor, nn

from .codec import Autoencoder, Encoder
from .config import BlazeEditConfig
from .denoiser import UViT
from .heads import GainHead
from .schedule import x0_from_epsilon


class BlazeEdit(nn.Module):
    """The system of one configuration. `light` chooses the light decoder (what is shipped) or the full one."""

    def __init__(self, config: BlazeEditConfig, *, light: bool = True, operations=nn):
        super().__init__()
        self.config = config
        z, f = config.latent_channels, config.condition_channels
        decoder = config.light_decoder if light else config.decoder
        self.autoencoder = Autoencoder(z, config.encoder, decoder, operations=operations)
        self.condition = Encoder(4, f, config.condition, operations=operations)
        self.denoiser = UViT(z + f + z * config.guess, z, config.denoiser, operations=operations)
        head = config.gain_head  # two networks of one kind: trained as one, each task held the other back
        self.shadow_head = GainHead(head, operations=operations) if head else None
        self.relight_head = GainHead(head, operations=operations) if head else None

    def features(self, image: Tensor, mask: Tensor, tau: float | Tensor) -> Tensor:
        """f_θ(concat[x, τ·m]), Eq. 2. image: [b, 3, h, w], mask: [b, h, w] of 0 and 1. Returns [b, f, h/8, w/8]."""
        signal = mask * (tau.view(-1, 1, 1) if isinstance(tau, Tensor) else tau)
        return self.condition(torch.cat([image - 0.5, signal[:, None]], dim=1))

    def conditions(
        self, image: Tensor, mask: Tensor, tau: float | Tensor, guess: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """`features` and, for a model that starts from it, the latent of the first guess [b, 3, h, w]."""
        latent = self.autoencoder.encode(guess) if self.config.guess else None
        return self.features(image, mask, tau), latent

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """The size at which a working picture is decoded: its own."""
        return height, width

    def predict(self, noisy: Tensor, t: Tensor, features: Tensor, guess: Tensor | None = None) -> Tensor:
        """What the denoiser is trained on: ε, or x0 as a residual to the guess. All [b, c, h/8, w/8], t: [b]."""
        parts = [noisy, features] if guess is None else [noisy, features, guess]
        out = self.denoiser(torch.cat(parts, dim=1), t)
        return out if guess is None else out + guess

    def denoise(self, noisy: Tensor, t: Tensor, features: Tensor, guess: Tensor | None = None) -> Tensor:
        """x0 from noisy latents, whatever the prediction type."""
        out = self.predict(noisy, t, features, guess)
        if self.config.prediction == "epsilon":
            return x0_from_epsilon(self.config.schedule, noisy, out, t)
        return out
