"""A custom node of the tests: CLIP, VAE and CLIP vision of the tiny SwiftEdit, where a user would have real ones.

The server finds this file in its custom_nodes, and the weights in the folder tiny/ beside that.
"""

import hashlib
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import torch
from safetensors.torch import load_file

TINY = Path(__file__).resolve().parents[1] / "tiny"
SIZES = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
         "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip


class Words:
    """The same random tokens for the same words."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        tokens = torch.randn(1, 77, 48, generator=torch.Generator().manual_seed(seed))
        return [[tokens, {"pooled_output": None}]]


class Part:
    FUNCTION, CATEGORY = "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


class TinyClip(Part):
    RETURN_TYPES = ("CLIP",)

    def run(self):
        return (Words(),)


class TinyVae(Part):
    RETURN_TYPES = ("VAE",)

    def run(self):
        parameters = {"params": {"ddconfig": SIZES, "embed_dim": 4}}
        return (comfy.sd.VAE(sd=load_file(TINY / "vae.safetensors"), config=parameters),)


class TinyVision(Part):
    RETURN_TYPES = ("CLIP_VISION",)

    def run(self):
        made = comfy.clip_vision.ClipVisionModel(str(TINY / "vision.json"))
        made.load_sd(load_file(TINY / "vision.safetensors"))
        return (made,)


NODE_CLASS_MAPPINGS = {"TinyClip": TinyClip, "TinyVae": TinyVae, "TinyVision": TinyVision}
