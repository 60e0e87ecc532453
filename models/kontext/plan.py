"""From a conditioning's references to the layout of each step: who is there at a noise level, and where."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import layout
from .ids import Size
from .layout import Layout
from .references import Reference


@dataclass(frozen=True, eq=False)
class Planned:
    """A reference with the noise levels between which it is there: last <= sigma <= first."""

    reference: Reference
    first: float = float("inf")
    last: float = -1.0

    def active(self, sigma: float) -> bool:
        return self.last <= sigma <= self.first

    def same(self, other: "Planned") -> bool:
        """Whether both count alike, whatever their latents hold: they can be sampled as one batch."""
        a, b = self.reference, other.reference
        plain = ("placement", "index", "strength", "confine")
        return (
            (self.first, self.last) == (other.first, other.last)
            and all(getattr(a, name) == getattr(b, name) for name in plain)
            and a.latent.shape[-2:] == b.latent.shape[-2:]
            and all(_equal(*masks) for masks in ((a.mask, b.mask), (a.target_mask, b.target_mask)))
        )


@dataclass(frozen=True, eq=False)
class Region:
    """A target mask that confines strictly, and the noise level from which on it has to."""

    mask: Tensor
    first: float


def regions(planned: Iterable[Planned]) -> tuple[Region, ...]:
    """The strict regions of a run, over all its conditionings: each mask once, from its earliest reference on.

    A conditioning without the reference takes part too; else the guidance would carry the reference outside.
    """
    out: list[Region] = []
    for one in planned:
        mask = one.reference.target_mask
        if mask is None or one.reference.confine != "strict":
            continue
        number = next((n for n, known in enumerate(out) if _equal(known.mask, mask)), len(out))
        first = max(one.first, out[number].first) if number < len(out) else one.first
        out[number : number + 1] = [Region(mask, first)]
    layout.check_regions(len(out))
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Plan:
    """One conditioning's references, the run's strict regions, and the latent's (height, width) that is sampled.

    area: (height, width, top, left) of the part of it that this conditioning is for.
    """

    references: tuple[Planned, ...] = ()
    regions: tuple[Region, ...] = ()
    whole: Size = (0, 0)
    area: tuple[int, ...] | None = None
    _layouts: dict = field(default_factory=dict)
    _parts: dict = field(default_factory=dict)

    def same(self, other: "Plan") -> bool:
        """Whether two conditionings can be sampled as one batch."""
        alike = self.area == other.area and len(self.references) == len(other.references)
        return alike and all(a.same(b) for a, b in zip(self.references, other.references, strict=True))

    def within(self, area: Sequence[int] | None) -> "Plan":
        """The same for a part of the latent."""
        if area is None:
            return self
        return self._parts.setdefault(tuple(area), Plan(self.references, self.regions, self.whole, tuple(area)))

    def at(self, sigma: float, target: Size) -> tuple[list[int], Layout]:
        """Which references are in the sequence at a noise level, and its layout for a latent of that size."""
        active = tuple(n for n, one in enumerate(self.references) if one.active(sigma))
        confining = tuple(n for n, region in enumerate(self.regions) if sigma <= region.first)
        key = (active, confining, target)
        if key not in self._layouts:
            self._layouts[key] = self._laid_out(*key)
        return self._layouts[key]

    def _laid_out(self, active, confining, target: Size) -> tuple[list[int], Layout]:
        chain = [one.reference for one in self.references]
        places = layout.stands(target, chain)  # of the whole chain, so that nobody moves when another comes or goes
        held = self._held(confining, target)
        numbers, blocks = [], []
        for n in active:
            reach = region = None
            if chain[n].target_mask is not None:
                reach = layout.over_target(chain[n].target_mask, self._whole(target), self.area)
                region = self._region_of(chain[n], held)
            block = layout.block(chain[n], places[n], reach, region)
            if block is not None:
                numbers.append(n)
                blocks.append(block)
        return numbers, Layout(target, tuple(blocks), tuple(tokens for _, tokens in held))

    def _whole(self, target: Size) -> Size:
        return target if self.area is None else self.whole

    def _held(self, confining, target: Size) -> list[tuple[Region, Tensor]]:
        """The regions with an inside and an outside, as [target tokens] bool."""
        found = [self.regions[n] for n in confining]
        pairs = [(r, layout.over_target(r.mask, self._whole(target), self.area) > 0) for r in found]
        return [(r, inside) for r, inside in pairs if bool(inside.any()) and not bool(inside.all())]

    @staticmethod
    def _region_of(reference: Reference, held) -> int | None:
        if reference.confine != "strict":
            return None
        return next((n for n, (r, _) in enumerate(held) if _equal(r.mask, reference.target_mask)), None)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.shape == b.shape and torch.equal(a.cpu(), b.cpu()))
