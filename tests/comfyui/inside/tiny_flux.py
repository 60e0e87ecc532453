"""A tiny FLUX.1 of ComfyUI's own classes with random weights, and what it is sampled with."""

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch

CONFIG = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 16, "context_in_dim": 24,
    "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2,
    "axes_dim": [8, 8, 8], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
    "dtype": torch.float32,
}  # fmt: skip


def randomised(module, seed):
    """Random values for every parameter; the scales of norms near 1."""
    random = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=random) / v.shape[-1] ** 0.5 + ("norm" in k and v.ndim == 1)
            for k, v in module.state_dict().items()}  # fmt: skip


def model(seed=1):
    """A MODEL as a loader gives it."""
    made = comfy.model_base.Flux(comfy.supported_models.Flux(dict(CONFIG)), device="cpu")
    made.diffusion_model.load_state_dict(randomised(made.diffusion_model, seed))
    return comfy.model_patcher.ModelPatcher(made.eval(), torch.device("cpu"), torch.device("cpu"))


def text(seed=3, tokens=5):
    """A CONDITIONING as Clip Text Encode and Flux Guidance give it."""
    random = torch.Generator().manual_seed(seed)
    states, pooled = torch.randn(1, tokens, 24, generator=random), torch.randn(1, 16, generator=random)
    return [[states, {"pooled_output": pooled, "guidance": 2.5}]]


def latent(seed=5, size=(6, 8), batch=1):
    """A LATENT as VAE Encode gives it."""
    return {"samples": torch.randn(batch, 16, *size, generator=torch.Generator().manual_seed(seed))}
