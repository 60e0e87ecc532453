"""References in a conditioning: what each one is, and how a chain of them is read.

The contract: `with_reference` returns a new conditioning whose entries have the reference's latent at the end of
"reference_latents" (ComfyUI's own list, so that native ReferenceLatent nodes may stand before and after) and the
`Reference` at the end of KEY. An entry of "model_conds" refuses, in one sentence, to be sampled by a MODEL that has not
been through Kontext Apply, which takes it away: settings are never ignored in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import EditError
from .ids import PLACEMENTS

KEY = "kontext_refs"
NATIVE, NATIVE_METHOD, GUARD = "reference_latents", "reference_latents_method", "editkit_kontext"
CONFINES = ("strict", "direct")


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference picture and how it counts.

    latent: [b, c, h, w] as the VAE gives it (not scaled for the network). placement, index: see `ids.places`; index 0
    takes the order in the chain. strength: w of the bias log w on its keys; 1 as trained, 0 as if it were not there.
    mask: [h, w], 0 to 1, stretched over the reference: how much each of its tokens counts. target_mask: [h, w], 0 to
    1, stretched over the output: where it counts. confine: how `target_mask` is kept (see `layout`). start, end: from
    which to which share of the sampling it is there. position: where its latent is in "reference_latents".
    """

    latent: Tensor
    placement: str = "offset"
    index: int = 0
    strength: float = 1.0
    mask: Tensor | None = None
    target_mask: Tensor | None = None
    confine: str = "strict"
    start: float = 0.0
    end: float = 1.0
    position: int = 0

    def __post_init__(self):
        check_latent(self.latent)
        _choice("placement", self.placement, PLACEMENTS)
        _choice("confinement", self.confine, CONFINES)
        if self.index < 0:
            raise EditError(f"The virtual time index is {self.index}; give 0 for the order in the chain, or above.")
        if not 0 <= self.strength <= 100:
            raise EditError(f"The reference's strength is {self.strength}; give 0 to 100, 1 being as trained.")
        if not 0 <= self.start <= self.end <= 1:
            raise EditError(f"The reference counts from {self.start} to {self.end}; give 0 <= start <= end <= 1.")
        for what, mask in (("mask", self.mask), ("target mask", self.target_mask)):
            _check_mask(what, mask)


class NeedsApply:
    """Stands in for the references' settings until Kontext Apply puts them in; refuses to be sampled.

    Has the methods of ComfyUI's COND objects, of which `process_cond` is the first that a sampler calls.
    """

    def process_cond(self, **_):
        raise EditError(
            "This conditioning has a Kontext Reference, and the MODEL that samples it has not been through Kontext "
            "Apply; put Kontext Apply between the FLUX.1 loader and the sampler."
        )

    def can_concat(self, other) -> bool:
        return isinstance(other, NeedsApply)

    def size(self) -> list[int]:
        return [1]


def with_reference(conditioning: list, reference: Reference) -> list:
    """A new conditioning, each of whose entries has one more reference. The given one is not changed.

    conditioning: ComfyUI's list of [embedding, options].
    """
    return [[entry[0], _with(entry[1], reference), *entry[2:]] for entry in conditioning]


def _with(options: dict, reference: Reference) -> dict:
    latents = list(options.get(NATIVE, []))
    placed = replace(reference, position=len(latents))
    return {
        **options,
        NATIVE: [*latents, reference.latent],
        KEY: [*options.get(KEY, []), placed],
        "model_conds": {**options.get("model_conds", {}), GUARD: NeedsApply()},
    }


def chain(options: dict) -> list[Reference]:
    """All references of a conditioning's entry in order: ours, and native ones by the entry's own method.

    EditError when "reference_latents" no longer holds what Kontext Reference put there.
    """
    latents = options.get(NATIVE) or []
    method = options.get(NATIVE_METHOD) or "offset"
    method = method if method in PLACEMENTS else "offset"  # what the core makes of an unknown one
    ours = {reference.position: reference for reference in options.get(KEY) or []}
    for position, reference in ours.items():
        if position >= len(latents) or latents[position].shape[-2:] != reference.latent.shape[-2:]:
            raise EditError(
                "Another node has changed the reference latents after Kontext Reference; put Kontext Reference "
                "after it."
            )
    return [
        replace(ours[i], latent=latent) if i in ours else Reference(latent, method, position=i)
        for i, latent in enumerate(latents)
    ]


def check_latent(latent: Tensor) -> None:
    """EditError unless it is a latent [b, c, h, w] of finite numbers."""
    if not isinstance(latent, Tensor) or latent.ndim != 4 or 0 in latent.shape:
        shape = list(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
        raise EditError(f"A reference is a latent of [batch, channels, height, width]; this one is {shape}.")
    bad = int((~torch.isfinite(latent)).sum())
    if bad:
        raise EditError(f"The reference latent has {bad} values that are not numbers (NaN or infinite); encode again.")


def check_channels(latents: Sequence[Tensor], channels: int) -> None:
    """EditError unless every reference has as many channels as the network's latents."""
    for latent in latents:
        if latent.shape[1] != channels:
            raise EditError(
                f"A reference latent has {latent.shape[1]} channels and this MODEL's have {channels}; encode the "
                "reference with FLUX's VAE."
            )


def _check_mask(what: str, mask: Tensor | None) -> None:
    if mask is None:
        return
    if mask.ndim != 2 or 0 in mask.shape:
        raise EditError(f"The reference's {what} is [height, width]; this one is {list(mask.shape)}.")
    if not bool(torch.isfinite(mask).all()):
        raise EditError(f"The reference's {what} has values that are not numbers; check what made it.")


def _choice(what: str, value: str, known) -> None:
    if value not in known:
        raise EditError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")
