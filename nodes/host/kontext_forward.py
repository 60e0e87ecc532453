"""One forward pass of ComfyUI's FLUX with references laid out: position ids, the attention, and what is kept of it.

Everything hangs in a copy of the pass's own transformer_options; nothing of the network is replaced.
"""

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.kontext import ids
from ...models.kontext.attention import attention_of
from ...models.kontext.layout import Layout
from ...models.kontext.plan import Plan, Planned
from ...models.kontext.references import GUARD, Reference
from ...models.kontext.reuse import GIB, Cache, Entry
from .bundles import say
from .kontext_conds import Run

PATCHES, OVERRIDE = "patches", "optimized_attention_override"
SKIPPED = (
    "Another patch computes other attention layers than at the last full step; Kontext Context Reuse cannot be "
    "combined with one that skips layers at some steps."
)


def forward(executor, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None,
            transformer_options=None, **kwargs):  # fmt: skip
    """ComfyUI's DIFFUSION_MODEL wrapper: FLUX's forward with the layout of this step."""
    options, held = transformer_options or {}, kwargs.pop(GUARD, None)
    latents = list(ref_latents or [])
    plan = held.plan if held is not None else _native(latents, kwargs.get("ref_latents_method"))
    run = held.run if held is not None else Run()
    sigma = _sigma(options, timestep)
    numbers, layout = plan.at(sigma, tuple(x.shape[-2:]))
    latents = [latents[n] for n in numbers]
    kept = Keeping(run, plan, layout, options, sigma, x)
    step = Step(layout, kept, options.get(OVERRIDE))
    if kept.entry is not None and not kept.filling:
        latents = []
    masked = kwargs.get("attention_mask") is not None and bool(layout.blocks)
    out = executor(x, timestep, context, y, guidance, latents or None, control, step.hooked(options, masked), **kwargs)
    step.check()
    kept.done()
    return out


def _sigma(options: dict, timestep) -> float:
    levels = options.get("sigmas")
    return float((timestep if levels is None else levels).max())


def _native(latents: list[Tensor], method: str | None) -> Plan:
    """The plan of references that did not come through a guider: as the core takes them."""
    placement = method if method in ids.PLACEMENTS else "offset"
    return Plan(tuple(Planned(Reference(latent, placement)) for latent in latents))


class Keeping:
    """What this pass does with the run's cache: nothing, fill an entry, or read one."""

    def __init__(self, run: Run, plan: Plan, layout: Layout, options: dict, sigma: float, x: Tensor):
        self.run, self.layout, self.entry, self.filling, self.at = run, layout, None, False, 0
        self.cache: Cache | None = run.cache
        if self.cache is None or not layout.context_tokens:
            return
        # who it is for; the core gives a negative made for a positive's area the positive's uuid
        key = (*(tuple(options.get(k) or ()) for k in ("uuids", "cond_or_uncond")), tuple(x.shape), id(plan))
        self.entry = self.cache.usable(key, sigma, x, layout)
        if self.entry is None:
            self.filling, self.entry = True, self.cache.fill(key, sigma, x, layout)

    @property
    def reading(self) -> bool:
        return self.entry is not None and not self.filling

    def next(self) -> tuple[Tensor, Tensor]:
        """The keys and values of the next layer."""
        if self.at >= len(self.entry.layers):
            raise EditError(SKIPPED)
        layer = self.entry.layers[self.at]
        self.at += 1
        return layer[0].get(), layer[1].get()

    def done(self) -> None:
        """After the pass: the entry is complete, or was read to its end."""
        if self.filling:
            self.entry.complete = True
            _tell(self.run, self.entry, self.layout)
        elif self.reading and self.at != len(self.entry.layers):
            raise EditError(SKIPPED)


def _tell(run: Run, entry: Entry, layout: Layout) -> None:
    if run.told:
        return
    run.told = True
    settings = run.cache.settings
    say(
        f"Kontext Context Reuse keeps {entry.bytes / GIB:.3f} GiB of keys and values for {layout.context_tokens} "
        f"context tokens in {len(entry.layers)} layers (store {settings.store}, at most {settings.limit:g} GiB).",
        once=False,
    )


class Step:
    """The hooks of one pass. previous: the attention override that was there before, which goes on to be called."""

    def __init__(self, layout: Layout, kept: Keeping, previous):
        self.layout, self.kept, self.previous = layout, kept, previous
        self.attention = attention_of(layout, context=not kept.reading)
        self.text, self.seen, self.calls = None, False, 0
        self.overrides = False

    def hooked(self, options: dict, masked: bool) -> dict:
        """The pass's transformer_options with our hooks: ids first, so that other packs may still change them."""
        patches = options.get(PATCHES, {})
        mine = [self.placed, *patches.get("post_input", []), self.counted]
        out = {**options, PATCHES: {**patches, "post_input": mine}}
        self.overrides = masked or not self.layout.plain or self.kept.entry is not None
        if self.overrides:
            out[OVERRIDE] = self.attend
        return out

    def placed(self, args: dict) -> dict:
        """post_input: drops the tokens that do not count, and puts position ids in fp32."""
        image, layout = args["img"], self.layout
        reading = self.kept.reading
        if layout.pruned and not reading:
            image = image[:, layout.kept().to(image.device)]
        if image.shape[1] != self.attention.live:
            raise EditError(
                f"FLUX got {image.shape[1]} image tokens where Kontext Apply laid out {self.attention.live}; another "
                "pack changes its input and cannot be combined with it."
            )
        where = layout.ids(context=not reading).to(image.device)
        where = where[None].expand(len(image), -1, -1)
        return {**args, "img": image, "img_ids": where, "txt_ids": args["txt_ids"].float()}

    def counted(self, args: dict) -> dict:
        """post_input, last: how long the text is, whatever others have added to it."""
        if args["img"].shape[1] != self.attention.live:
            raise EditError(
                "Another patch adds image tokens to FLUX's input; it cannot be combined with Kontext Apply."
            )
        self.text, self.seen = args["txt"].shape[1], True
        return args

    def attend(self, function, q, k, v, heads, *args, mask=None, **kwargs):
        """optimized_attention_override: the layout's attention, by whatever computes attention otherwise."""

        def base(q, k, v, mask):
            if self.previous is not None:
                return self.previous(function, q, k, v, heads, *args, mask=mask, **kwargs)
            return function(q, k, v, heads, *args, mask=mask, **kwargs)

        if args or not kwargs.get("skip_reshape") or q.shape[2] != k.shape[2] or self.text is None:
            return base(q, k, v, mask)  # another pack's attention to something else
        self.calls += 1
        if self.kept.reading:
            more_k, more_v = self.kept.next()
            k, v = _joined(k, more_k), _joined(v, more_v)
        elif self.kept.filling:
            first = self.text + self.layout.target_tokens
            self.kept.cache.keep(self.kept.entry, k[:, :, first:], v[:, :, first:])
        return self.attention(base, q, k, v, mask)

    def check(self) -> None:
        """EditError when FLUX did not come by our hooks: nothing is left undone in silence."""
        if not self.seen or (self.overrides and not self.calls):
            raise EditError(
                "Another pack has replaced FLUX's forward pass, so that Kontext Apply's hooks are not reached; remove "
                "that node, or sample without Kontext Apply."
            )


def _joined(own: Tensor, more: Tensor) -> Tensor:
    return torch.cat([own, more.to(own.dtype)], dim=2)
