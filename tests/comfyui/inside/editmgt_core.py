"""A tiny Stable Diffusion of ComfyUI's own classes with random weights: what EditMGT must leave alone."""

import comfy.ldm.models.autoencoder
import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.supported_models
import torch

import nodes

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 24, "num_heads": 2, "use_spatial_transformer": True,
    "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False, "legacy": False,
    "dtype": torch.float32,
}  # fmt: skip
SIZES = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
         "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip


def randomised(module, seed):
    random = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=random) * 0.5 / max(v.shape[-1], 1) ** 0.5
            for k, v in module.state_dict().items() if v.is_floating_point()}  # fmt: skip


def _model():
    made = comfy.model_base.BaseModel(comfy.supported_models.SD15(dict(UNET)), device="cpu")
    made.diffusion_model.load_state_dict(randomised(made.diffusion_model, 1))
    return comfy.model_patcher.ModelPatcher(made.eval(), torch.device("cpu"), torch.device("cpu"))


def _vae():
    sizes = {"ddconfig": SIZES, "embed_dim": 4}
    state = randomised(comfy.ldm.models.autoencoder.AutoencoderKL(**sizes), 2)
    return comfy.sd.VAE(sd=state, config={"params": sizes})


MODEL, VAE = _model(), _vae()


def run(picture):
    """[latent, sampled, decoded, decoded by tiles] by the core's nodes."""
    words = torch.randn(1, 77, 24, generator=torch.Generator().manual_seed(3))
    text = [[words, {"pooled_output": None}]]
    latent = nodes.VAEEncode().encode(VAE, picture)[0]
    made = nodes.common_ksampler(MODEL, 5, 2, 2.0, "euler", "simple", text, [[-words, {}]], latent, denoise=0.8)[0]
    return [latent["samples"], made["samples"], nodes.VAEDecode().decode(VAE, made)[0],
            nodes.VAEDecodeTiled().decode(VAE, made, 64, 16)[0]]  # fmt: skip
