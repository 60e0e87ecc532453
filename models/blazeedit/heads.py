"""Light networks for what is delivered as a map: a gain map for shadows and light, a colour map for tone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import UViTConfig
from .denoiser import UViT
from .layers import zeroed

MAX_LOG_GAIN = 2.5  # e^2.5 = 12: deeper shadows hold nothing that could be lifted


class GainHead(nn.Module):
    """Predicts the log-gain, in linear light, that takes a shadow or a cast of light away.

    Sees a small picture and τ · m, and knows the task by τ alone: for removal the shadow that the object in the
    mask casts, for relighting every shadow.
    """

    def __init__(self, cfg: UViTConfig, *, operations=nn):
        super().__init__()
        self.net = UViT(7, 3, cfg, operations=operations)

    def forward(self, image: Tensor, signal: Tensor) -> Tensor:
        """image: [b, 3, h, w] sRGB 0..1, signal = τ · m: [b, h, w]. Returns log-gain [b, 3, h, w]."""
        log = torch.log(image.clamp_min(0.0) + 0.05) / 3 + 0.5
        raw = self.net(torch.cat([image - 0.5, log, signal[:, None]], dim=1))
        return MAX_LOG_GAIN * torch.tanh(raw / MAX_LOG_GAIN)


class ToneHead(nn.Module):
    """Predicts from a thumbnail and its stretch how far to stretch, and a small quadratic colour map on top.

    image, stretched: [b, 3, 64, 64]. Returns the blend w [b, 1] in 0..1 and the residual map [b, 10, 3].
    """

    def __init__(self, channels: int, *, operations=nn):
        super().__init__()
        c = channels
        self.conv1 = operations.Conv2d(6, c, 4, stride=4)
        self.conv2 = operations.Conv2d(c, 2 * c, 3, stride=2, padding=1)
        self.conv3 = operations.Conv2d(2 * c, 2 * c, 3, stride=2, padding=1)
        self.hidden = operations.Linear(2 * c + 2 * 3 * 16, 2 * c)
        self.out = zeroed(operations.Linear(2 * c, 1 + 30))

    def forward(self, image: Tensor, stretched: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        h = F.silu(self.conv1(torch.cat([image, stretched], dim=1) - 0.5))
        h = F.silu(self.conv3(F.silu(self.conv2(h)))).mean((2, 3))
        features = torch.cat([h, soft_histogram(image), soft_histogram(stretched)], dim=1)
        h = F.dropout(F.silu(self.hidden(F.dropout(features, dropout))), dropout)
        out = self.out(h)
        return torch.sigmoid(out[:, :1]), 0.2 * out[:, 1:].unflatten(1, (10, 3))


def soft_histogram(image: Tensor, bins: int = 16) -> Tensor:
    """Triangular-kernel histogram per channel, each summing to 4. image: [b, 3, h, w]. Returns [b, 3 * bins]."""
    centres = torch.linspace(0, 1, bins, device=image.device, dtype=image.dtype)
    distance = (image.flatten(2)[..., None] - centres).abs() * (bins - 1)
    return 4 * (1 - distance).clamp_min(0).mean(2).flatten(1)
