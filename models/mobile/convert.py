"""PyTorch modules to .tflite files, one signature per canvas size; the sizes share their weights."""

from pathlib import Path

import torch
from torch import Tensor

from ..blazeedit.model import BlazeEdit
from ..errors import EditError
from . import graphs, packages
from .packages import quiet

DEFAULT_KEY = "serving_default"


def key(index: int, size: int) -> str:
    """The signature's name of the index-th canvas size."""
    return DEFAULT_KEY if index == 0 else f"size_{size}"


def modules(model: BlazeEdit) -> dict[str, torch.nn.Module]:
    """File name -> what it computes."""
    out = {
        "encoder": graphs.Encode(model), "denoiser": graphs.Denoise(model), "decoder": graphs.Decode(model),
    }  # fmt: skip
    for name in ("shadow", "relight"):
        head = getattr(model, f"{name}_head")
        if head is not None:
            out[name] = graphs.Gain(head)
    return out


def modules_of(config) -> list[str]:
    """The files of a bundle of that configuration, in order."""
    return ["encoder", "denoiser", "decoder", *(["shadow", "relight"] if config.gain_head else [])]


def outputs(name: str, model: BlazeEdit, size: int) -> dict[str, list[int]]:
    """The outputs of a file's network on a canvas of `size` px, with their shapes."""
    config, cells = model.config, size // 8
    latent = [1, cells, cells, config.latent_channels]
    guess = {"guess_latent": latent} if config.guess else {}
    return {
        "encoder": {"features": [1, cells, cells, config.condition_channels], **guess},
        "denoiser": {"latent": latent},
        "decoder": {"image": [1, size, size, 3]},
    }.get(name, {"log_gain": [1, size, size, 3]})


def inputs(name: str, model: BlazeEdit, size: int) -> dict[str, Tensor]:
    """Example inputs of a file's network on a canvas of `size` px: their names, order and shapes are the file's.

    Every one is a tensor of its own: of two that are the same object the converter makes one input.
    """
    config, cells = model.config, size // 8

    def picture(channels: int = 3) -> Tensor:
        return torch.zeros(1, size, size, channels)

    def map_of(channels: int) -> Tensor:
        return torch.zeros(1, cells, cells, channels)

    tau, time, c = torch.ones(1, 1), torch.tensor([[1.0, 0.5, 0.5]]), config.latent_channels
    if name == "encoder":
        out = {"image": picture(), "mask": picture(1), "tau": tau}
        return out | ({"guess": picture()} if config.guess else {})
    if name == "denoiser":
        out = {
            "latent": map_of(c),
            "noise": map_of(c),
            "time": time,
            "features": map_of(config.condition_channels),
        }
        return out | ({"guess_latent": map_of(c)} if config.guess else {})
    return (
        {"latent": map_of(c)} if name == "decoder" else {"image": picture(), "mask": picture(1), "tau": tau}
    )


def sizes_of(name: str, model: BlazeEdit, sizes: list[int]) -> list[int]:
    """The canvases of a file: those of the bundle, or the one that the gain heads look at."""
    return [model.config.gain_size] if name in ("shadow", "relight") else sizes


def check_sizes(sizes: list[int]) -> list[int]:
    """EditError for canvases that no network takes."""
    wrong = next((s for s in sizes if s % 32 or not 64 <= s <= 2048), None)
    if wrong is not None or not sizes:
        raise EditError(f"A canvas of {wrong} px cannot be exported; use multiples of 32 from 64 to 2048.")
    return list(dict.fromkeys(sizes))


def convert(name: str, module: torch.nn.Module, model: BlazeEdit, sizes: list[int], path: Path) -> None:
    """Writes one float file with a signature per size. EditError when the converter refuses."""
    litert_torch = packages.exporter()
    converter = litert_torch.Converter()
    for index, size in enumerate(sizes_of(name, model, sizes)):
        converter = converter.add_signature(
            key(index, size), module.eval(), sample_kwargs=inputs(name, model, size)
        )
    # long weights are kept out of the intermediate form: 3.0 instead of 4.6 GB for the 195M denoiser
    large = sum(p.numel() for p in module.parameters()) > 5e7
    try:
        with quiet():
            converter.convert(**({"lightweight_conversion": True} if large else {})).export(str(path))
    except Exception as error:  # of torch, jax or the converter, which promise no kind
        raise EditError(f"{name} could not be converted ({packages.first_line(error)}).") from error
