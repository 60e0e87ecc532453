"""The light network behind what is delivered as a gain map: lifted shadows and relighting."""

import torch
from torch import Tensor, nn

from .config import UViTConfig
from .denoiser import UViT

MAX_LOG_GAIN = 2.5  # e^2.5 = 12: deeper shadows hold nothing that could be lifted


class GainHead(nn.Module):
    """Predicts the log-gain, in linear light, that takes a shadow or a cast of light away.

    Sees a small picture and τ · m. BlazeEdit holds two: one finds the shadow that the object in the mask casts
    (removal), the other every shadow (relighting).
    """

    def __init__(self, cfg: UViTConfig, *, operations=nn):
        super().__init__()
        self.net = UViT(7, 3, cfg, operations=operations)

    def forward(self, image: Tensor, signal: Tensor) -> Tensor:
        """image: [b, 3, h, w] sRGB 0..1, signal = τ · m: [b, h, w]. Returns log-gain [b, 3, h, w]."""
        log = torch.log(image.clamp_min(0.0) + 0.05) / 3 + 0.5
        raw = self.net(torch.cat([image - 0.5, log, signal[:, None]], dim=1))
        return MAX_LOG_GAIN * torch.tanh(raw / MAX_LOG_GAIN)
