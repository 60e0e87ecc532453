"""The padding in front of an instruction, as one token that counts for all of it.

Gemma's prompts are padded on the left, and nothing hides the pads. Under its causal attention a pad sees pads alone,
which are all the same, so their states are all the same; in the transformer they have one position, so there too they
stay the same in every block. n of them are one key with log n added to its logits, and one query in place of n: the
transformer is left with a few dozen text tokens out of 256. It is the same attention up to rounding.
"""

import torch
from torch import Tensor

CLOSE = 1e-2  # of each channel, and of the usual one: pads are apart by rounding, words by as much as they are large
BY_TOKEN = ("none", "linear", "mlp", "fmlp")  # connectors that treat every token by itself


def leading(states: Tensor) -> int:
    """How many of the first tokens of [b, t, c] are one and the same in each text, up to rounding: at least 1."""
    first = states[:, :1].float()
    allowed = CLOSE * (first.abs() + first.abs().median(-1, keepdim=True).values)
    same = ((states.float() - first).abs() <= allowed).all(-1)
    return max(1, int(same.int().cumprod(1).sum(1).min()))


def merged(states: Tensor, count: int) -> Tensor:
    """States [b, t, c] with their first `count` tokens as one, their mean: [b, t - count + 1, c]."""
    if count == 1:
        return states
    return torch.cat([states[:, :count].mean(1, keepdim=True), states[:, count:]], dim=1)


def rows(chosen: Tensor | None, count: int) -> Tensor | None:
    """Where chosen rows of the text are, once the first `count` are one."""
    return None if chosen is None else (chosen - count + 1).clamp_min(0)
