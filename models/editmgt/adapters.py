"""LoRA beside a transformer's weights, not in them: to be trained, or to act on the reference's path alone."""

import math

from torch import Tensor, nn

from ..errors import EditError
from .lora import Lora
from .transformer import EditMGT

TARGETS = ("to_q", "to_k", "to_v")  # the official trainer's
PARTS = ("all", "reference")


class Adapter(nn.Module):
    """scale·B·A of one linear layer; it begins as nothing."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.lora_A, self.lora_B = (
            nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
        )  # fmt: skip
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_B(self.lora_A(x))


class ReferencePath:
    """Knows when a transformer's blocks project the reference's tokens; leave() lets the blocks go again."""

    def __init__(self, net: EditMGT):
        self.active = False
        self._blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
        for block in self._blocks:
            block.attn.project_reference = self._noting(block.attn.project)

    def _noting(self, project):
        def projected(x: Tensor, table=None):
            self.active = True
            try:
                return project(x, table)
            finally:
                self.active = False

        return projected

    def leave(self) -> None:
        for block in self._blocks:
            del block.attn.project_reference


class Adapters(nn.Module):
    """A LoRA on linear layers of a transformer, whose own weights and names stay as they are.

    targets: ends of the layers' names. part: "all" tokens, or the "reference" alone, as OminiControl has it and the
    official trainer with lora_part_enable; only queries, keys and values see the reference apart. remove() takes the
    LoRA off again. EditError for a rank that is none, and for a target that no layer has.
    """

    def __init__(self, net: EditMGT, rank: int, alpha: float, targets: tuple[str, ...] = TARGETS, part: str = "all"):
        super().__init__()
        if rank < 1:
            raise EditError(f"A LoRA of rank {rank} learns nothing; use 1 or more.")
        self.rank, self.alpha, self.part = rank, alpha, part
        layers = _chosen(net, tuple(targets), part)
        self.names = list(layers)
        self.adapters = nn.ModuleList(Adapter(layer, rank) for layer in layers.values())
        self._handles = [
            layer.register_forward_hook(self._hook(i)) for i, layer in enumerate(layers.values())
        ]  # fmt: skip
        self._path = ReferencePath(net) if part == "reference" else None

    def _hook(self, index: int):
        def add(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor | None:
            if self._path is not None and not self._path.active:
                return None
            return out + self.alpha / self.rank * self.adapters[index](inputs[0]).to(out.dtype)

        return add

    def remove(self) -> None:
        """Takes the LoRA off the transformer."""
        for handle in self._handles:
            handle.remove()
        if self._path is not None:
            self._path.leave()

    def loras(self) -> dict[str, Lora]:
        """What has been learnt, by the names of the layers."""
        return loras(self.names, self.state_dict(), self.alpha / self.rank)


def loras(names: list[str], state: dict[str, Tensor], scale: float) -> dict[str, Lora]:
    """A state dict of `Adapters` on layers of these names, taken apart."""
    halves = ((f"adapters.{i}.lora_A.weight", f"adapters.{i}.lora_B.weight") for i in range(len(names)))
    return {name: Lora(state[a], state[b], scale) for name, (a, b) in zip(names, halves)}


def _chosen(net: EditMGT, targets: tuple[str, ...], part: str) -> dict[str, nn.Module]:
    """Linear layers by name whose name is or ends in a target."""
    if part not in PARTS:
        raise EditError(f"A LoRA acts on {' or '.join(PARTS)}, not on {part!r}.")
    if part == "reference" and not set(targets) <= set(TARGETS):
        raise EditError(f"On the reference's path alone a LoRA has the targets {', '.join(TARGETS)}; leave out others.")
    layers = {n: m for n, m in net.named_modules() if hasattr(m, "in_features") and _in_blocks(n)}
    lost = [t for t in targets if not any(_ends(name, t) for name in layers)]
    if lost or not targets:
        ends = sorted({name.split(".", 2)[2] for name in layers})
        raise EditError(f"No layer is called {', '.join(lost) or 'nothing'}; layers are {', '.join(ends)}.")
    return {name: layer for name, layer in layers.items() if any(_ends(name, t) for t in targets)}


def _in_blocks(name: str) -> bool:
    return name.startswith(("transformer_blocks.", "single_transformer_blocks."))


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
