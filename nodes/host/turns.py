"""Turns of an editing session in ComfyUI: a MODEL that puts back what a noise mask holds, to the bit."""

from torch import Tensor

from ...models.errors import EditError
from ...models.kontext.turn import restored
from . import kontext
from .devices import in_comfyui

KEY = "editkit_hold"


def channels(model) -> int:
    """The channels of a FLUX.1 MODEL's latents. EditError without ComfyUI and for what Kontext cannot work on."""
    if not in_comfyui():
        raise EditError("Kontext Turn prepares ComfyUI's MODEL for its samplers; run this workflow in ComfyUI.")
    return kontext.latent_channels(model)


def with_turn(model):
    """A clone of a MODEL that samples references as Kontext Apply has it, and holds what the noise mask leaves out.

    After sampling to the last step, latents outside the noise mask are as they were; a core sampler leaves them near.
    Without a noise mask nothing is put back; so it is when noise is left for another sampler, which clean latents would
    not fit.
    """
    from comfy.patcher_extension import WrappersMP

    clone = kontext.applied(model)
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _put_back)
    return clone


def _put_back(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *rest, **more) -> Tensor:
    """Around `CFGGuider.outer_sample`."""
    from comfy.utils import reshape_mask

    to_the_end = float(sigmas[-1]) == 0  # now: uni_pc writes into the sigmas
    made = executor(noise, latent_image, sampler, sigmas, denoise_mask, *rest, **more)
    if denoise_mask is None or not to_the_end:
        return made
    return restored(made, latent_image, reshape_mask(denoise_mask, noise.shape))
