"""SwiftEdit's networks with a few thousand random weights, and its release's layout, for tests."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from editkit.models.swiftedit import processor
from editkit.models.swiftedit.branch import ImageProjection

CONTEXT, EMBEDDING = 48, 40
CONFIG = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": [32, 64], "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "attention_head_dim": [1, 1],
    "cross_attention_dim": CONTEXT, "use_linear_projection": True,
}  # fmt: skip
CONTAINER = "ip_adapter_ckpt-90k/ip_adapter.bin"


def tiny_unet(seed: int = 0, with_branch: bool = False):
    """diffusers' UNet of two levels; with_branch: our processors are installed, with random weights of their own."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_config(CONFIG)
    for made in processor.install(unet).values() if with_branch else ():
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return unet.requires_grad_(False).eval()


def tiny_projection(seed: int = 0) -> ImageProjection:
    """The projection of a CLIP embedding of 40 numbers to 4 tokens of 48."""
    torch.manual_seed(seed)
    return ImageProjection(EMBEDDING, CONTEXT).requires_grad_(False).eval()


def container(unet, projection) -> dict[str, torch.Tensor]:
    """The released container: everything of the generator, and every layer of the branch under both of its names."""
    state = {f"unet.{k}": v for k, v in unet.state_dict().items()}
    state |= {f"image_proj_model.{k}": v for k, v in projection.state_dict().items()}
    for number, made in enumerate(unet.attn_processors.values()):
        if isinstance(made, processor.ImageAttention):
            state |= {f"adapter_modules.{number}.{k}": v for k, v in made.state_dict().items()}
    return state


def write_unet(folder: Path, unet) -> None:
    """A diffusers folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"} | CONFIG))
    weights = {k: v for k, v in unet.state_dict().items() if ".processor." not in k}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")


def write_release(folder: Path) -> Path:
    """A SwiftEdit release in the published layout. Returns its folder."""
    generator = tiny_unet(2, with_branch=True)
    write_unet(folder / "inverse_ckpt-120k" / "unet_ema", tiny_unet(1))
    write_unet(folder / "sbv2_0.5", generator)
    (folder / CONTAINER).parent.mkdir()
    torch.save(container(generator, tiny_projection()), folder / CONTAINER)
    return folder
