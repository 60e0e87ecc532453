"""Kontext Apply and Context Reuse as wrappers of a ComfyUI MODEL. Clone-scoped: a MODEL without them is untouched.

A sampling makes a `Run` of its own, which travels with its conditionings; so two clones share nothing, and whatever
ends a run, its last step or an interruption, leaves nothing behind.
"""

import math

from ...models.errors import EditError
from ...models.kontext.ids import grid
from ...models.kontext.references import NATIVE
from ...models.kontext.reuse import Cache, Reuse, megabytes
from . import flux
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


class Preparing:
    """ComfyUI's PREPARE_SAMPLING wrapper: has room made for what Kontext Context Reuse will keep on the device."""

    def __init__(self, reuse: Reuse):
        self.reuse = reuse

    def __call__(self, executor, model, noise_shape, conds, *args, **kwargs):
        kept = 0.0
        if self.reuse.store != "cpu":
            sizes = [lat.shape[-2:] for name in conds for one in conds[name] for lat in one.get(NATIVE) or []]
            kept = noise_shape[0] * taken(model, self.reuse, sizes) * 2**20
        plain = model.model.memory_required(list(noise_shape))
        if kept and plain > 0:  # the shape is read for this estimate only, which grows with its area
            area = math.ceil(math.prod(noise_shape[2:]) * (1 + kept / plain))
            noise_shape = [*noise_shape[:2], 1, area]
        return executor(model, noise_shape, conds, *args, **kwargs)


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
    return flux.network(model, "Kontext Apply", "load FLUX.1 in another format (fp8 or GGUF)")


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
    wrappers = {WrappersMP.OUTER_SAMPLE: Sampling(reuse), WrappersMP.DIFFUSION_MODEL: forward}
    if reuse is not None and not reuse.off:
        wrappers[WrappersMP.PREPARE_SAMPLING] = Preparing(reuse)
    clone.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    for kind, wrapper in wrappers.items():
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def kept_by(model) -> Reuse | None:
    """The settings of Kontext Context Reuse that a MODEL has."""
    from comfy.patcher_extension import WrappersMP

    return next((w.reuse for w in model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)), None)


def taken(model, reuse: Reuse, sizes) -> float:
    """MiB that the context of references of these (height, width) takes, for one picture."""
    net = network(model)
    dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    tokens = sum(math.prod(grid(size)) for size in sizes)
    return megabytes(_layers(net), net.hidden_size, tokens, 1, reuse.store, dtype.itemsize)


def _layers(net) -> int:
    return len(net.double_blocks) + len(net.single_blocks)


def told(model, reuse: Reuse, latents: list) -> str:
    """What a MODEL's context takes: of the given reference latents, or of one of 1024x1024 where there are none."""
    if reuse.off:
        return "Off: the references are computed anew at every step, and nothing is kept."
    sizes = [tuple(latent.shape[-2:]) for latent in latents] or [(128, 128)]
    what = f"{len(latents)} reference{'s' * (len(latents) != 1)}" if latents else "A reference of 1024x1024"
    tokens = sum(math.prod(grid(size)) for size in sizes)
    return (
        f"{what} ({tokens} tokens, {_layers(network(model))} layers): {taken(model, reuse, sizes):.1f} MiB for each "
        f"conditioning of each picture of a batch, store {reuse.store}, at most {reuse.limit:g} GiB."
    )
