"""LoRA files for the tiny EditMGT, as the official trainer writes them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from editkit.models.editmgt.lora import CONFIG
from editkit.tests.tiny_editmgt_release import TRANSFORMER

FILE = "pytorch_lora_weights.safetensors"
WIDTH, RANK = TRANSFORMER.width, 2
SINGLE = "single_transformer_blocks"
LAYERS = ("transformer_blocks.0.attn.to_q", f"{SINGLE}.0.attn.to_v", f"{SINGLE}.1.attn.to_k")


def write(folder: Path, seed: int = 0, layers=LAYERS, width: int = WIDTH, **config) -> None:
    """A file of random halves, in a folder of its own, with what else its lora_config.json says."""
    draw, state = torch.Generator().manual_seed(seed), {}
    for name in layers:
        state[f"unet._orig_mod.{name}.lora_A.weight"] = torch.randn(RANK, width, generator=draw)
        state[f"unet._orig_mod.{name}.lora_B.weight"] = torch.randn(width, RANK, generator=draw)
    folder.mkdir(parents=True)
    save_file(state, folder / FILE)
    (folder / CONFIG).write_text(json.dumps({"r": RANK, "lora_alpha": RANK} | config))
