"""The mixture of LoRA experts (Eq. 2): a router chooses, token by token, which low-rank changes a layer gets."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Experts:
    """The E experts of one linear layer and their router. Nothing here is ever written to.

    down: A_1 … A_E one below the other [E·r, in]; up: B_1 … B_E side by side [out, E·r]; router: [E, in].
    scale: alpha / r. chosen: how many experts a token gets, the paper's k. softmax_first: the gates are the chosen
    experts' shares of the softmax over all E, which is what our training offers beside the released layer.
    """

    down: Tensor
    up: Tensor
    router: Tensor
    scale: float = 1.0
    chosen: int = 1
    softmax_first: bool = False

    @property
    def count(self) -> int:
        return len(self.router)

    @property
    def rank(self) -> int:
        return len(self.down) // self.count

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the layer."""
        return self.up.shape[0], self.down.shape[1]

    def to(self, *args, **kwargs) -> "Experts":
        """The same where and as `Tensor.to` says."""
        moved = {name: getattr(self, name).to(*args, **kwargs) for name in ("down", "up", "router")}
        return replace(self, **moved)


@dataclass(frozen=True)
class Routing:
    """What a router decided: logits and gates [..., E], and the chosen experts' numbers [..., k], best first."""

    logits: Tensor
    indices: Tensor
    gates: Tensor


def route(x: Tensor, experts: Experts) -> Routing:
    """TopK over the router's logits, softmax over the chosen (Eq. 2). x: the layer's own input [..., in].

    The logits are computed in x's precision, as the official layer does: where two are equal in bf16, they are
    equal here too. With k = 1 the softmax is over one logit, so that the gate is exactly 1.
    """
    logits = F.linear(x, experts.router.to(x))
    values, indices = logits.topk(experts.chosen, dim=-1)
    if experts.softmax_first:
        gates = logits.softmax(-1, dtype=torch.float32).gather(-1, indices).to(x.dtype)
    else:
        gates = values.softmax(-1, dtype=torch.float32).to(x.dtype)
    return Routing(logits, indices, torch.zeros_like(logits).scatter(-1, indices, gates))


def delta(x: Tensor, experts: Experts, strength: float = 1.0) -> Tensor:
    """What the experts add to a layer's output: scale · Σ G_i(x) · B_i A_i x (Eq. 2). x: [..., in] -> [..., out]."""
    return mixed(x, experts, route(x, experts).gates, strength)


def mixed(x: Tensor, experts: Experts, gates: Tensor, strength: float = 1.0) -> Tensor:
    """`delta` for gates [..., E] that are known already.

    All experts' A are one matrix and all B another; the gates, repeated over the rank, close those not chosen. That
    is one LoRA of rank E·r: no token is gathered or moved.
    """
    hidden = F.linear(x, experts.down.to(x)) * gates.repeat_interleave(experts.rank, dim=-1)  # [..., E·r]
    return F.linear(hidden, experts.up.to(x)) * (experts.scale * strength)


def mean(experts: Experts) -> tuple[Tensor, Tensor]:
    """(A, B) of one plain LoRA of rank E·r that is the experts' mean, with their scale in it: all that is left of
    them where no forward can be reached. Lossy: no token is routed any more."""
    return experts.down, experts.up * (experts.scale / experts.count)


class Mixtures(nn.Module):
    """The mixtures of many layers as one module, so that whoever moves networks about moves them along."""

    def __init__(self, experts: dict[str, Experts]):
        super().__init__()
        self.settings = {name: (one.scale, one.chosen, one.softmax_first) for name, one in experts.items()}
        self.layers = nn.ModuleList(_Tensors(one) for one in experts.values())

    def experts(self) -> dict[str, Experts]:
        """layer -> its mixture, where its tensors are now."""
        pairs = zip(self.settings.items(), self.layers, strict=True)
        return {name: Experts(t.down, t.up, t.router, *settings) for (name, settings), t in pairs}


class _Tensors(nn.Module):
    def __init__(self, experts: Experts):
        super().__init__()
        self.down, self.up, self.router = (
            nn.Parameter(t, requires_grad=False) for t in (experts.down, experts.up, experts.router)
        )
