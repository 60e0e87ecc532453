"""A tiny SwiftEdit with random weights as files, and what a plain diffusers loop of the same weights makes of them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CONTEXT, EMBEDDING, TOKENS = 48, 40, 77
UNET = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": (32, 64, 64), "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": CONTEXT,
    "attention_head_dim": (2, 4, 4), "use_linear_projection": True, "norm_num_groups": 32,
}  # fmt: skip
VAE = {
    "block_out_channels": (32, 32, 32, 32), "down_block_types": ("DownEncoderBlock2D",) * 4, "layers_per_block": 1,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "latent_channels": 4, "norm_num_groups": 32, "sample_size": 64,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_channels": 3,
    "image_size": 224, "patch_size": 32, "projection_dim": EMBEDDING, "hidden_act": "gelu",
    "model_type": "clip_vision_model",
}  # fmt: skip


def seeded(module: torch.nn.Module, seed: int, half: bool = False) -> torch.nn.Module:
    """The module with random weights in which nothing cancels: norms and biases are not 1 and 0.

    half: weights that are exact in fp16, in which ComfyUI keeps CLIP.
    """
    random = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=random)
        spread = parameter.shape[1:].numel() ** -0.5 if parameter.ndim > 1 else 0.2
        shift = 1.0 if parameter.ndim == 1 and parameter.data.mean() > 0.5 else 0.0
        parameter.data = noise * spread + shift
        if half:
            parameter.data = parameter.data.half().float()
    return module.requires_grad_(False).eval()


def prompt(text: str) -> Tensor:
    """What stands for a text encoder: the same random tokens for the same words, [1, 77, 48]."""
    seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    return torch.randn(1, TOKENS, CONTEXT, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Tiny:
    """The networks, in plain diffusers, and the folder that holds them as files."""

    folder: Path
    inversion: torch.nn.Module
    generator: torch.nn.Module
    vae: torch.nn.Module
    vision: torch.nn.Module
    branch: torch.nn.Module


def build(folder: Path, kind: str = "swiftbrush_v2") -> Tiny:
    """Makes the networks and writes folder/release/tiny as a release, folder/vae.safetensors and folder/vision."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from editkit.models.swiftedit import branch as branches
    from editkit.models.swiftedit import checkpoint, processor

    inversion, generator = (seeded(UNet2DConditionModel(**UNET), seed) for seed in (1, 2))
    vae = seeded(AutoencoderKL(**VAE), 3)
    vision = seeded(CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)), 4, half=True)
    release = folder / "release" / "tiny"
    for net, place in ((inversion, "inverse_ckpt/unet_ema"), (generator, "sbv2_0.5")):
        checkpoint.save_unet(release / place, UNET, net.state_dict())
    projection = seeded(branches.ImageProjection(EMBEDDING, CONTEXT), 5)
    for number, layer in enumerate(processor.install(generator).values()):
        seeded(layer, 6 + number)
    state = {f"image_proj_model.{k}": v for k, v in projection.state_dict().items()}
    state |= {f"unet.{k}": v for k, v in generator.state_dict().items() if ".processor." in k}
    checkpoint.save_branch(release, state, kind)
    save_file(vae.state_dict(), folder / "vae.safetensors")
    save_file({k: v.contiguous() for k, v in vision.state_dict().items()}, folder / "vision.safetensors")
    (folder / "vision.json").write_text(json.dumps(VISION), encoding="utf-8")
    return Tiny(folder, inversion, generator, vae, vision, projection)


def photograph(height: int, width: int, count: int = 1) -> Tensor:
    """Smooth random pictures [count, height, width, 3] in 0..1."""
    random = torch.Generator().manual_seed(height * width)
    small = torch.rand(count, 3, 9, 11, generator=random)
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)


def half_mask(height: int, width: int) -> Tensor:
    """A mask [1, height, width]: white on the left, grey in a strip, black on the right."""
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2], mask[..., width // 2 : width // 2 + width // 8] = 1.0, 0.5
    return mask


@torch.no_grad()
def embedding(tiny: Tiny, image: Tensor) -> Tensor:
    """CLIP's embedding of the whole picture squeezed into 224 px."""
    pixels = torch.nn.functional.interpolate(image.movedim(-1, 1), (224, 224), mode="bicubic", antialias=True)
    pixels = (pixels * 255).clamp(0, 255).round() / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return tiny.vision(pixel_values=(pixels - mean) / std).image_embeds


@torch.no_grad()
def loop(tiny: Tiny, image: Tensor, source: str, edit: str, aram, kind: str, mask: Tensor | None = None) -> dict:
    """The whole edit in plain diffusers on a picture [1, h, w, 3] whose sides are multiples of 8.

    Returns noise [2, 4, h, w] (source, edit), M, and both latents in the VAE's scale, and the decoded edit.
    """
    from editkit.models.swiftedit import edit as steps
    from editkit.models.swiftedit import generators, processor
    from editkit.models.swiftedit import mask as guided
    from editkit.models.swiftedit.aram import latent_mask

    scale, generator = generators.LATENT_SCALE, generators.generator(kind)
    z = tiny.vae.encode(image.movedim(-1, 1) * 2 - 1).latent_dist.mode() * scale
    texts = prompt(source), prompt(edit)

    def network(unet):
        return lambda x, t, context: unet(x, t, context).sample

    noise = steps.invert(network(tiny.inversion), z, *texts)
    m = guided.self_guided(noise.source, noise.edit) if mask is None else latent_mask(mask, tuple(z.shape[-2:]))
    tokens = tiny.branch(embedding(tiny, image))
    made = steps.generate(
        network(tiny.generator), lambda m, a: processor.rescaled(tiny.generator, m, a), z, noise.source,
        *(torch.cat([text, tokens], 1) for text in texts), m, aram, generator,
    )  # fmt: skip
    decoded = tiny.vae.decode(made.edit / scale).sample.movedim(1, -1)
    return {
        "noise": torch.cat([noise.source, noise.edit]), "mask": m, "edit": made.edit / scale,
        "reconstruction": made.reconstruction / scale, "picture": (decoded / 2 + 0.5).clamp(0, 1),
    }  # fmt: skip


def difference(ours, reference) -> float:
    """max|d| / max|reference|."""
    ours, reference = (np.asarray(x, dtype=np.float64) for x in (ours, reference))
    return float(np.abs(ours - reference).max() / np.abs(reference).max())
