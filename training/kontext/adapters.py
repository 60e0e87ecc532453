"""LoRA on the transformer by peft: what is trained, what is saved, and the file that ComfyUI and diffusers load."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.errors import EditError

TARGETS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
)  # fmt: skip
NAME = "default"  # peft's, of the one adapter there is
FILE = "transformer."  # before a layer's name in a LoRA's file
HALVES = ("lora_A", "lora_B")


@dataclass(frozen=True)
class Choice:
    """rank and alpha of the LoRA, and the ends of the names of its layers."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = TARGETS


def attach(net: nn.Module, choice: Choice, seed: int) -> nn.Module:
    """Puts a new LoRA on a transformer, which it freezes; it begins as nothing. EditError for a rank that is none and
    for a target that no layer has. Returns the transformer."""
    from peft import LoraConfig

    if choice.rank < 1:
        raise EditError(f"A LoRA of rank {choice.rank} learns nothing; use 1 or more.")
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    for target in choice.targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            raise EditError(f"No layer of the transformer is called {target!r}; see --lora-targets.")
    torch.manual_seed(seed + 1)
    net.requires_grad_(False)
    net.add_adapter(LoraConfig(r=choice.rank, lora_alpha=choice.alpha, target_modules=list(choice.targets)))
    for name, parameter in net.named_parameters():
        if f".{NAME}." in name:
            parameter.data = parameter.data.float()
    return net


def view(net: nn.Module) -> nn.Module:
    """The LoRA's weights alone, as a module that shares them: what is averaged and saved."""
    found = nn.Module()
    found.weights = nn.ParameterDict({
        name.replace(".", "/"): p for name, p in net.named_parameters() if f".{NAME}." in name
    })  # fmt: skip
    return found


def pairs(state: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by the layers' names, of weights as `view` saves them."""
    clean = {k.removeprefix("weights.").replace("/", ".").replace(f".{NAME}.", "."): v for k, v in state.items()}
    layers = {name.rsplit(".lora_", 1)[0] for name in clean}
    return {layer: tuple(clean[f"{layer}.{half}.weight"] for half in HALVES) for layer in sorted(layers)}


def to_file(state: dict[str, Tensor], choice: Choice) -> dict[str, Tensor]:
    """The file's tensors; alpha is put into B, so that a strength of 1 means what was trained."""
    out = {}
    for layer, (a, b) in pairs(state).items():
        out[f"{FILE}{layer}.lora_A.weight"] = a
        out[f"{FILE}{layer}.lora_B.weight"] = b * (choice.alpha / choice.rank)
    return out


def merged(base: dict[str, Tensor], state: dict[str, Tensor], choice: Choice) -> dict[str, Tensor]:
    """The transformer's weights with the LoRA added."""
    out = {name: value.float() for name, value in base.items()}
    for layer, (a, b) in pairs(state).items():
        out[f"{layer}.weight"] = out[f"{layer}.weight"] + choice.alpha / choice.rank * (b @ a)
    return out
