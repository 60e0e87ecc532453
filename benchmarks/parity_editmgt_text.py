"""The families `editmgt_vq` and `editmgt_gemma2` of `bench parity`: what lies around EditMGT's transformer."""

from collections.abc import Iterator
from pathlib import Path

import torch

from ..models.editmgt import checkpoint, files, gemma
from .parity import Quantity, case, compared, read

CONFIG, WEIGHTS, IO = "config.json", "weights.safetensors", "io.safetensors"
PICTURE, STATES = 1e-4, 1e-5  # tolerances


@case("editmgt_vq", "vq", files=(CONFIG, WEIGHTS, IO))
def vq(folder: Path) -> Iterator[Quantity]:
    """A picture to latents and ids, and the recorded ids back to a picture, unclipped as it was recorded."""
    tensors, data = read(folder / IO), files.read_json(folder / CONFIG)
    model = checkpoint.build_vq(data, read(folder / WEIGHTS), folder)
    with torch.inference_mode():
        latents, ids = model.latents(tensors["image"]), model.encode(tensors["image"])
        recorded = tensors["indices"].view_as(ids)
        decoded = model.raw(model.vectors(recorded))
    yield compared("indices", ids, recorded, 0, "exact")
    yield compared("latents", latents, tensors["latents"], PICTURE)
    yield compared("decoded", decoded, tensors["decoded"], PICTURE)


@case("editmgt_gemma2", "softcap", files=(CONFIG, WEIGHTS, IO))
def softcap(folder: Path) -> Iterator[Quantity]:
    """The states of a left-padded prompt, its pads taken from memory as the nodes do."""
    tensors, config = read(folder / IO), gemma.read(files.read_json(folder / CONFIG))
    with torch.device("meta"):
        model = gemma.Gemma2(config)
    files.fit(model, gemma.weights(read(folder / WEIGHTS), config), folder, torch.float32)
    with torch.inference_mode():
        states = model(tensors["input_ids"].long())
    name = "hidden_m2_softcap50_official"
    yield compared(name, states, tensors[name], STATES, "rel")
