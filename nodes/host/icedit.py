"""ICEdit's conditioning for FLUX.1 Fill and its resolution-dependent shift, on ComfyUI's own types."""

import torch

from ...models import masks
from ...models.errors import EditError
from ...models.kontext import schedule
from . import flux, memo
from .flux import need_comfyui  # noqa: F401 - what the nodes ask first

T5_OPTION = "t5xxl_min_length"


def encoded(clip, text: str, length: int):
    """CONDITIONING of a prompt, T5's tokens padded to `length` (the released code: 512, ComfyUI: 256)."""
    if clip is None:
        raise EditError("The CLIP is missing; wire FLUX's text encoders (clip_l and t5xxl).")
    return memo.recall("icedit text", (clip,), lambda: _encode(clip, text, length), (text, length))


def _encode(clip, text: str, length: int):
    if length and hasattr(clip, "set_tokenizer_option"):
        clip = clip.clone()
        clip.set_tokenizer_option(T5_OPTION, length)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def conditioned(conditionings: list, vae, diptych, mask, guidance: float) -> tuple[list, dict]:
    """(the conditionings for FLUX.1 Fill, the diptych's LATENT).

    diptych: IMAGE [b, h, 2·w, 3]; mask: MASK, white where Fill paints; what is under it is grey to the network. Fill
    was trained on binary masks, so every value above black counts as white.
    """
    if vae is None:
        raise EditError("The VAE is missing; wire FLUX's (ae.safetensors).")
    pixels = diptych[..., :3]
    height, width = pixels.shape[1:3]
    if height % 16 or width % 16:
        raise EditError(f"A diptych of {width}x{height} px has no whole tokens of 16 px; make it with ICEdit Diptych.")
    seen = masks.binarise(masks.fit(mask, height, width, mode="nearest"))[:, None].to(pixels)  # [b, 1, h, 2w]
    if len(seen) not in (1, len(pixels)):
        raise EditError(f"{len(seen)} masks do not fit {len(pixels)} diptychs; wire both from one ICEdit Diptych.")
    hidden = (pixels - 0.5) * (1 - seen.movedim(1, -1)) + 0.5
    values = {"concat_latent_image": vae.encode(hidden), "concat_mask": seen, "guidance": guidance}
    made = [[[tokens, {**options, **values}] for tokens, options in one] for one in conditionings]
    return made, {"samples": vae.encode(pixels)}


def with_shift(model, mu: float):
    """A clone of a FLUX.1 MODEL whose own schedulers (simple, beta …) are shifted by μ."""
    flux.network(model, "ICEdit Schedule")
    import comfy.model_sampling as sampling

    shifted = type("Shifted", (sampling.ModelSamplingFlux, sampling.CONST), {})(model.model.model_config)
    shifted.set_parameters(shift=mu)
    clone = model.clone()
    clone.add_object_patch("model_sampling", shifted)
    return clone


def mu_of(latent: dict, base_shift: float, max_shift: float) -> float:
    """The shift for a diptych's LATENT: by the tokens of both panels."""
    height, width = latent["samples"].shape[-2:]
    return schedule.mu_of_tokens(schedule.tokens_of_size(8 * width, 8 * height), base_shift, max_shift)


def locked(latent: dict, mask: torch.Tensor) -> dict:
    """The LATENT with a noise mask: the left panel, and what a mask leaves out, is set back at every step."""
    return {**latent, "noise_mask": masks.binarise(masks.checked(mask))}
