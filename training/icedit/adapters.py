"""LoRA (by peft) and the routed mixture of LoRA experts on Fill's transformer, and the two released file formats."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...models.errors import EditError
from ...models.icedit.experts import Experts, mixed, route
from ...models.icedit.lora import MIXED, TARGETS

NAME = "default"  # peft's, of the one adapter there is
FILE = "transformer."  # before a layer's name in a file
PLAIN = rf"(?!(?:{MIXED.pattern})$)(?:{TARGETS.pattern})"  # what a mixture leaves to a plain LoRA


@dataclass(frozen=True)
class Choice:
    """The rank, of each expert too; alpha is the rank. experts: 0 is a plain LoRA. chosen: experts per token, k."""

    rank: int = 32
    experts: int = 0
    chosen: int = 1
    softmax_first: bool = False


class Mixture(nn.Module):
    """A frozen linear layer with experts beside it (Eq. 2): y = Wx + Σ G_i(x)·B_i A_i x. It begins as the layer itself.

    shares [E] are those of the last forward's choices that each expert got, and chances [E] the mean probabilities
    that its router gave them, with a gradient.
    """

    def __init__(self, base: nn.Linear, choice: Choice):
        super().__init__()
        make = {"device": base.weight.device, "dtype": torch.float32}
        self.base, self.choice = base, choice
        self.down = nn.Parameter(torch.empty(choice.experts * choice.rank, base.in_features, **make))
        self.up = nn.Parameter(torch.zeros(base.out_features, choice.experts * choice.rank, **make))
        self.router = nn.Parameter(torch.empty(choice.experts, base.in_features, **make))
        for weight in (self.down, self.router):  # as torch's and peft's own layers begin
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        self.shares = self.chances = None

    def experts(self) -> Experts:
        return Experts(self.down, self.up, self.router, 1.0, self.choice.chosen, self.choice.softmax_first)

    def forward(self, x: Tensor) -> Tensor:
        experts = self.experts()
        routing = route(x, experts)
        chosen = torch.zeros_like(routing.logits).scatter(-1, routing.indices, 1.0)
        self.shares = chosen.detach().float().flatten(0, -2).mean(0) / self.choice.chosen
        self.chances = routing.logits.float().softmax(-1).flatten(0, -2).mean(0)
        return self.base(x) + mixed(x, experts, routing.gates)


def attach(net: nn.Module, choice: Choice, seed: int) -> nn.Module:
    """Puts a new LoRA or mixture on the official layers of a transformer, which it freezes; it begins as nothing.

    EditError for a rank or a number of experts that is none. Returns the transformer.
    """
    from peft import LoraConfig

    _check(choice)
    torch.manual_seed(seed + 1)
    net.requires_grad_(False)
    targets = PLAIN if choice.experts else TARGETS.pattern
    net.add_adapter(LoraConfig(r=choice.rank, lora_alpha=choice.rank, target_modules=targets))
    for name, parameter in net.named_parameters():
        if f".{NAME}." in name:
            parameter.data = parameter.data.float()
    if choice.experts:
        for name in [name for name, _ in net.named_modules() if MIXED.fullmatch(name)]:
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, Mixture(net.get_submodule(name), choice))
    return net


def _check(choice: Choice) -> None:
    if choice.rank < 1:
        raise EditError(f"A LoRA of rank {choice.rank} learns nothing; use 1 or more.")
    if choice.experts and not 1 <= choice.chosen <= choice.experts:
        raise EditError(f"{choice.chosen} of {choice.experts} experts cannot be chosen; use 1 to {choice.experts}.")


def mixtures(net: nn.Module) -> list[Mixture]:
    """The routed layers of a transformer."""
    return [module for module in net.modules() if isinstance(module, Mixture)]


def imbalance(net: nn.Module) -> Tensor:
    """Switch Transformer's load-balance loss (arXiv 2101.03961, Eq. 4) of the last forward, the mean of all layers:
    E · Σ shares_i · chances_i, which is 1 where every expert gets as much, and E where one gets all."""
    layers = mixtures(net)
    return sum(len(one.shares) * (one.shares * one.chances).sum() for one in layers) / len(layers)


def used(net: nn.Module) -> float:
    """How many experts were in use in the last forward: e to the entropy of their shares, the mean of all layers."""
    layers = mixtures(net)
    return float(sum(torch.special.entr(one.shares).sum().exp() for one in layers) / len(layers))


def view(net: nn.Module) -> nn.Module:
    """What is trained alone, as a module that shares it: what is averaged and saved."""
    found = nn.Module()
    found.weights = nn.ParameterDict({
        name.replace(".", "/"): p for name, p in net.named_parameters() if p.requires_grad
    })  # fmt: skip
    return found


def to_file(state: dict[str, Tensor], choice: Choice) -> dict[str, Tensor]:
    """The released file's tensors, of weights as `view` saves them: diffusers' and peft's names, no alpha."""
    out = {}
    for name, value in state.items():
        layer, part = name.removeprefix("weights.").replace("/", ".").replace(f".{NAME}.weight", "").rsplit(".", 1)
        out |= {f"{FILE}{layer}.{key}.weight": tensor for key, tensor in _parts(part, value, choice.experts).items()}
    return out


def _parts(part: str, value: Tensor, experts: int) -> dict[str, Tensor]:
    if part == "router":
        return {"lora_route": value}
    if part in ("down", "up"):
        half, dim = ("lora_A", 0) if part == "down" else ("lora_B", 1)
        return {f"{half}.expert_{i}": one for i, one in enumerate(value.chunk(experts, dim))}
    return {part: value}
