"""Where models and pictures live: ComfyUI's devices and memory management, or plain torch without it."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


def in_comfyui() -> bool:
    """Whether this process is a ComfyUI server (the module is loaded; it is never imported for its own sake)."""
    return "comfy.model_management" in sys.modules


def load_device() -> torch.device:
    """The device that computes."""
    if in_comfyui():
        import comfy.model_management

        return comfy.model_management.get_torch_device()
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def offload_device() -> torch.device:
    """Where models wait."""
    if in_comfyui():
        import comfy.model_management

        return comfy.model_management.unet_offload_device()
    return torch.device("cpu")


def intermediate_device() -> torch.device:
    """Where the pictures that nodes return live."""
    if in_comfyui():
        import comfy.model_management

        return comfy.model_management.intermediate_device()
    return torch.device("cpu")


def operations():
    """The layers that networks are built on: ComfyUI's casting ones, or torch.nn."""
    if in_comfyui() and importlib.util.find_spec("comfy.ops"):
        import comfy.ops

        return comfy.ops.manual_cast
    return nn


@dataclass(frozen=True)
class Managed:
    """A module in the care of ComfyUI's memory management (`patcher`), or on its own."""

    module: nn.Module
    patcher: object | None = None
    source: Path | None = None  # the folder that it was loaded from
    whole: bool = False  # its layers are torch's, which cannot run with weights that wait elsewhere

    def ready(self) -> nn.Module:
        """The module on the computing device. ComfyUI makes room for it first and may take it off later."""
        if self.patcher is None:
            return self.module
        import comfy.model_management

        comfy.model_management.load_models_gpu([self.patcher])
        return self.module.to(self.patcher.load_device) if self.whole else self.module


def managed(module: nn.Module, source: Path | None = None, whole: bool = False) -> Managed:
    """Hands a module to ComfyUI's memory management where there is one."""
    if not in_comfyui():
        return Managed(module.to(load_device()), source=source)
    from comfy.model_patcher import ModelPatcher

    patcher = ModelPatcher(module, load_device=load_device(), offload_device=offload_device())
    return Managed(module, patcher, source, whole)
