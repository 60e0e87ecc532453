"""A whole run: from [MASK] to a picture's tokens, with guidance, a reference, region hold and localisation."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import EditError
from . import padding, schedule
from .atlas import Atlas, AtlasCapture
from .attention import Attend, ReferenceCache
from .layers import Capture, Captures
from .options import Options, Text
from .tiles import tiles
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
ROUNDINGS = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run(
    net: EditMGT, text: Text, negative: Text | None, size: tuple[int, int], options: Options, *,
    reference: Tensor | None = None, mask: Tensor | None = None, localise: Localise | None = None,
    generator: torch.Generator | None = None, micro: tuple = (1024, 1024, 0, 0, 6),
    report: Callable[[Report], None] | None = None, watch: Atlas | None = None,
) -> Result:  # fmt: skip
    """Samples tokens [b, *size]. Without a reference [b, h, w] it is text to image.

    A canvas larger than options.tile is edited in overlapping tiles (`tiles`), `micro` saying the tiles' size.
    mask: bool [b, h, w], True where tokens are new. localise(maps by block, grid) makes the localisation map.
    report is called after every step. watch: the atlas to fill. EditError for what does not belong together.
    """
    run = _Run(net, text, negative, size, options, reference, mask, localise, generator, micro)
    run.watch = watch
    return run.go(report)


class _Run:
    watch: Atlas | None = None

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
        self.tiles = tiles(size, options.tile)
        self.states = text.states if not self.guided else torch.cat([negative.states, text.states])
        self.pads = padding.leading(self.states) if net.config.connector in padding.BY_TOKEN else 1
        self.prompts = self._prompts()
        self.table = net.embed.table(self.prompts[0].text.dtype, self.prompts[0].text.device)
        self.temperatures = schedule.temperatures(options.steps, options.temperature)
        self.attention = Attend(options.gamma, text=options.bias == "everything", pads=self.pads)
        self._plan()

    def _plan(self) -> None:
        """What the blocks share in all steps and tiles, and room for what they keep of each tile's reference."""
        prompt, kept = self.prompts[0], self.options.reference_every > 1 and self.reference is not None
        times, rounding = self._times(len(prompt.text)), ROUNDINGS[self.options.time_rounding]
        if not bool(torch.isfinite(times.to(rounding) * 1000).all()):
            raise EditError(f"A time of {float(times.max()):g} thousands is too large for fp16; use fewer steps.")
        grid = self.net.grid(self.tiles.cut(self.tokens, 0))
        self.plan = self.net.plan(prompt, times, grid, self.attention, rounding)
        self.caches = [ReferenceCache() if kept else None for _ in self.prompts]

    def _prompts(self) -> list[Prompt]:
        """What the network is told of each tile: its part of the reference with the same words."""
        first, shown = self._prompt(), self.given[2]
        if shown is None:
            return [first] * len(self.tiles.at)
        parts = [self.tiles.cut(shown, number) for number in range(1, len(self.tiles.at))]
        twice = 2 if self.guided else 1
        return [first] + [
            replace(first, reference=self.net.tokens(part.repeat(twice, 1, 1), first.text.dtype)[0]) for part in parts
        ]

    def _prompt(self, index: int = 0) -> Prompt:
        """What the network is told; at every step anew only where the connector wants to know the step."""
        text, negative, shown, micro = self.given
        states, pooled = padding.merged(self.states, self.pads), text.pooled
        shown = None if shown is None else self.tiles.cut(shown, 0)
        if self.guided:
            pooled = torch.cat([negative.pooled, pooled])
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
        features, maps = self._features(index)
        scores = self.localise(maps, self.net.grid(self.tokens)) if maps is not None else None
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
        rows = padding.rows(self.options.rows, self.pads)
        return Capture(self.options.blocks, rows, half=self._guided(index), pads=self.pads)

    def _watching(self, index: int) -> AtlasCapture | None:
        return None if self.watch is None else self.watch.capture(index, self._guided(index), self.pads)

    def _guided(self, index: int) -> bool:
        return self.guided and index < round(self.options.guidance_until * self.options.steps)

    def _features(self, index: int) -> tuple[Tensor, dict[int, Tensor] | None]:
        """Features [b or 2b, c, h, w], the unconditional half first where guidance runs, and the blocks' attention."""
        if self.guided and not self._guided(index):
            self._end_guidance()
        if self.timed and index:
            text = self._prompt(index).text
            self.prompts = [replace(prompt, text=text) for prompt in self.prompts]
        seen: list[dict[str, dict]] = []
        features = self.tiles.mean(self._of_tile(number, index, seen) for number in range(len(self.tiles.at)))
        maps, watched = (self._joined([one[who] for one in seen if who in one]) for who in ("localise", "watch"))
        if watched is not None:
            self.watch.add(index, watched)
        return features, maps

    def _of_tile(self, number: int, index: int, seen: list) -> Tensor | None:
        """A tile's features; what was read of its attention goes to `seen`. None for one that has nothing to say:
        nobody asks for its attention, and all of its tokens are known."""
        captures = {"localise": self._capture(index), "watch": self._watching(index)}
        captures = {who: one for who, one in captures.items() if one is not None}
        tokens = self.tiles.cut(self.tokens, number)
        if not captures and len(self.tiles.at) > 1 and not bool((tokens == self.net.config.mask_token).any()):
            return None
        plan = replace(at(self.plan, index), cache=self.caches[number])
        if plan.cache is not None:
            plan.cache.reuse = index % self.options.reference_every != 0 and bool(plan.cache.by_block)
        tokens = torch.cat([tokens, tokens]) if self.guided else tokens
        made = self.net.features(tokens, self.prompts[number], plan, table=self.table,
                                 capture=Captures(*captures.values()) if captures else None)  # fmt: skip
        seen.append({who: one.maps for who, one in captures.items()})
        return made

    def _joined(self, maps: list[dict]) -> dict | None:
        """The tiles' attention {block: [b, n]} on the whole grid, averaged as their features are."""
        if len(maps) < 2:
            return maps[0] if maps else None
        placed = self.tiles.on(self.net.grid(self.tokens))
        return {
            block: placed.mean(one[block].unflatten(-1, placed.tile)[:, None] for one in maps)[:, 0].flatten(1)
            for block in maps[0]
        }

    def _end_guidance(self) -> None:
        """From here on the conditional half alone is worked out."""
        self.guided, self.states = False, self.given[0].states
        self.prompts = [prompt.halves()[1] for prompt in self.prompts]
        self._plan()

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
