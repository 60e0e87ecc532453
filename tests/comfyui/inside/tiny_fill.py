"""A custom node of the tests: a tiny FLUX.1 Fill and FLUX.1 with their text encoders and VAE, where a user would have
real ones. The networks have the sizes of the recorded LoRAs (tests/fixtures/moelora).

The server finds this file in its custom_nodes. The models count their calls in the file calls.txt beside that folder.
"""

import hashlib
from pathlib import Path

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch

CALLS = Path(__file__).resolve().parents[1] / "calls.txt"
SETTINGS = {
    "image_model": "flux", "in_channels": 96, "out_channels": 16, "vec_in_dim": 40, "context_in_dim": 48,
    "hidden_size": 64, "mlp_ratio": 4.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3, "axes_dim": [8, 12, 12],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip


class Words:
    """The same random tokens for the same words."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        random = torch.Generator().manual_seed(seed)
        words = torch.randn(1, 5, SETTINGS["context_in_dim"], generator=random)
        return [[words, {"pooled_output": torch.randn(1, SETTINGS["vec_in_dim"], generator=random)}]]


class Vae:
    """8x8 pixels to 16 numbers and back."""

    mix = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(3)))[0]

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1), 8)
        return torch.einsum("oc,bchw->bohw", self.mix, small)

    def decode(self, latent):
        small = torch.einsum("oc,bohw->bchw", self.mix, latent)
        return torch.nn.functional.interpolate(small, scale_factor=8).movedim(1, -1).clamp(0, 1)


def count(apply, args):
    with CALLS.open("a") as file:
        file.write(f"{len(args['input'])}\n")
    return apply(args["input"], args["timestep"], **args["c"])


def model(kind, **changes):
    config = kind({**SETTINGS, **changes, "dtype": torch.float32})
    config.manual_cast_dtype = None
    made = comfy.model_base.Flux(config, device="cpu")
    random = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) / parameter.shape[-1] ** 0.5
    made = comfy.model_patcher.ModelPatcher(
        made.eval().requires_grad_(False), comfy.model_management.get_torch_device(), torch.device("cpu")
    )
    made.set_model_unet_function_wrapper(count)
    return made


class Part:
    FUNCTION, CATEGORY = "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


class TinyFill(Part):
    RETURN_TYPES = ("MODEL",)

    def run(self):
        return (model(comfy.supported_models.FluxInpaint),)


class TinyDev(Part):
    RETURN_TYPES = ("MODEL",)

    def run(self):
        return (model(comfy.supported_models.Flux, in_channels=16),)


class TinyWords(Part):
    RETURN_TYPES = ("CLIP",)

    def run(self):
        return (Words(),)


class TinyPixels(Part):
    RETURN_TYPES = ("VAE",)

    def run(self):
        return (Vae(),)


NODE_CLASS_MAPPINGS = {"TinyFill": TinyFill, "TinyDev": TinyDev, "TinyWords": TinyWords, "TinyPixels": TinyPixels}
