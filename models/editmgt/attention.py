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
    the reference and everything else (as the released weights were used) or the picture alone (Eq. 2). dense: builds
    the matrix of Eq. 2, as the released code does, where an extra channel of queries and keys says the same.
    """

    def __init__(self, gamma: float = 1.0, text: bool = True, dense: bool = False):
        if gamma < 0:
            raise EditError(f"The reference's strength is {gamma}; use 0 (none), 1 (as trained) or more.")
        self.gamma, self.text, self.dense = gamma, text, dense
        self._kept: dict[tuple, Tensor] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, text: int, reference: int) -> Tensor:
        """softmax(Q·K^T/sqrt(d) + bias)·V: [b, heads, n, d] to [b, n, heads·d].

        text, reference: how many of the keys are text (the first) and reference (the last). Queries are the same
        tokens, or all but the last ones.
        """
        if not reference or self.gamma == 1:
            out = F.scaled_dot_product_attention(q, k, v)
        elif self.dense or self.gamma == 0:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q, k, text, reference))
        else:
            out = self._by_channels(q, k, v, text, reference)
        return rearrange(out, "b h n d -> b n (h d)")

    def bias(self, q: Tensor, k: Tensor, text: int, reference: int) -> Tensor:
        """The matrix of Eq. 2 [queries, keys]."""
        key = ("dense", q.shape[2], k.shape[2], text, reference, q.dtype, q.device)
        if key not in self._kept:
            value = math.log(self.gamma) if self.gamma > 0 else float("-inf")
            made = torch.zeros(k.shape[2], k.shape[2], dtype=q.dtype, device=q.device)
            first = 0 if self.text else text
            made[first:-reference, -reference:] = value
            made[-reference:, first:-reference] = value
            self._kept[key] = made[: q.shape[2]]
        return self._kept[key]

    def _by_channels(self, q: Tensor, k: Tensor, v: Tensor, text: int, reference: int) -> Tensor:
        """The bias as a product of extra channels, so that every attention kernel can take it.

        A row of the softmax may be shifted: for the reference's own rows, +log γ on the others is -log γ on itself.
        """
        extra_q, extra_k = self._channels(q, k, text, reference)
        size, scale = q.shape[-1], q.shape[-1] ** -0.5
        q, k = (torch.cat([x, e.expand(*x.shape[:2], -1, -1)], dim=-1) for x, e in ((q, extra_q), (k, extra_k)))
        v = F.pad(v, (0, q.shape[-1] - size))
        return F.scaled_dot_product_attention(q, k, v, scale=scale)[..., :size]

    def _channels(self, q: Tensor, k: Tensor, text: int, reference: int) -> tuple[Tensor, Tensor]:
        key = ("channels", q.shape, k.shape, text, reference, q.dtype, q.device)
        if key not in self._kept:
            n, value = k.shape[2], math.log(self.gamma) * q.shape[-1] ** 0.5
            width = 8  # the extra channels, up to what kernels like
            extra_q, extra_k = (torch.zeros(1, 1, n, width, device=q.device) for _ in range(2))
            extra_k[..., -reference:, 0] = value
            if self.text:
                extra_q[..., :-reference, 0], extra_q[..., -reference:, 0] = 1, -1
            else:
                extra_q[..., text:-reference, 0], extra_q[..., -reference:, 1] = 1, 1
                extra_k[..., text:-reference, 1] = value
            self._kept[key] = (extra_q[..., : q.shape[2], :].to(q.dtype), extra_k.to(q.dtype))
        return self._kept[key]


class ReferenceCache:
    """Keys and values of the reference by block, for steps that reuse them (an approximation: they change a little)."""

    def __init__(self):
        self.by_block: dict[int, tuple[Tensor, Tensor]] = {}
        self.reuse = False
