"""Attention over a layout's sequence, with whatever kernel is at hand: no dense mask is ever made.

The bias log w is put into the product of queries and keys by a few more channels, which every kernel takes; queries
that see fewer keys are asked in a call of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError
from .layout import Block, Group, Layout

MULTIPLE = 8  # of a head's channels, for the kernels
# (q, k, v [b, heads, n, d], mask or None) -> [b, n, heads·d]
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(eq=False)
class Attention:
    """How the queries of one forward pass attend.

    context: whether the references' tokens are among the queries; without, their keys come from a cache.
    """

    layout: Layout
    context: bool = True
    _groups: list[Group] | None = None
    _channels: dict = field(default_factory=dict)
    _indices: dict = field(default_factory=dict)

    @property
    def live(self) -> int:
        """Image tokens among the queries."""
        return self.layout.tokens if self.context else self.layout.target_tokens

    def __call__(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """[b, text + live, heads·d] of q [b, heads, text + live, d] and k, v [b, heads, text + all, d].

        mask: additive or bool [b, …, text + target, text + target], as the network gets it; references are added.
        """
        text, head = q.shape[2] - self.live, q.shape[3]
        if text < 0 or k.shape[2] != text + self.layout.tokens:
            raise EditError(
                f"Kontext Apply meets {q.shape[2]} tokens where it expects its {self.live} image tokens and the text; "
                "another patch on this MODEL changes their number and cannot be combined with it."
            )
        mask = extended(mask, text, self)
        if self.layout.plain:
            return attend(q, k, v, mask)
        if any(block.weight is not None or block.reach is not None for block in self.layout.blocks):
            q, k, v = self._with_channels(q, k, v, text)
        out = self._by_group(attend, q, k, v, text, mask)
        return out if q.shape[3] == head else out.unflatten(-1, (q.shape[1], -1))[..., :head].flatten(2)

    def _by_group(self, attend: Attend, q, k, v, text: int, mask) -> Tensor:
        groups = self.groups
        if len(groups) == 1 and groups[0].keys is None:
            return attend(q, k, v, mask)
        out = None
        for number, group in enumerate(groups):
            queries, keys = self._places(number, group, text, q.device)
            some = attend(
                q[:, :, queries], *(x if keys is None else x[:, :, keys] for x in (k, v)), _part(mask, queries, keys)
            )
            out = some.new_empty(some.shape[0], q.shape[2], some.shape[2]) if out is None else out
            out[:, queries] = some
        return out

    @property
    def groups(self) -> list[Group]:
        if self._groups is None:
            found = self.layout.groups(self.context)
            self._groups = [g for g in found if g.text or len(g.queries)]
        return self._groups

    def _places(self, number: int, group: Group, text: int, device) -> tuple[Tensor, Tensor | None]:
        """A group's queries and keys in the whole sequence."""
        key = (number, text, device)
        if key not in self._indices:
            words = torch.arange(text)
            queries = torch.cat([words[: text if group.text else 0], group.queries + text])
            keys = None if group.keys is None else torch.cat([words, group.keys + text]).to(device)
            self._indices[key] = (queries.to(device), keys)
        return self._indices[key]

    def _with_channels(self, q: Tensor, k: Tensor, v: Tensor, text: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v with more channels per head, which add the biases to their products."""
        head = q.shape[3]
        key = (text, head, q.dtype, q.device)
        if key not in self._channels:
            self._channels[key] = channels(self.layout, self.context, text, head, q.dtype, q.device)
        more_q, more_k = self._channels[key]
        wide = head + more_q.shape[1]
        q = q * math.sqrt(wide / head)  # kernels divide by the root of all channels
        q, k = (
            torch.cat([x, more.expand(*x.shape[:2], -1, -1)], 3) for x, more in ((q, more_q), (k, more_k))
        )
        return q, k, F.pad(v, (0, wide - head))


def attention_of(layout: Layout, context: bool = True) -> Attention:
    """The one `Attention` of a layout, which keeps what it has worked out from step to step."""
    if context not in layout.attentions:
        layout.attentions[context] = Attention(layout, context)
    return layout.attentions[context]


def channels(layout: Layout, context: bool, text: int, head: int, dtype, device) -> tuple[Tensor, Tensor]:
    """The further channels [text + live, c] of the queries and [text + all, c] of the keys.

    Their product, divided by the root of head + c, is log w of the key's reference for a query that is not of the same
    reference, plus log of the target mask at the query. Each logarithm lies in two channels, the second holding what
    the first loses in bf16.
    """
    owners = torch.cat([torch.full((text,), -1), layout.owners()])
    pairs = [pair for number, block in enumerate(layout.blocks, 1) for pair in _pairs(layout, block, number, owners)]
    count = 2 * len(pairs)
    wide = -(-(head + count) // MULTIPLE) * MULTIPLE
    columns_q, columns_k = [], []
    for query, key in pairs:
        for one_q, one_k in _split(query, key, math.sqrt(wide), dtype):
            columns_q.append(one_q)
            columns_k.append(one_k)
    live = text + (layout.tokens if context else layout.target_tokens)
    out = (torch.stack(columns_q, 1)[:live], torch.stack(columns_k, 1))
    return tuple(F.pad(x, (0, wide - head - count)).to(dtype).to(device) for x in out)


def _pairs(layout: Layout, block: Block, number: int, owners: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(per query, per key) whose products are the biases of one block."""
    out, mine = [], owners == number
    if block.weight is not None:
        key = torch.zeros(len(owners), dtype=torch.float64)
        key[mine] = block.weight.double().log()
        out.append(((~mine).double(), key))
    if block.reach is not None:
        query = torch.zeros(len(owners), dtype=torch.float64)
        query[owners == 0] = torch.where(block.reach > 0, block.reach.double(), 1.0).log()
        out.append((query, mine.double()))
    return out


def _split(query: Tensor, key: Tensor, factor: float, dtype) -> list[tuple[Tensor, Tensor]]:
    """The pair twice, with the part that is not 0 or 1 as what `dtype` holds of it and what is left over."""
    on_key = bool(((query == 0) | (query == 1)).all())
    values, other = (key, query) if on_key else (query, key)
    first = (values * factor).to(dtype).double()
    halves = [first, values * factor - first]
    return [(other, half) if on_key else (half, other) for half in halves]


def extended(mask: Tensor | None, text: int, attention: Attention) -> Tensor | None:
    """A mask over text and target with the references' rows and columns, which it lets through."""
    if mask is None:
        return None
    old, rows, columns = mask.shape[-1], text + attention.live, text + attention.layout.tokens
    if old == columns and mask.shape[-2] == rows:
        return mask
    if old != text + attention.layout.target_tokens or mask.shape[-2] != old:
        raise EditError(
            f"The attention mask of this conditioning is for {old} tokens and there are "
            f"{text + attention.layout.target_tokens} of text and target; apply the style model after all else "
            "that lengthens the text."
        )
    value = mask.dtype == torch.bool  # False is "not seen"; an additive 0 is "as it is"
    return F.pad(mask, (0, columns - old, 0, rows - old), value=value)


def _part(mask: Tensor | None, queries: Tensor, keys: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    rows = mask[..., queries, :]
    return rows if keys is None else rows[..., keys]
