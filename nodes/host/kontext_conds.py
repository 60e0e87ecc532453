"""The references of a run's conditionings, checked and laid out, in the form in which ComfyUI carries conditionings."""

from dataclasses import dataclass

from ...models.kontext import layout
from ...models.kontext.plan import Plan, Planned, regions
from ...models.kontext.references import GUARD, NATIVE, Reference, chain, check_channels, check_latent
from ...models.kontext.reuse import Cache


@dataclass(eq=False)
class Run:
    """What belongs to one sampling: nothing of it outlives it, and no other sampling sees it."""

    cache: Cache | None = None
    told: bool = False

    def clear(self) -> None:
        if self.cache is not None:
            self.cache.clear()


class PlanCond:
    """A plan among the `model_conds` of a conditioning; it reaches FLUX's wrapper as a keyword of that name.

    Conditionings whose plans differ are not sampled as one batch.
    """

    def __init__(self, plan: Plan, run: Run):
        self.plan, self.run = plan, run

    def process_cond(self, batch_size, area=None, **_):
        return self if area is None else PlanCond(self.plan.within(area), self.run)

    def can_concat(self, other) -> bool:
        return isinstance(other, PlanCond) and self.plan.same(other.plan)

    def concat(self, others):
        return self

    def size(self) -> list[int]:
        return [1]


def prepared(conds: dict[str, list[dict]], run: Run, model, shape, channels: int) -> dict[str, list[dict]]:
    """New lists of a guider's conditionings with their plans. shape: of what is sampled. EditError for bad references.

    Where nobody has references, the conditionings stay as they are.
    """
    sigma_of = model.get_model_object("model_sampling").percent_to_sigma
    chains = {name: [_planned(one, sigma_of) for one in conds[name]] for name in conds}
    every = [planned for lists in chains.values() for one in lists for planned in one]
    check_channels([p.reference.latent for p in every], channels)
    held = regions(every)
    return {
        name: [
            _with_plan(one, tuple(planned), held, shape, run)
            for one, planned in zip(conds[name], chains[name], strict=True)
        ]
        for name in conds
    }


def _planned(options: dict, sigma_of) -> list[Planned]:
    """The references of an entry that ever count, with their noise levels."""
    out = []
    for reference in chain(options):
        check_latent(reference.latent)
        first, last = _levels(reference, sigma_of)
        if layout.counts(reference) and first > 0:
            out.append(Planned(reference, first, last))
    return out


def _levels(reference: Reference, sigma_of) -> tuple[float, float]:
    """(first, last) noise level; the ends of the sampling are beyond any."""
    first = float("inf") if reference.start <= 0 else float(sigma_of(reference.start))
    last = -1.0 if reference.end >= 1 else float(sigma_of(reference.end))
    return first, last


def _with_plan(options: dict, planned: tuple[Planned, ...], held, shape, run: Run) -> dict:
    if NATIVE not in options and not held:
        return options
    model_conds = {k: v for k, v in options.get("model_conds", {}).items() if k != GUARD}
    out = {k: v for k, v in options.items() if k != NATIVE}
    if planned:
        out[NATIVE] = [one.reference.latent for one in planned]
    if planned or held:
        model_conds[GUARD] = PlanCond(Plan(planned, held, tuple(shape[-2:])), run)
    return {**out, "model_conds": model_conds}


def count(conds: dict[str, list[dict]]) -> tuple[int, int]:
    """(references, megapixels) of the conditioning that has most; a latent pixel is 8x8 of the picture."""
    lists = [one.get(NATIVE) or [] for name in conds for one in conds[name]]
    areas = [(sum(lat.shape[-2] * lat.shape[-1] for lat in some) * 64 / 2**20, len(some)) for some in lists]
    megapixels, number = max(areas, default=(0, 0))
    return number, megapixels
