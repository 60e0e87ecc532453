"""A whole run: from [MASK] to a picture's tokens, with guidance, a reference, region hold and localisation."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import EditError
from . import schedule
from .attention import Attend, ReferenceCache
from .layers import Capture, Captures
from .options import Options, Text
from .transformer import EditMGT, Prompt, at


@dataclass(frozen=True)
class Report:
    """What a step did: its number, tokens with [MASK] and without [b, h, w], and the localisation map [b, h', w']."""

    index: int
    tokens: Tensor
    clean: Tensor
    scores: Tensor | None = None
    held: Tensor | None = None


@dataclass(frozen=True)
class Result:
    """tokens [b, h, w]; held: where tokens are the reference's because they were held at the last step, bool."""

    tokens: Tensor
    held: Tensor
    scores: Tensor | None = None


Localise = Callable[[dict[int, Tensor], tuple[int, int]], Tensor]
Watch = Callable[[int, bool], Capture | None]


def run(
    net: EditMGT, text: Text, negative: Text | None, size: tuple[int, int], options: Options, *,
    reference: Tensor | None = None, mask: Tensor | None = None, localise: Localise | None = None,
    generator: torch.Generator | None = None, micro: tuple = (1024, 1024, 0, 0, 6),
    report: Callable[[Report], None] | None = None, watch: Watch | None = None,
) -> Result:  # fmt: skip
    """Samples tokens [b, *size]. Without a reference [b, h, w] it is text to image.

    mask: bool [b, h, w], True where tokens are new. localise(maps by block, grid) makes the localisation map.
    report is called after every step. watch(step, half) gives what else reads a step's attention, or None; half: the
    batch is [unconditional, conditional]. EditError for what does not belong together.
    """
    run = _Run(net, text, negative, size, options, reference, mask, localise, generator, micro)
    run.watch = watch
    return run.go(report)


class _Run:
    watch: Watch | None = None

    def __init__(self, net, text, negative, size, options, reference, mask, localise, generator, micro):
        self.net, self.options, self.generator, self.localise = net, options, generator, localise
        self.size, self.batch = size, len(text.states)
        self.guided = options.guidance > 1 and negative is not None
        _check(self.batch, size, reference, mask, options)
        self.reference = reference
        masked = net.config.mask_token
        self.tokens = torch.full((self.batch, *size), masked, device=text.states.device)
        self.new = torch.ones_like(self.tokens, dtype=torch.bool) if mask is None else mask
        if mask is not None:
            self.tokens = torch.where(mask, self.tokens, reference)
        self.share = self.new.flatten(1).float().mean(1, keepdim=True)
        shown = self.tokens if options.alias_mask and mask is not None else reference
        self.given = (text, negative, shown, micro)
        self.timed = getattr(net.connector, "timed", False)
        self.prompt = self._prompt()
        self.table = net.embed.table(self.prompt.text.dtype, self.prompt.text.device)
        self.temperatures = schedule.temperatures(options.steps, options.temperature)
        attention = Attend(options.gamma, text=options.bias == "everything")
        self.plan = net.plan(self.prompt, self._times(len(self.prompt.text)), net.grid(self.tokens), attention)
        if options.reference_every > 1 and reference is not None:
            self.plan = replace(self.plan, cache=ReferenceCache())

    def _prompt(self, index: int = 0) -> Prompt:
        """What the network is told; at every step anew only where the connector wants to know the step."""
        text, negative, shown, micro = self.given
        states, pooled = text.states, text.pooled
        if self.guided:
            states, pooled = torch.cat([negative.states, states]), torch.cat([negative.pooled, pooled])
            shown = None if shown is None else torch.cat([shown, shown])
        told = {"timestep": self._times(len(states))[index]} if self.timed else {}
        return self.net.prompt(states, pooled, shown, micro, **told)

    def _times(self, rows: int) -> Tensor:
        """What each step is told: [steps, rows]."""
        steps = self.options.steps
        if self.options.time == "step":
            told = torch.arange(steps - 1, -1, -1, dtype=torch.float32)
        else:
            ratios = [1.0, *(schedule.mask_ratio(i, steps, self.options.schedule) for i in range(steps - 1))]
            told = 1000 * torch.tensor(ratios)
        return told[:, None].expand(-1, rows).to(self.tokens.device)

    def go(self, report) -> Result:
        held, scores = None, None
        for index in range(self.options.steps):
            stepped, scores, held = self._step(index)
            self.tokens = stepped.tokens.view(self.batch, *self.size)
            if report is not None:
                report(Report(index, self.tokens, stepped.clean.view(self.batch, *self.size), scores, held))
        return Result(self.tokens, self._held(held), scores)

    def _held(self, held: Tensor | None) -> Tensor:
        if self.reference is None:
            return torch.zeros_like(self.new)
        kept = ~self.new if held is None else ~self.new | held
        return kept & (self.tokens == self.reference)

    def _step(self, index: int):
        options, steps = self.options, self.options.steps
        last = index == steps - 1
        capture = self._capture(index)
        features = self._features(index, self._watched(index, capture))
        scores = self.localise(capture.maps, self.net.grid(self.tokens)) if capture is not None else None
        rows = self._rows(features, index)
        drawn = schedule.draw(rows, self.generator, last=last, exact=options.exact_draws)
        held = self._where_held(scores)
        hold = None
        if held is not None:
            hold = schedule.Hold(held.flatten(1), self.reference.flatten(1), options.hold == "strict")
        ratio = None if last else self.share * schedule.mask_ratio(index, steps, options.schedule)
        stepped = schedule.step(
            self.tokens.flatten(1), drawn, rows.of, mask_token=self.net.config.mask_token, ratio=ratio,
            temperature=float(self.temperatures[index]), hold=hold,
        )  # fmt: skip
        return stepped, scores, held

    def _capture(self, index: int) -> Capture | None:
        if not self.options.blocks or self.localise is None:
            return None
        return Capture(self.options.blocks, self.options.rows, half=self._guided(index))

    def _watched(self, index: int, capture: Capture | None) -> Capture | Captures | None:
        """All that reads a step's attention."""
        other = None if self.watch is None else self.watch(index, self._guided(index))
        return Captures(capture, other) if capture is not None and other is not None else capture or other

    def _guided(self, index: int) -> bool:
        return self.guided and index < round(self.options.guidance_until * self.options.steps)

    def _features(self, index: int, capture: Capture | None) -> Tensor:
        """Features [b or 2b, c, h, w]: the unconditional half first, where guidance runs."""
        if self.guided and not self._guided(index):
            self._end_guidance()
        if self.timed and index:
            self.prompt = replace(self.prompt, text=self._prompt(index).text)
        plan = at(self.plan, index)
        if plan.cache is not None:
            plan.cache.reuse = index % self.options.reference_every != 0 and bool(plan.cache.by_block)
        tokens = torch.cat([self.tokens, self.tokens]) if self.guided else self.tokens
        return self.net.features(tokens, self.prompt, plan, capture=capture, table=self.table)

    def _end_guidance(self) -> None:
        """From here on the conditional half alone is worked out."""
        self.guided = False
        self.prompt = self.prompt.halves()[1]
        cache = None if self.plan.cache is None else ReferenceCache()
        times = self._times(len(self.prompt.text))
        plan = self.net.plan(self.prompt, times, self.net.grid(self.tokens), self.plan.attention)
        self.plan = replace(plan, cache=cache)

    def _rows(self, features: Tensor, index: int) -> schedule.Rows:
        """Probabilities of the unknown positions (of all, for the released code's draws). Guidance comes before the
        projection to the vocabulary, which is linear."""
        tokens = self.tokens.flatten(1)
        wanted = torch.ones_like(tokens, dtype=torch.bool)
        if not self.options.exact_draws:
            wanted = tokens == self.net.config.mask_token
        where = wanted.flatten().nonzero()[:, 0]
        features = features.permute(0, 2, 3, 1).flatten(1, 2)
        if self._guided(index):
            without, with_text = (x.flatten(0, 1)[where] for x in features.chunk(2))
            chosen = without + self.options.guidance * (with_text - without)
        else:
            chosen = features.flatten(0, 1)[where]
        return schedule.Rows(where, self.net.mlm_layer.logits(chosen).float().softmax(-1), tuple(tokens.shape))

    def _where_held(self, scores: Tensor | None) -> Tensor | None:
        """Positions [b, h, w] that the region hold keeps, inside what is new."""
        if scores is None or self.reference is None or self.options.threshold <= 0:
            return None
        held = schedule.hold_where(scores, self.options.threshold, self.size)
        return held.view(self.batch, *self.size) & self.new


def _check(batch: int, size, reference, mask, options: Options) -> None:
    for name, given in (("reference", reference), ("mask", mask)):
        if given is not None and tuple(given.shape) != (batch, *size):
            raise EditError(
                f"The {name} has {tuple(given.shape)} tokens and {(batch, *size)} are sampled; bring them to one size."
            )
    if mask is not None and reference is None:
        raise EditError("A mask needs the reference picture, of which the rest is kept.")
    if mask is not None and not bool(mask.any()):
        raise EditError("The mask is empty at the token grid; paint a larger region.")
    if options.threshold > 0 and reference is None:
        raise EditError("Region hold needs the reference picture, whose tokens it keeps.")
