"""BlazeEdit's five edits, from the user's picture to the user's picture.

`encode`, `sample`, `decode` and `deliver` are the four steps that the canvas shows as nodes; `remove`, `outpaint`,
`tone`, `relight` and `sticker` run them in one go. Pictures are [b, 3, h, w] in 0..1, masks [b, h, w], white = edit.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..errors import EditError
from . import delivering, maps, schedule
from .delivering import deliver
from .first_guess import TONE_BLEND, TONE_LIMIT, first_guess
from .guess import partial_stretch
from .model import BlazeEdit
from .tasks import Task
from .tasks import task as find_task
from .work import FILL_CONTEXT, Conditioning, Edit, Work, fill_canvas, fitted, sticker_canvas

__all__ = [
    "Conditioning",
    "Edit",
    "decode",
    "deliver",
    "encode",
    "extended_alpha",
    "guess_only",
    "outpaint",
    "outpaint_margins",
    "relight",
    "remove",
    "sample",
    "sticker",
    "swap",
    "tone",
]
Callback = Callable[[int, int], None] | None
BLANK = 0.5  # what f_θ sees where a picture does not exist yet


@torch.no_grad()
def encode(
    model: BlazeEdit,
    image: Tensor,
    mask: Tensor | None,
    task: str,
    *,
    shadow: bool = True,
    tau: float | None = None,
) -> Conditioning:
    """Mask Task: fits image and mask to the working canvas, makes the first guess, and runs f_θ(concat[x, τ·m]).

    For removal the object's shadow is lifted first (`shadow`). For outpainting, `mask` marks the new pixels.
    tau replaces the task's own signal (to measure what τ does). EditError for an unknown task or an empty mask.
    """
    chosen = find_task(task, model.config.extra_tasks)
    mask = check_mask(image, mask, chosen)
    device = model.autoencoder.mean.device
    works = []
    for index in range(len(image)):
        one = image[index : index + 1].to(device), mask[index : index + 1].to(device)
        works.append(_encode_one(model, *one, chosen, shadow, chosen.tau if tau is None else tau))
    return Conditioning(chosen, works)


def check_mask(image: Tensor, mask: Tensor | None, task: Task) -> Tensor:
    """A mask that fits the image batch. EditError when one is needed and missing, empty, or all white for removal."""
    if mask is None:
        if task.needs_mask:
            raise EditError(f"The task {task.name!r} needs a mask; paint the region to edit white.")
        return torch.ones(len(image), *image.shape[-2:], device=image.device)
    mask = masks.fit(mask, *image.shape[-2:], batch=len(image))
    covered = (mask > 0).flatten(1)
    if task.needs_mask and not bool(covered.any(1).all()):
        raise EditError("The mask is empty (all black); paint the region to edit white.")
    if task.name == "remove" and bool(covered.all(1).any()):
        raise EditError(
            "The mask covers the whole picture; leave some of it black, for the fill to continue from."
        )
    return mask


def _encode_one(model: BlazeEdit, image: Tensor, mask: Tensor, task: Task, shadow: bool, tau: float) -> Work:
    hole, lifted, crop = masks.binarise(mask), None, None
    original = image
    if task.delivery == "paste":
        if task.name == "remove" and shadow and model.shadow_head is not None:
            image, lifted = maps.lift_shadow(model, image, hole)
        small, small_hole, crop = fill_canvas(
            image, hole, model.config.fill_size, whole=task.name == "outpaint"
        )
    elif task.delivery == "sticker":
        small, small_hole, crop = sticker_canvas(image, mask, model.config.sticker_size)
    else:
        size = fitted(*image.shape[-2:], model.config.map_size)
        small, small_hole = maps.shrink(image, size), masks.fit(hole, *size, mode="nearest")
    if task.name == "outpaint":
        small = torch.where(small_hole[:, None] > 0, torch.full_like(small, BLANK), small)
    guess = first_guess(task.name, small, small_hole)
    features, latent = model.conditions(small, small_hole, tau, guess)
    return Work(image, original, mask, small, small_hole, guess, latent, features, crop, lifted)


@torch.no_grad()
def sample(
    model: BlazeEdit,
    conditioning: Conditioning,
    *,
    steps: int | None = None,
    seed: int = 0,
    callback: Callback = None,
) -> list[Tensor]:
    """Runs the few-step sampler (default: the task's own number of steps) and returns latents [1, c, h/8, w/8] each.

    Noise is drawn on the CPU from `seed` + index; a one-step edit starts from zero noise, which is its mean.
    """
    steps = conditioning.task.steps if steps is None else steps
    total, out = steps * len(conditioning.works), []
    for index, work in enumerate(conditioning.works):
        generator = None if steps == 1 else torch.Generator().manual_seed((seed + index) % 2**63)
        shape = (1, model.config.latent_channels, *work.features.shape[-2:])
        step = None if callback is None else lambda i, n, base=index * steps: callback(base + i, total)
        out.append(schedule.sample(
            lambda z, t, w=work: model.denoise(z, t, w.features, w.guess_latent), shape, schedule=model.config.schedule,
            steps=steps, generator=generator, device=work.features.device, callback=step,
        ))  # fmt: skip
    return out


@torch.no_grad()
def decode(model: BlazeEdit, latents: list[Tensor]) -> list[Tensor]:
    """Decodes latents to images [1, 3, hw, ww] in 0..1, of each picture's working size or the model's fixed one."""
    return [model.autoencoder.decode(z).clamp(0, 1) for z in latents]


def remove(
    model: BlazeEdit, image: Tensor, mask: Tensor, *, shadow: bool = True, texture: bool = True, grow: int = 0,
    feather: int = 4, steps: int | None = None, seed: int = 0, callback: Callback = None,
) -> Edit:  # fmt: skip
    """Removes what the mask covers, and the shadow that it casts. `changed` is the feathered mask ∪ that shadow.

    Objects far apart are removed one after the other, each on a canvas of its own, so that none is worked on tiny.
    """
    check_mask(image, mask, find_task("remove"))
    mask = masks.fit(mask, *image.shape[-2:], batch=len(image))
    mask = masks.grow(mask, grow) if grow else mask
    pieces = [masks.separate(mask[i : i + 1], FILL_CONTEXT) for i in range(len(image))]
    steps = find_task("remove").steps if steps is None else steps
    total, done, edits = steps * sum(map(len, pieces)), 0, []
    for index, parts in enumerate(pieces):
        one, changed = image[index : index + 1], torch.zeros_like(mask[:1])
        for part in parts:
            step = None if callback is None else lambda i, n, base=done: callback(base + i, total)
            conditioning = encode(model, one, part, "remove", shadow=shadow)
            decoded = decode(
                model, sample(model, conditioning, steps=steps, seed=seed + index, callback=step)
            )
            edit = deliver(model, conditioning, decoded, feather=feather, texture=texture, seed=seed)
            one, changed, done = (
                edit.image,
                torch.maximum(changed.to(edit.changed), edit.changed),
                done + steps,
            )
        edits.append((one, changed))
    return Edit(*(torch.cat(parts) for parts in zip(*edits, strict=True)))


def outpaint(
    model: BlazeEdit, image: Tensor, *, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0,
    texture: bool = True, feather: int = 16, steps: int | None = None, seed: int = 0, callback: Callback = None,
) -> Edit:  # fmt: skip
    """Continues a picture beyond its borders by so many pixels a side; its own pixels stay bit-identical."""
    margins = {"left": left, "top": top, "right": right, "bottom": bottom}
    negative = next((k for k, v in margins.items() if v < 0), None)
    if negative:
        raise EditError(f"The {negative} margin is {margins[negative]} px; use 0 or more.")
    if not any(margins.values()):
        return Edit(image.clone(), torch.zeros(len(image), *image.shape[-2:]))
    canvas = F.pad(image, (left, right, top, bottom), value=BLANK)
    mask = F.pad(torch.zeros(len(image), *image.shape[-2:]), (left, right, top, bottom), value=1.0)
    conditioning = encode(model, canvas, mask, "outpaint")
    decoded = decode(model, sample(model, conditioning, steps=steps, seed=seed, callback=callback))
    return deliver(model, conditioning, decoded, feather=feather, texture=texture, seed=seed)


def extended_alpha(alpha: Tensor | None, *, left: int, top: int, right: int, bottom: int) -> Tensor | None:
    """The alpha [b, h, w] of an outpainted picture: the new pixels are opaque."""
    return None if alpha is None else F.pad(alpha, (left, right, top, bottom), value=1.0)


def outpaint_margins(
    height: int, width: int, aspect: str, anchor: str = "center"
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the smallest canvas of an aspect ratio such as "16:9" that holds the picture.

    anchor says where the picture sits on it: center, left, right, top or bottom. EditError for other words.
    """
    try:
        wide, high = (float(part) for part in aspect.replace("x", ":").split(":"))
        ratio = wide / high
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not 0.1 <= ratio <= 10:
        raise EditError(f"The aspect ratio {aspect!r} is not like 16:9; give two numbers, at most 10 to 1.")
    if anchor not in ("center", "left", "right", "top", "bottom"):
        raise EditError(f"The anchor {anchor!r} is unknown; choose center, left, right, top or bottom.")
    extra_width, extra_height = max(0, round(height * ratio) - width), max(0, round(width / ratio) - height)
    left = {"left": 0, "right": extra_width}.get(anchor, extra_width // 2)
    top = {"top": 0, "bottom": extra_height}.get(anchor, extra_height // 2)
    return left, top, extra_width - left, extra_height - top


@torch.no_grad()
def tone(
    model: BlazeEdit, image: Tensor, mask: Tensor | None = None, *, strength: float = 1.0, method: str = "default",
    callback: Callback = None,
) -> Edit:  # fmt: skip
    """Corrects exposure, contrast and colour with one quadratic colour map per picture.

    method: "network" (the joint network), "stretch" (a partial stretch, no network), or "default", which is what
    measured best on photographs held back from training.
    """
    methods = {
        "network": lambda one: _tone_network(model, one),
        "stretch": lambda one: partial_stretch(one, TONE_BLEND, TONE_LIMIT),
    }
    method = maps.TONE_DEFAULT if method == "default" else method
    if method not in methods:
        raise EditError(f"The tone method {method!r} is unknown; choose default, network or stretch.")
    return maps.edit_by_map(image, mask, strength, methods[method], callback)


def _tone_network(model: BlazeEdit, image: Tensor) -> Tensor:
    """Tone by f_θ and the U-ViT with τ of tone, one step from zero noise, delivered as a colour map."""
    conditioning = encode(model, image, None, "tone")
    return deliver(model, conditioning, decode(model, sample(model, conditioning))).image


@torch.no_grad()
def relight(
    model: BlazeEdit,
    image: Tensor,
    mask: Tensor | None = None,
    *,
    strength: float = 1.0,
    method: str = "default",
    callback: Callback = None,
) -> Edit:
    """Takes shadows and casts of light away with a smooth gain map in linear light.

    method: "head" (the relight head), "network" (the joint network), or "default": the head where the model has one,
    which measured better on photographs held back from training. EditError for another method.
    """
    methods = {"head": maps.relight, "network": _relight_network}
    if method == "default":
        method = "network" if model.relight_head is None else "head"
    if method not in methods:
        raise EditError(f"The relighting method {method!r} is unknown; choose default, head or network.")
    return maps.edit_by_map(image, mask, strength, lambda one: methods[method](model, one), callback)


def _relight_network(model: BlazeEdit, image: Tensor) -> Tensor:
    """Relighting by f_θ and the U-ViT with τ of relight, one step from zero noise, delivered as a gain map."""
    conditioning = encode(model, image, None, "relight")
    return deliver(model, conditioning, decode(model, sample(model, conditioning))).image


def sticker(
    model: BlazeEdit, image: Tensor, mask: Tensor, *, border: float = 0.03, shadow: bool = True, steps: int = 1,
    seed: int = 0, callback: Callback = None,
) -> Edit:  # fmt: skip
    """Turns what the mask covers into a sticker: its colours by the network, a die-cut border of `border` times the
    short side, and a drop shadow. Returns RGBA on a canvas that is grown for them; changed is its alpha."""
    conditioning = encode(model, image, mask, "sticker")
    decoded = decode(model, sample(model, conditioning, steps=steps, seed=seed, callback=callback))
    return delivering.deliver_sticker(model, conditioning, decoded, border=border, shadow=shadow)


def swap(
    model: BlazeEdit, image: Tensor, mask: Tensor | None, task: str, tau: float, *, seed: int = 0
) -> Tensor:
    """The joint network's edit with another task's τ; first guess, mask and delivery stay. Returns the image."""
    conditioning = encode(model, image, mask, task, tau=tau)
    return deliver(model, conditioning, decode(model, sample(model, conditioning, seed=seed))).image


@torch.no_grad()
def guess_only(model: BlazeEdit, image: Tensor, mask: Tensor | None, task: str, **options) -> Edit:
    """The first guess alone, delivered the same way: what the network has to beat."""
    conditioning = encode(model, image, mask, task)
    latents = [model.autoencoder.encode(work.guess) for work in conditioning.works]
    return deliver(model, conditioning, decode(model, latents), **options)
