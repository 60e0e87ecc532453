"""The token sequence of one forward pass: which reference tokens are in it, how much they count, and who sees whom.

The sequence is [text; target; reference 1; reference 2; …]. Three things shape it:

* A token that counts nothing (strength or mask 0) is not in the sequence at all.
* A token that counts w gets the bias log w on its key, for every query but its own reference's. w = 1 is no bias.
* A target mask confines a reference. "direct": queries outside the mask do not see the reference's keys; what is inside
  still mixes with the rest, as in the network. "strict": information may flow from a token to another only if the other
  is at least as confined. The text, the tokens outside and the other references then see neither the reference nor
  what is inside the mask, while inside everything is seen: the outside cannot change with the reference, at any depth
  and over any number of steps, because nothing that depends on the reference is ever one of its keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError
from . import ids
from .ids import Place, Size
from .references import Reference


@dataclass(frozen=True, eq=False)
class Block:
    """The tokens of one reference that are in the sequence.

    kept: [n] which of its tokens, None for all. weight: [n] above 0, None where all are 1. reach: [target tokens] 0 to
    1, None for everywhere. region: the number of the strict region that confines it, None where none does.
    """

    size: Size
    place: Place
    kept: Tensor | None = None
    weight: Tensor | None = None
    reach: Tensor | None = None
    region: int | None = None

    @property
    def count(self) -> int:
        rows, columns = ids.grid(self.size)
        return rows * columns if self.kept is None else len(self.kept)


@dataclass(frozen=True, eq=False)
class Group:
    """Queries that see the same keys.

    text: whether the text's queries belong to it. queries: [n] image tokens. keys: [m] image tokens besides the text,
    None for all.
    """

    text: bool
    queries: Tensor
    keys: Tensor | None


@dataclass(frozen=True, eq=False)
class Layout:
    """A target of (height, width) latent pixels and the references' blocks behind it.

    regions: [target tokens] bool each; the strict regions of the whole run, also where their references are absent.
    """

    target: Size
    blocks: tuple[Block, ...] = ()
    regions: tuple[Tensor, ...] = ()
    attentions: dict = field(default_factory=dict)  # of `attention_of`

    @cached_property
    def target_tokens(self) -> int:
        rows, columns = ids.grid(self.target)
        return rows * columns

    @cached_property
    def context_tokens(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def tokens(self) -> int:
        """Image tokens: the target's and the references'."""
        return self.target_tokens + self.context_tokens

    @property
    def plain(self) -> bool:
        """Whether attention is the network's own: nothing weighted, nothing confined."""
        weighted = any(block.weight is not None or block.reach is not None for block in self.blocks)
        return not weighted and not self.regions

    @property
    def pruned(self) -> bool:
        return any(block.kept is not None for block in self.blocks)

    def kept(self) -> Tensor:
        """Which image tokens of the whole chain are in the sequence [tokens]."""
        parts, first = [torch.arange(self.target_tokens)], self.target_tokens
        for block in self.blocks:
            rows, columns = ids.grid(block.size)
            parts.append(first + (torch.arange(rows * columns) if block.kept is None else block.kept))
            first += rows * columns
        return torch.cat(parts)

    def ids(self, context: bool = True) -> Tensor:
        """Position ids [tokens, 3] in fp32; without the references' where `context` is false."""
        parts = [ids.grid_ids(self.target)]
        for block in self.blocks if context else ():
            whole = ids.grid_ids(block.size, block.place)
            parts.append(whole if block.kept is None else whole[block.kept])
        return torch.cat(parts)

    def owners(self) -> Tensor:
        """Whose each image token is [tokens]: 0 the target's, 1 the first block's, and so on."""
        counts = [self.target_tokens, *(block.count for block in self.blocks)]
        return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

    def groups(self, context: bool = True) -> list[Group]:
        """The queries by what they see. context: whether the references' tokens are among the queries."""
        confined, sees = self._confined(), self._sees()
        everything = sees.new_tensor([self._direct()])
        own = torch.stack([confined, sees], 1)[: self.tokens if context else self.target_tokens]
        text = torch.stack([torch.zeros_like(everything), everything], 1)
        kinds, of_each = torch.cat([text, own]).unique(dim=0, return_inverse=True)
        hidden = self._hidden()
        out = []
        for number, (level, seen) in enumerate(kinds.tolist()):
            visible = ((confined & ~level) == 0) & ((hidden & ~seen) == 0)
            keys = None if bool(visible.all()) else visible.nonzero()[:, 0]
            queries = (of_each[1:] == number).nonzero()[:, 0]
            out.append(Group(bool(of_each[0] == number), queries, keys))
        return out

    def _confined(self) -> Tensor:
        """Per image token the set of strict regions that it depends on, as bits."""
        bits = torch.zeros(self.target_tokens, dtype=torch.int64)
        for number, region in enumerate(self.regions):
            bits |= region.to(torch.int64) << number
        blocks = [
            torch.full((b.count,), 0 if b.region is None else 1 << b.region, dtype=torch.int64) for b in self.blocks
        ]
        return torch.cat([bits, *blocks])

    def _direct(self) -> int:
        """The blocks that a direct target mask confines, as bits."""
        return sum(1 << n for n, b in enumerate(self.blocks) if b.reach is not None and b.region is None)

    def _sees(self) -> Tensor:
        """Per image token the directly confined blocks that it sees, as bits; only target tokens miss any."""
        bits = torch.full((self.tokens,), self._direct(), dtype=torch.int64)
        for number, block in enumerate(self.blocks):
            if block.reach is not None and block.region is None:
                bits[: self.target_tokens] &= ~((block.reach <= 0).to(torch.int64) << number)
        return bits

    def _hidden(self) -> Tensor:
        """Per image token the directly confined block that it belongs to, as bits."""
        parts = [torch.zeros(self.target_tokens, dtype=torch.int64)]
        for number, block in enumerate(self.blocks):
            bit = 1 << number if block.reach is not None and block.region is None else 0
            parts.append(torch.full((block.count,), bit, dtype=torch.int64))
        return torch.cat(parts)


def counts(reference: Reference) -> bool:
    """Whether anything of a reference is ever seen."""
    masks = (reference.mask, reference.target_mask)
    return reference.strength > 0 and all(mask is None or bool((mask > 0).any()) for mask in masks)


def stands(target: Size, references: Sequence[Reference]) -> list[Place]:
    """Where the references of a chain stand; those that never count are not to be in it."""
    sizes = [tuple(r.latent.shape[-2:]) for r in references]
    return ids.places(target, sizes, [r.placement for r in references], [r.index for r in references])


def block(reference: Reference, place: Place, reach: Tensor | None, region: int | None) -> Block | None:
    """A reference's block, or None where none of its tokens counts. reach: [target tokens], of `over_target`."""
    size = tuple(reference.latent.shape[-2:])
    kept, weight = None, None
    if reference.mask is not None:
        weight = pooled(reference.mask, size)
        if bool((weight <= 0).any()):
            kept = (weight > 0).nonzero()[:, 0]
            weight = weight[kept]
    weight = reference.strength * (torch.ones(()) if weight is None else weight)
    if weight.numel() == 0 or (reach is not None and not bool((reach > 0).any())):
        return None
    if bool((weight == 1).all()):
        weight = None
    elif weight.ndim == 0:
        rows, columns = ids.grid(size)
        weight = weight.expand(rows * columns)
    binary = reach is None or bool(((reach == 0) | (reach == 1)).all())
    if reach is not None and (bool((reach == 1).all()) or (binary and region is not None)):
        reach = None  # no reference hides from anyone, or who sees it is the region's affair
    return Block(size, place, kept, weight, reach, region)


def pooled(mask: Tensor, size: Size) -> Tensor:
    """A mask [h, w] stretched over a latent of that size, as the mean of each token [tokens], 0 to 1 in fp32."""
    rows, columns = ids.grid(size)
    return F.interpolate(_clean(mask)[None, None], (rows, columns), mode="area").flatten().clamp(0, 1)


def over_target(mask: Tensor, whole: Size, area: Sequence[int] | None = None) -> Tensor:
    """A target mask as the mean of each target token [tokens].

    whole: the latent that is sampled. area: (height, width, top, left) of the part that is, for conditionings with one.
    """
    if area is None:
        return pooled(mask, whole)
    height, width, top, left = area
    fine = F.interpolate(_clean(mask)[None, None], whole, mode="area")[0, 0]
    return pooled(fine[top : top + height, left : left + width], (height, width))


def _clean(mask: Tensor) -> Tensor:
    return mask.detach().to("cpu", torch.float32).clamp(0, 1)


def check_regions(count: int) -> None:
    """EditError for more strict regions than bits."""
    if count > 62:
        raise EditError(f"{count} different target masks are confined strictly; 62 are possible. Share masks.")
