"""Stable Diffusion's own networks with random weights, as a yardstick of speed: nothing is downloaded.

The configurations are those of the published models (1.5 inpainting, and 2.1), written out by hand.
"""

import torch

LATENT_CHANNELS, SCALE, TOKENS, TEXT_CHANNELS = 4, 8, 77, 768
SD21 = {
    "in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS, "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True, "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip


def vae(quick: bool = False, fill=None):
    """diffusers' AutoencoderKL as in SD1.5: 83.7 M parameters. quick: the same shape, a few thousand.

    fill: how it gets its weights, `lively` where the pictures matter.
    """
    from diffusers import AutoencoderKL

    channels = (32, 32, 32, 32) if quick else (128, 256, 512, 512)
    return (fill or _random)(lambda: AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels, layers_per_block=2, latent_channels=LATENT_CHANNELS, sample_size=512,
    ))  # fmt: skip


def unet(quick: bool = False):
    """diffusers' UNet2DConditionModel as in SD1.5-inpainting: 9 input channels, 859.5 M parameters."""
    from diffusers import UNet2DConditionModel

    channels = (32, 64, 64, 64) if quick else (320, 640, 1280, 1280)
    return _random(lambda: UNet2DConditionModel(
        sample_size=64, in_channels=9, out_channels=LATENT_CHANNELS, block_out_channels=channels,
        layers_per_block=2, cross_attention_dim=TEXT_CHANNELS, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    ))  # fmt: skip


def unet21(quick: bool = False, seed: int = 0, fill=None):
    """diffusers' UNet2DConditionModel as in SD2.1: 865.9 M parameters, weights as of `lively`."""
    from diffusers import UNet2DConditionModel

    tiny = {
        "block_out_channels": (32, 64, 64, 64),
        "attention_head_dim": (1, 2, 2, 2),
        "cross_attention_dim": 48,
    }
    config = SD21 | (tiny if quick else {})
    return (fill or lively)(lambda: UNet2DConditionModel(**config), seed)


def lively(build, seed: int = 0):
    """Builds with torch's own initialisation: seconds for 860 M weights, but what comes out depends on what goes in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().requires_grad_(False).eval()


def _random(build):
    """Builds on the meta device and fills with one repeated draw: initialising 860 M weights is slow."""
    with torch.device("meta"):
        model = build()
    model = model.to_empty(device="cpu").requires_grad_(False).eval()
    draw = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02
    for tensor in [*model.parameters(), *model.buffers()]:
        flat = tensor.data.view(-1)
        for start in range(0, flat.numel(), draw.numel()):
            part = flat[start : start + draw.numel()]
            part.copy_(draw[: part.numel()])
    return model


def jobs(vae_model, unet_model, size: int) -> dict:
    """What is timed: encoding the masked picture, one U-Net step without and with guidance, decoding."""
    latent = torch.randn(1, LATENT_CHANNELS, size // SCALE, size // SCALE)
    picture, text = torch.rand(1, 3, size, size) * 2 - 1, torch.randn(1, TOKENS, TEXT_CHANNELS)
    found = {"sd15 vae decode": lambda: vae_model.decode(latent).sample}
    if unet_model is not None:
        nine = torch.randn(1, 9, size // SCALE, size // SCALE)
        found |= {
            "sd15 vae encode": lambda: vae_model.encode(picture).latent_dist.mode(),
            "sd15 u-net step": lambda: unet_model(nine, 500, text).sample,
            "sd15 u-net step, guided": lambda: (
                unet_model(nine.repeat(2, 1, 1, 1), 500, text.repeat(2, 1, 1)).sample
            ),
        }
    return found
