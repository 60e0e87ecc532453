"""A BlazeEdit model of a few thousand random weights, for tests of what surrounds the network."""

from dataclasses import replace

import torch

from editkit.models.blazeedit.config import CodecConfig, UViTConfig, config
from editkit.models.blazeedit.model import BlazeEdit

CODEC = CodecConfig((8, 12), 1, patch=4, norm=False, linear_path=True)
CONFIG = replace(
    config("blazeedit-small"), name="tiny", latent_channels=6, encoder=CODEC, decoder=CODEC, light_decoder=CODEC,
    condition=replace(CODEC, linear_path=False), condition_channels=8,
    denoiser=UViTConfig((8, 12, 16), (1, 1, 1), time_channels=16, head_channels=8),
    gain_head=UViTConfig((8, 12, 16), (1, 1, 1), head_channels=8, patch=2), gain_size=32,
)  # fmt: skip


def tiny_model(seed: int = 0) -> BlazeEdit:
    """Every layer random, those that start at zero too, so that a wrong wire shows."""
    torch.manual_seed(seed)
    model = BlazeEdit(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return model.requires_grad_(False).eval()
