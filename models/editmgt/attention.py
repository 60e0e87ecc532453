"""Attention over text, picture and reference tokens, and what may be kept of the reference between steps."""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError


class Attend:
    """Attention over text, picture and reference, with the reference's strength γ (Eq. 2).

    gamma: 1 leaves the attention as it is, 0 hides the reference from the others. text: whether the bias is between
    the reference and everything else (as the released weights were used) or the picture alone (Eq. 2). dense: True adds
    the matrix of Eq. 2; False says the same by extra channels of queries and keys, as the kernels of GPUs want it; None
    is what is faster, on the CPU a row of biases for each kind of query. pads: for how many tokens the first one of the
    text stands (`padding`).
    """

    def __init__(self, gamma: float = 1.0, text: bool = True, dense: bool | None = None, pads: int = 1):
        if gamma < 0:
            raise EditError(f"The reference's strength is {gamma}; use 0 (none), 1 (as trained) or more.")
        self.gamma, self.text, self.dense, self.pads = gamma, text, dense, pads
        self._kept: dict[tuple, Tensor] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, text: int, reference: int, first: int = 0) -> Tensor:
        """softmax(Q·K^T/sqrt(d) + bias)·V: [b, heads, n, d] to [b, n, heads·d].

        text, reference: how many of the keys are text (the first) and reference (the last). Queries are the same
        tokens, from `first` on, and all or some of them.
        """
        if self.pads == 1 and (not reference or self.gamma == 1):
            out = F.scaled_dot_product_attention(q, k, v)
        elif self.dense:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q, k, text, reference, first))
        elif self.gamma == 0 or (self.dense is None and q.device.type == "cpu"):
            out = self._by_rows(q, k, v, text, reference, first)
        else:
            out = self._by_channels(q, k, v, text, reference, first)
        return rearrange(out, "b h n d -> b n (h d)")

    def _by_rows(self, q: Tensor, k: Tensor, v: Tensor, text: int, reference: int, first: int) -> Tensor:
        """The bias is the same for all queries of a kind: a row for each, and no matrix."""
        n, out = k.shape[2], []
        ends = (0, text, n - reference, n)
        for kind in range(3):
            start, end = (min(max(place - first, 0), q.shape[2]) for place in ends[kind : kind + 2])
            if start < end:
                row = self._row(kind, q, n, text, reference)
                out.append(F.scaled_dot_product_attention(q[:, :, start:end], k, v, attn_mask=row))
        return torch.cat(out, dim=2)

    def _row(self, kind: int, q: Tensor, n: int, text: int, reference: int) -> Tensor:
        """What is added for a query of the text (0), the picture (1) or the reference (2): [1, 1, 1, n]."""
        key = ("row", kind, n, text, reference, q.dtype, q.device)
        if key not in self._kept:
            made = torch.zeros(n, dtype=q.dtype, device=q.device)
            if self.text or kind > 0:
                others = slice(0 if self.text else text, n - reference)
                made[others if kind == 2 else slice(n - reference, n)] = self._value()
            made[0] += math.log(self.pads)
            self._kept[key] = made[None, None, None]
        return self._kept[key]

    def _value(self) -> float:
        return math.log(self.gamma) if self.gamma > 0 else float("-inf")

    def bias(self, q: Tensor, k: Tensor, text: int, reference: int, first: int = 0) -> Tensor:
        """The matrix of Eq. 2 [queries, keys], with what the first text token counts for."""
        key = ("dense", q.shape[2], k.shape[2], text, reference, first, q.dtype, q.device)
        if key not in self._kept:
            made = torch.zeros(k.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
            if reference:
                value, start = self._value(), 0 if self.text else text
                made[start:-reference, -reference:] = value
                made[-reference:, start:-reference] = value
            made[:, 0] += math.log(self.pads)
            self._kept[key] = made[first : first + q.shape[2]]
        return self._kept[key]

    def _by_channels(self, q: Tensor, k: Tensor, v: Tensor, text: int, reference: int, first: int) -> Tensor:
        """The bias as a product of extra channels, so that every attention kernel can take it.

        A row of the softmax may be shifted: for the reference's own rows, +log γ on the others is -log γ on itself.
        """
        extra_q, extra_k = self._channels(q, k, text, reference, first)
        size, scale = q.shape[-1], q.shape[-1] ** -0.5
        q, k = (torch.cat([x, e.expand(*x.shape[:2], -1, -1)], dim=-1) for x, e in ((q, extra_q), (k, extra_k)))
        v = F.pad(v, (0, q.shape[-1] - size))
        return F.scaled_dot_product_attention(q, k, v, scale=scale)[..., :size]

    def _channels(self, q: Tensor, k: Tensor, text: int, reference: int, first: int) -> tuple[Tensor, Tensor]:
        key = ("channels", q.shape, k.shape, text, reference, first, q.dtype, q.device)
        if key not in self._kept:
            n, times = k.shape[2], q.shape[-1] ** 0.5
            width = 8  # the extra channels, up to what kernels like
            extra_q, extra_k = (torch.zeros(1, 1, n, width, device=q.device) for _ in range(2))
            others = slice(0 if self.text else text, n - reference)
            extra_q[..., others, 0] = 1
            extra_k[..., n - reference :, 0] = math.log(self.gamma) * times
            if self.text:
                extra_q[..., n - reference :, 0] = -1
            else:
                extra_q[..., n - reference :, 1] = 1
                extra_k[..., others, 1] = math.log(self.gamma) * times
            extra_q[..., 2], extra_k[..., 0, 2] = 1, math.log(self.pads) * times
            self._kept[key] = (extra_q[..., first : first + q.shape[2], :].to(q.dtype), extra_k.to(q.dtype))
        return self._kept[key]


class ReferenceCache:
    """Keys and values of the reference by block, for steps that reuse them (an approximation: they change a little)."""

    def __init__(self):
        self.by_block: dict[int, tuple[Tensor, Tensor]] = {}
        self.reuse = False
