"""What each file of a bundle computes: float NHWC tensors by name in, a dictionary of them out.

All sizes are fixed, the batch is one. Pictures are sRGB in 0..1, masks 0 or 1, time is [t, α, σ] of one step.
"""

import torch
from torch import Tensor, nn

from ..blazeedit.heads import MAX_LOG_GAIN
from ..blazeedit.model import BlazeEdit
from .forms import mobile


def nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class Encode(nn.Module):
    """f_θ(concat[x, τ·m]) and, where the model starts from a first guess, its latent E(guess)."""

    def __init__(self, model: BlazeEdit):
        super().__init__()
        self.condition = mobile(model.condition)
        self.encoder = mobile(model.autoencoder.encoder) if model.config.guess else None
        self.register_buffer("mean", model.autoencoder.mean[None, :, None, None].clone())
        self.register_buffer("scale", 1 / model.autoencoder.std[None, :, None, None])

    def forward(
        self, image: Tensor, mask: Tensor, tau: Tensor, guess: Tensor | None = None
    ) -> dict[str, Tensor]:
        """image, guess: [1, h, w, 3], mask: [1, h, w, 1], tau: [1, 1]. Returns [1, h/8, w/8, c] each."""
        signal = nchw(mask) * tau[:, :, None, None]
        out = {"features": nhwc(self.condition(torch.cat([nchw(image) - 0.5, signal], dim=1)))}
        if self.encoder is not None:
            out["guess_latent"] = nhwc((self.encoder(nchw(guess) - 0.5) - self.mean) * self.scale)
        return out


class Denoise(nn.Module):
    """One step: noise added to the last estimate (zeros at first), and x0 predicted from that."""

    def __init__(self, model: BlazeEdit):
        super().__init__()
        self.net = mobile(model.denoiser)
        self.epsilon = model.config.prediction == "epsilon"

    def forward(
        self,
        latent: Tensor,
        noise: Tensor,
        time: Tensor,
        features: Tensor,
        guess_latent: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """latent, noise, guess_latent: [1, h, w, c], features: [1, h, w, f], time: [1, 3]."""
        t, alpha, sigma = time[:, 0], time[:, 1:2, None, None], time[:, 2:3, None, None]
        noisy = alpha * nchw(latent) + sigma * nchw(noise)
        parts = [noisy, nchw(features)] + ([] if guess_latent is None else [nchw(guess_latent)])
        out = self.net(torch.cat(parts, dim=1), t)
        if guess_latent is not None:
            out = out + nchw(guess_latent)
        if self.epsilon:
            out = (noisy - sigma * out) / alpha
        return {"latent": nhwc(out)}


class Decode(nn.Module):
    """Latents to a picture, not clamped."""

    def __init__(self, model: BlazeEdit):
        super().__init__()
        self.net = mobile(model.autoencoder.decoder)
        self.register_buffer("mean", model.autoencoder.mean[None, :, None, None].clone())
        self.register_buffer("std", model.autoencoder.std[None, :, None, None].clone())

    def forward(self, latent: Tensor) -> dict[str, Tensor]:
        """latent: [1, h, w, c]. Returns image [1, 8h, 8w, 3]."""
        return {"image": nhwc(self.net(nchw(latent) * self.std + self.mean)) + 0.5}


class Gain(nn.Module):
    """A gain head: the log-gain in linear light that takes a shadow away."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.net = mobile(head.net)

    def forward(self, image: Tensor, mask: Tensor, tau: Tensor) -> dict[str, Tensor]:
        """image: [1, h, w, 3], mask: [1, h, w, 1], tau: [1, 1]. Returns log_gain [1, h, w, 3]."""
        x, signal = nchw(image), nchw(mask) * tau[:, :, None, None]
        log = torch.log(x.clamp_min(0.0) + 0.05) / 3 + 0.5
        raw = self.net(torch.cat([x - 0.5, log, signal], dim=1))
        return {"log_gain": nhwc(MAX_LOG_GAIN * torch.tanh(raw / MAX_LOG_GAIN))}
