"""A tiny FLUX.1 of ComfyUI's own classes with random weights, and what it is sampled with.

In a server's custom_nodes this file brings loaders of it, where a user would have real ones.
"""

import hashlib

import comfy.ldm.models.autoencoder
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
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
    place = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(made.eval(), place, torch.device("cpu"))


def text(seed=3, tokens=5):
    """A CONDITIONING as Clip Text Encode and Flux Guidance give it."""
    random = torch.Generator().manual_seed(seed)
    states, pooled = torch.randn(1, tokens, 24, generator=random), torch.randn(1, 16, generator=random)
    return [[states, {"pooled_output": pooled, "guidance": 2.5}]]


def latent(seed=5, size=(6, 8), batch=1):
    """A LATENT as VAE Encode gives it."""
    return {"samples": torch.randn(batch, 16, *size, generator=torch.Generator().manual_seed(seed))}


VAE = {"double_z": True, "z_channels": 16, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
       "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip


class Words:
    """The same random tokens for the same words."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, words):
        return text(int(hashlib.sha256(words.encode()).hexdigest()[:8], 16))


class Part:
    FUNCTION, CATEGORY = "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


class TinyFlux(Part):
    RETURN_TYPES = ("MODEL",)

    def run(self):
        return (model(),)


class TinyFluxClip(Part):
    RETURN_TYPES = ("CLIP",)

    def run(self):
        return (Words(),)


class TinyFluxVae(Part):
    RETURN_TYPES = ("VAE",)

    def run(self):
        sizes = {"ddconfig": VAE, "embed_dim": 16}
        state = randomised(comfy.ldm.models.autoencoder.AutoencoderKL(**sizes), 2)
        return (comfy.sd.VAE(sd=state, config={"params": sizes}),)


NODE_CLASS_MAPPINGS = {"TinyFlux": TinyFlux, "TinyFluxClip": TinyFluxClip, "TinyFluxVae": TinyFluxVae}
