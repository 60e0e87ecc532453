"""A run of EditMGT from nodes: settings in, tokens out; and the guider that SamplerCustomAdvanced can drive."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...models.editmgt import localise as localisation
from ...models.editmgt.options import Compat, Options, Speed, Text
from ...models.errors import EditError
from . import editmgt
from .bundles import say
from .devices import in_comfyui, load_device
from .progress import reporter

if TYPE_CHECKING:
    from ...models.editmgt.atlas import Atlas
    from ...models.editmgt.sampling import Report, Result


@dataclass(frozen=True)
class Reading:
    """What EditMGT Localise chooses: whose attention is read, for which word, and how the map is smoothed."""

    blocks: str = localisation.BLOCKS
    keyword: str = ""
    occurrence: int = 1
    smoothing: localisation.Smoothing = localisation.Smoothing()


@dataclass(frozen=True)
class Holding:
    """What EditMGT Region Hold chooses: λ, the user's mask, and whether a held token may change again."""

    threshold: float = 0.0
    mode: str = "official"
    mask: Tensor | None = None
    mask_threshold: float = 0.5
    reading: Reading | None = None


def adjusted(options: Options, compat: Compat | None, speed: Speed | None) -> Options:
    """The options with what EditMGT Compatibility and EditMGT Speed choose."""
    for one in (compat, speed):
        options = options if one is None else one.applied(options)
    return options


def rows(clip: editmgt.Clip, instruction: str, reading: Reading | None, compat: Compat | None) -> Tensor | None:
    """The rows of the text that a localisation reads; None for all. EditError for a keyword that is not in it."""
    if reading is None or not reading.keyword:
        return None
    released = compat is not None and compat.clip_positions
    return clip.rows(instruction, reading.keyword, reading.occurrence, released)


def with_reading(options: Options, model: editmgt.Model, reading: Reading | None, rows: Tensor | None) -> Options:
    """The options with the blocks and text rows that a localisation reads."""
    if reading is None:
        return options
    blocks = localisation.chosen_blocks(reading.blocks, model.diffusion_model.config)
    return replace(options, blocks=blocks, rows=rows)


def run(
    model: editmgt.Model, text: Text, negative: Text | None, size: tuple[int, int], options: Options, *, seed: int,
    reference: Tensor | None = None, mask: Tensor | None = None, reading: Reading | None = None,
    micro: tuple = (1024, 1024, 0, 0, 6), report: Callable | None = None, atlas: "Atlas | None" = None,
) -> "tuple[Result, Tensor | None]":  # fmt: skip
    """`sampling.run` on the computing device in the model's precision; (result, attention [steps, b, n] or None).

    atlas: is filled. Says so where all tokens were held.
    """
    from ...models.editmgt import sampling, worn  # the network's code, only for a run

    device, net = load_device(), model.diffusion_model
    dtype = _compute_dtype(model)
    gatherer: list[localisation.Localiser] = []

    def localise(maps, grid):
        if not gatherer:
            gatherer.append(localisation.Localiser(grid, (reading or Reading()).smoothing))
        return gatherer[0].add(maps)

    def there(x):
        return None if x is None else x.to(device)

    def encoded(x: Text | None) -> Text | None:
        return None if x is None else Text(x.states.to(device, dtype), x.pooled.to(device, dtype))

    with worn.wearing(net, model.worn, device):
        result = sampling.run(
            net, encoded(text), encoded(negative), size, replace(options, rows=there(options.rows)),
            reference=there(reference), mask=there(mask), localise=localise, report=report, micro=micro,
            generator=torch.Generator().manual_seed(seed), watch=atlas,
        )  # fmt: skip
    if bool(result.held.all()):
        sentence = "EditMGT held every token: the result is the input. Lower λ, or paint a larger mask."
        say(sentence, logging.WARNING, once=False)
    return result, torch.stack(gatherer[0].attention).cpu() if gatherer else None


def teller(model, net: editmgt.Model, steps: int) -> "Callable[[Report], None]":
    """What tells the user of each step: the progress, and in ComfyUI a preview of the tokens as they settle.

    Makes what the preview needs, so it comes before the network is put in place for the run.
    """
    if not in_comfyui():
        tell = reporter()
        return lambda told: tell(told.index + 1, steps)
    import latent_preview

    show = latent_preview.prepare_callback(model, steps)

    def report(told: "Report") -> None:
        _stop_if_cancelled()
        show(told.index, net.vectors(told.clean.cpu()), None, steps)

    return report


def _compute_dtype(model: editmgt.Model) -> torch.dtype:
    """The weights' precision where the device computes in it; fp32 on the CPU."""
    dtype = model.get_dtype()
    if load_device().type == "cpu" or dtype not in (torch.float16, torch.bfloat16):
        return torch.float32
    return dtype


def repeated(text: Text | None, count: int, name: str) -> Text | None:
    """An encoded prompt for each picture. EditError when there are several and they do not fit."""
    if text is None or len(text.states) == count:
        return text
    if len(text.states) != 1:
        raise EditError(f"{len(text.states)} {name} do not fit {count} pictures; give one, or one each.")
    return Text(text.states.expand(count, -1, -1), text.pooled.expand(count, -1))


def from_conditioning(conditioning, name: str) -> Text | None:
    """A CONDITIONING of EditMGT's CLIP. EditError for another system's, and for several combined ones."""
    if conditioning is None:
        return None
    if len(conditioning) != 1 or conditioning[0][1].get("pooled_output") is None:
        raise EditError(f"The {name} conditioning is not a single one of EditMGT's CLIP; encode it with that.")
    return Text(conditioning[0][0], conditioning[0][1]["pooled_output"])


class Guider:
    """A GUIDER for ComfyUI's SamplerCustomAdvanced: steps are the sigmas' number less one, the seed is the noise's.

    The latent gives the size, and unless it is empty the picture; a denoise mask, one of the hold, or both say what of
    it is new. Sampler and sigmas' values count for nothing: tokens have no noise level.
    """

    def __init__(self, model, text: Text, negative: Text | None, options: Options, reference: dict | None,
                 holding: Holding | None, tiled: bool = False):  # fmt: skip
        self.model_patcher, self.text, self.negative, self.tiled = model, text, negative, tiled
        self.options, self.reference, self.holding = options, reference, holding or Holding()
        keyword = self.holding.reading.keyword if self.holding.reading and self.holding.threshold > 0 else ""
        if keyword:
            raise EditError(
                f"The keyword {keyword!r} needs EditMGT's CLIP, which the guider does not have; use EditMGT Sample, or "
                "leave the keyword empty."
            )

    def sample(
        self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None
    ):
        """Codebook vectors [b, c, h, w] of the sampled tokens."""
        model = editmgt.network(self.model_patcher)
        steps, size, batch = len(sigmas) - 1, tuple(latent_image.shape[-2:]), len(latent_image)
        if steps < 1:
            return latent_image
        reading = (self.holding.reading or Reading()) if self.holding.threshold > 0 else None
        options = replace(self.options, steps=steps, threshold=self.holding.threshold, hold=self.holding.mode)

        def report(told: "Report"):
            _stop_if_cancelled()
            if callback is not None:
                callback(told.index, model.vectors(told.clean.cpu()), None, steps)

        tile = editmgt.side_of(model) // 16 if self.tiled else max(size)
        height, width = (16 * min(side, tile) for side in size)
        options = replace(options, tile=tile)
        result, _ = run(
            model, repeated(self.text, batch, "instructions"), repeated(self.negative, batch, "negatives"), size,
            with_reading(options, model, reading, None), seed=seed or 0, reading=reading, report=report,
            reference=self._reference(model, latent_image), mask=self._new_tokens(denoise_mask, batch, size),
            micro=(width, height, 0, 0, 6),
        )  # fmt: skip
        return model.vectors(result.tokens.cpu())

    def _reference(self, model, latent_image) -> Tensor | None:
        if self.reference is not None:
            found = editmgt.tokens_of(model, self.reference)
            return found.expand(len(latent_image), -1, -1) if len(found) == 1 else found
        if bool(latent_image.any()):
            return editmgt.tokens_of(model, {"samples": latent_image})
        return None

    def _new_tokens(self, denoise_mask: Tensor | None, batch: int, size: tuple[int, int]) -> Tensor | None:
        """Where tokens are to be new: in all masks that there are, as what any of them keeps is kept."""
        new = None if denoise_mask is None else _token_mask(denoise_mask, batch, size, 0.5)
        if self.holding.mask is None:
            return new
        own = _token_mask(self.holding.mask, batch, size, self.holding.mask_threshold)
        return own if new is None else new.to(own.device) & own


def _token_mask(mask: Tensor, batch: int, size: tuple[int, int], threshold: float) -> Tensor:
    """A mask at the tokens: True where its mean is at least `threshold`. One serves a whole batch."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    small = torch.nn.functional.interpolate(mask, size, mode="area")[:, 0] >= threshold
    return small.expand(batch, -1, -1) if len(small) == 1 else small


def _stop_if_cancelled() -> None:
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()
