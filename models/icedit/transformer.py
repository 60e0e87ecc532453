"""A LoRA or a mixture on diffusers' Flux, for as long as a `with` block lasts. ComfyUI's Flux has its own hooks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ..errors import EditError
from .experts import Experts, delta
from .lora import Lora, foreign


def linear_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """name -> layer, of all linear layers."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}


def shapes(network: nn.Module) -> dict[str, tuple[int, int]]:
    """name -> (out, in), of all linear layers."""
    return {name: tuple(layer.weight.shape) for name, layer in linear_layers(network).items()}


@contextmanager
def attached(network: nn.Module, lora: Lora, plain: float = 1.0, experts: float = 1.0) -> Iterator[nn.Module]:
    """The network with a LoRA at two strengths; afterwards its weights and hooks are what they were.

    EditError when the LoRA changes layers that the network lacks or has in another shape.
    """
    if unknown := foreign(lora, shapes(network)):
        raise EditError(f"The LoRA changes {unknown[0]!r}, which this transformer lacks or has in another shape.")
    layers = linear_layers(network)
    with ExitStack() as stack:
        for name, (down, up, scale) in lora.plain.items():
            stack.callback(_restore, layers[name], layers[name].weight)
            _add(layers[name], down, up, plain * scale)
        for name, mixture in lora.experts.items():
            stack.callback(layers[name].register_forward_hook(_routed(mixture, experts)).remove)
        yield network


def _add(layer: nn.Linear, down, up, strength: float) -> None:
    with torch.no_grad():
        change = strength * (up.float() @ down.float()).to(layer.weight.device)
        changed = (layer.weight.float() + change).to(layer.weight.dtype)
    layer.weight = nn.Parameter(changed, requires_grad=layer.weight.requires_grad)


def _restore(layer: nn.Linear, weight: nn.Parameter) -> None:
    layer.weight = weight


def _routed(mixture: Experts, strength: float):
    def hook(layer, inputs, output):
        return output + delta(inputs[0], mixture, strength)

    return hook
