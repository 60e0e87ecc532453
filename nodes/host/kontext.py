"""Kontext Apply and Context Reuse as wrappers of a ComfyUI MODEL. Clone-scoped: a MODEL without them is untouched.

A sampling makes a `Run` of its own, which travels with its conditionings; so two clones share nothing, and whatever
ends a run, its last step or an interruption, leaves nothing behind.
"""

import math

from ...models.errors import EditError
from ...models.kontext.ids import grid
from ...models.kontext.reuse import Cache, Reuse, megabytes
from .devices import in_comfyui
from .kontext_conds import Run, count, prepared
from .kontext_forward import forward

KEY = "editkit_kontext"


class Sampling:
    """ComfyUI's OUTER_SAMPLE wrapper: lays out the references of the guider's conditionings for one run."""

    def __init__(self, reuse: Reuse | None):
        self.reuse = reuse

    def __call__(self, executor, noise, *args, **kwargs):
        import comfy.model_management

        guider, run = executor.class_obj, self.run()
        model = guider.model_patcher
        channels = latent_channels(model)
        if noise.shape[1] != channels:
            raise EditError(
                f"The latent to sample has {noise.shape[1]} channels and FLUX.1's have {channels}; make it with Empty "
                "SD3 Latent Image or FLUX's VAE."
            )
        guider.conds = prepared(guider.conds, run, model, noise.shape, channels)
        number, megapixels = count(guider.conds)
        try:
            _check_memory(model, noise.shape, guider.conds, number, megapixels)
            return executor(noise, *args, **kwargs)
        except comfy.model_management.OOM_EXCEPTION as error:
            if not number or isinstance(error, EditError) or not _out_of_memory(error):
                raise
            comfy.model_management.unload_all_models()
            raise EditError(_too_much(number, megapixels)) from None
        finally:
            run.clear()

    def run(self) -> Run:
        return Run(None if self.reuse is None or self.reuse.off else Cache(self.reuse))


def _out_of_memory(error: Exception) -> bool:
    """OOM_EXCEPTION is plain Exception where torch has no CUDA."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError")


def _check_memory(model, shape, conds, number: int, megapixels: float) -> None:
    """EditError when a single pass would not fit the device, by ComfyUI's own estimate."""
    if not number:
        return
    import comfy.model_management
    from comfy.sampler_helpers import estimate_memory

    needed = min(estimate_memory(model, shape, conds))
    if needed > comfy.model_management.get_total_memory(model.load_device):
        raise EditError(_too_much(number, megapixels))


def _too_much(number: int, megapixels: float) -> str:
    return (
        f"{number} reference{'s' * (number != 1)} of together {megapixels:.2f} megapixels do not fit in memory; give "
        "them smaller budgets in Kontext Reference, or take fewer."
    )


def network(model):
    """A MODEL's FLUX.1 transformer. EditError for what our hooks cannot reach."""
    import comfy.ldm.flux.model

    base, net = model.model, model.get_model_object("diffusion_model")
    net = getattr(net, "_orig_mod", net)
    kind = type(net)
    if "nunchaku" in f"{kind.__module__}.{kind.__name__}".lower():
        raise EditError(
            "This is a Nunchaku MODEL, whose blocks Kontext Apply's hooks cannot reach; load FLUX.1 in another format "
            "(fp8 or GGUF)."
        )
    if not isinstance(net, comfy.ldm.flux.model.Flux) or len(net.params.axes_dim) != 3 or net.patch_size != 2:
        raise EditError(
            f"Kontext Apply needs a FLUX.1 MODEL, and this one is {type(base).__name__} ({kind.__name__})."
        )
    return net


def latent_channels(model) -> int:
    """The channels of the MODEL's latents. EditError for a FLUX.1 that takes more than its latents."""
    net = network(model)
    taken, given = (n // net.patch_size**2 for n in (net.in_channels, net.out_channels))
    if taken != given:
        raise EditError(
            f"This FLUX.1 takes {taken} channels a latent pixel (Fill, Depth and Canny do) and a reference has {given};"
            " load FLUX.1 Kontext or another that takes plain latents."
        )
    return given


def applied(model, reuse: Reuse | None = None):
    """A clone of a FLUX.1 MODEL that samples references as laid out; with `reuse`, or what it had before, kept.

    EditError without ComfyUI and for a MODEL whose blocks cannot be reached.
    """
    if not in_comfyui():
        raise EditError("Kontext Apply works on ComfyUI's MODEL; run this workflow in ComfyUI.")
    from comfy.patcher_extension import WrappersMP

    latent_channels(model)
    clone, reuse = model.clone(), reuse or kept_by(model)
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, Sampling(reuse)), (WrappersMP.DIFFUSION_MODEL, forward)):
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def kept_by(model) -> Reuse | None:
    """The settings of Kontext Context Reuse that a MODEL has."""
    from comfy.patcher_extension import WrappersMP

    return next((w.reuse for w in model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)), None)


def told(model, reuse: Reuse, latents: list) -> str:
    """What a MODEL's context takes: of the given reference latents, or of one of 1024x1024 where there are none."""
    net = network(model)
    layers = len(net.double_blocks) + len(net.single_blocks)
    dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    sizes = [tuple(latent.shape[-2:]) for latent in latents] or [(128, 128)]
    tokens = sum(math.prod(grid(size)) for size in sizes)
    needed = megabytes(layers, net.hidden_size, tokens, 1, reuse.store, dtype.itemsize)
    what = f"{len(latents)} reference{'s' * (len(latents) != 1)}" if latents else "A reference of 1024x1024"
    if reuse.off:
        return "Off: the references are computed anew at every step, and nothing is kept."
    return (
        f"{what} ({tokens} tokens, {layers} layers): {needed:.1f} MiB for each conditioning of each picture of a "
        f"batch, store {reuse.store}, at most {reuse.limit:g} GiB."
    )
