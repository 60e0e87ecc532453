"""LoRAs that a transformer wears while a run lasts: they act beside its weights, which stay as they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import EditError
from .adapters import PARTS, TARGETS, ReferencePath
from .lora import Lora, check
from .transformer import EditMGT

Halves = tuple[Tensor, Tensor]  # A [r, in], B [out, r] with all scales in it


@dataclass(frozen=True)
class Worn:
    """LoRAs by the names of the transformer's layers.

    part: they act on "all" tokens, or on the "reference" alone. time: what steps were told when they were trained.
    """

    loras: dict[str, Lora]
    strength: float = 1.0
    part: str = "all"
    time: str | None = None


def fitting(net: EditMGT, worn: Worn) -> Worn:
    """The same, if it belongs to this transformer. EditError for another model's, and for layers that are not linear.

    On the reference alone only queries, keys and values can be changed: nothing else sees it apart.
    """
    if worn.part not in PARTS:
        raise EditError(f"A LoRA acts on {' or '.join(PARTS)}, not on {worn.part!r}.")
    check({name: module.weight for name, module in _layers(net).items()}, worn.loras)
    others = [name for name in worn.loras if name.rpartition(".")[2] not in TARGETS]
    if worn.part == "reference" and others:
        raise EditError(
            f"On the reference alone a LoRA may change {', '.join(TARGETS)}, and this one changes {others[0]!r}; let "
            "it act on all tokens."
        )
    return worn


def _layers(net: EditMGT) -> dict[str, nn.Module]:
    return {name: module for name, module in net.named_modules() if hasattr(module, "in_features")}


@contextmanager
def wearing(net: EditMGT, stack: Sequence[Worn], device: torch.device | str = "cpu") -> Iterator[None]:
    """Within it the transformer's layers give W·x + Σ strength·scale·B·A·x; afterwards they are as before."""
    halves = _joined([worn for worn in stack if worn.strength], device)
    path = ReferencePath(net) if any(part == "reference" for _, part in halves) else None
    layers, handles = _layers(net), []
    try:
        for (name, part), pair in halves.items():
            handles.append(layers[name].register_forward_hook(_hook(pair, path if part == "reference" else None)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        if path is not None:
            path.leave()


def _joined(stack: Sequence[Worn], device) -> dict[tuple[str, str], Halves]:
    """All LoRAs of a layer and a part as one, their ranks side by side."""
    found: dict[tuple[str, str], list[Halves]] = {}
    for worn in stack:
        for name, lora in worn.loras.items():
            pair = lora.A.float(), worn.strength * lora.scale * lora.B.float()
            found.setdefault((name, worn.part), []).append(pair)
    return {
        key: (torch.cat([a for a, _ in pairs]).to(device), torch.cat([b for _, b in pairs], 1).to(device))
        for key, pairs in found.items()
    }


def _hook(pair: Halves, path: ReferencePath | None):
    kept: dict[torch.dtype, Halves] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor | None:
        if path is not None and not path.active:
            return None
        if out.dtype not in kept:
            kept[out.dtype] = tuple(half.to(out) for half in pair)
        down, up = kept[out.dtype]
        return out + nn.functional.linear(nn.functional.linear(inputs[0].to(out), down), up)

    return add
