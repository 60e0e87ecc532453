"""FLUX.1 Kontext: references with a strength, a place, masks and a time each; Eq. 12; reuse. On ComfyUI's own types."""

from ..models.errors import EditError
from ..models.kontext import picture, schedule
from ..models.kontext.ids import PLACEMENTS
from ..models.kontext.references import CONFINES, NATIVE, Reference, check_latent, with_reference
from ..models.kontext.reuse import STORES, Reuse
from .host import kontext
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, region
from .unpacking import picture as pixels

CATEGORY = "EditKit/kontext"
SHIFTS = ("size", "tokens", "mu", "alpha", "none")


class KontextReference(TakesPaint):
    DESCRIPTION = "Adds a reference picture to a conditioning, with its own strength, place, masks, time and size."
    CATEGORY = CATEGORY
    OVER = "target_mask"
    SEARCH_ALIASES = ["ReferenceLatent", "flux kontext", "image prompt", "style reference", "multi reference"]
    RETURN_TYPES, RETURN_NAMES = ("CONDITIONING", "LATENT"), ("conditioning", "latent")
    OUTPUT_TOOLTIPS = (
        "The conditioning with the reference; the MODEL that samples it goes through Kontext Apply.",
        "The reference's latent, as it is seen.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "The prompt, or the last of a chain of references."}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01, "tooltip":
                                       "How much it counts: 1 as trained, 0 as if it were not there, above 1 more."}),
                "placement": ([*PLACEMENTS], {"tooltip":
                              "offset: side by side (best with Kontext-dev). index: by time (Eq. 2). uxo: diagonal."}),
                "index": ("INT", {"default": 0, "min": 0, "max": 64, "tooltip":
                                  "Its virtual time i (Eq. 2); 0: its number in the chain, and for offset 1."}),
                "start_percent": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip":
                                            "From which part of the sampling on it is there."}),
                "end_percent": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip":
                                          "Until which part of the sampling it is there."}),
                "megapixels": ("FLOAT", {"default": 0.0, "min": 0.0, "max": picture.LARGEST, "step": 0.05, "tooltip":
                               "Its budget: a larger picture is scaled down, to fewer tokens. 0 leaves its size."}),
                "confine": ([*CONFINES], {"tooltip":
                            "strict: nothing outside target_mask changes with it. direct: outside does not see it."}),
            },
            "optional": {
                "latent": ("LATENT", {"tooltip": "The reference, encoded by FLUX's VAE."}),
                "image": ("IMAGE", {"tooltip": "Or the reference as a picture, with the VAE."}),
                "vae": ("VAE", {"tooltip": "FLUX's, for a picture and for a latent over its budget."}),
                "mask": ("MASK", {"tooltip": "Which of it counts: white does, grey in part, black is left out."}),
                "target_mask": ("MASK", {"tooltip": "Where in the output it counts: white."}),
                "mask_paint": paint_input("grey lets the reference count in part there.", over="target_mask"),
            },
        }  # fmt: skip

    def run(
        self, *, conditioning, strength, placement, index, start_percent, end_percent, megapixels, confine, latent=None,
        image=None, vae=None, mask=None, target_mask=None, mask_paint="",
    ):  # fmt: skip
        samples, mask = _encoded(latent, image, vae, _single(mask, "mask"), megapixels)
        target = _single(region_given(target_mask, mask_paint), "target mask")
        reference = Reference(
            samples, placement, index, strength, mask, target, confine, start_percent, end_percent,
        )  # fmt: skip
        return with_reference(conditioning, reference), {"samples": samples}


def _single(mask, what: str):
    """A MASK [h, w], or None for none and for the blank that stands for none. EditError for several."""
    mask = region(mask)
    if mask is None:
        return None
    if len(mask) != 1:
        raise EditError(f"The {what} of Kontext Reference has {len(mask)} pictures; give one for the whole batch.")
    return mask[0]


def _encoded(latent, image, vae, mask, megapixels: float):
    """The reference's latent and its mask, within the budget. EditError unless there is one of latent and image."""
    if (latent is None) == (image is None):
        raise EditError("Kontext Reference takes one of latent and image; wire the one or the other.")
    if image is None:
        samples = latent["samples"]
        check_latent(samples)
        height, width = (8 * side for side in samples.shape[-2:])
        if picture.size_of(width, height, megapixels) == (width, height):
            return samples, mask
        if vae is None:
            raise EditError(
                f"This latent is of {width}x{height} pixels, more than {megapixels:g} megapixels; wire FLUX's VAE to "
                "scale it, or set megapixels to 0."
            )
        image = vae.decode(samples)
    if vae is None:
        raise EditError("Kontext Reference needs FLUX's VAE to encode an image; wire it, or give a latent.")
    rgb, _ = pixels(image)
    if mask is not None:
        mask = picture.mask_within(mask, tuple(rgb.shape[-2:]), megapixels)
    return vae.encode(packed(picture.within(rgb, megapixels))), mask


class KontextApply:
    DESCRIPTION = "Makes FLUX.1 sample Kontext References as they say, with exact position ids at any size."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["flux kontext", "reference latents", "redux", "fp32 position ids"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MODEL",), ("model",), ("For any sampler or guider.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL", {"tooltip": "A FLUX.1, such as Kontext-dev: fp8, GGUF, with LoRAs."})}}

    def run(self, *, model):
        return (kontext.applied(model),)


class KontextSchedule:
    DESCRIPTION = "The steps' noise levels by Eq. 12: shifted by μ, which goes with the size, and spread by σ."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["sigmas", "ModelSamplingFlux", "scheduler", "shift", "timesteps"]
    RETURN_TYPES, RETURN_NAMES = ("SIGMAS", "FLOAT"), ("sigmas", "mu")
    OUTPUT_TOOLTIPS = ("For SamplerCustomAdvanced.", "The μ that was used; 0 where nothing is shifted.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        def number(default, low, high, step, tooltip):
            return ("FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip})

        return {
            "required": {
                "steps": ("INT", {"default": 28, "min": 1, "max": 1000, "tooltip": "Steps; 28 or 30 as released."}),
                "shift": ([*SHIFTS], {"tooltip": "What gives μ: the size or tokens of the output (as released), mu, "
                                      "alpha, or nothing: linear steps."}),
                "width": ("INT", {"default": 1024, "min": 16, "max": 16384, "step": 8, "tooltip":
                                  "Of the output in pixels, for the shift by size; a latent takes its place."}),
                "height": ("INT", {"default": 1024, "min": 16, "max": 16384, "step": 8, "tooltip": "The same."}),
                "tokens": ("INT", {"default": 4096, "min": 1, "max": 2**20, "tooltip":
                                   "Of the output, one for 16x16 pixels, for the shift by tokens."}),
                "mu": number(1.15, -20.0, 20.0, 0.0001, "μ of Eq. 12, for the shift mu."),
                "alpha": number(3.0, 0.0001, 1000.0, 0.01, "α = e^μ, for the shift alpha."),
                "sigma": number(1.0, 0.01, 10.0, 0.01, "σ of Eq. 12: 1 as released; above, more steps at both ends."),
                "base_shift": number(schedule.BASE_SHIFT, -20.0, 20.0, 0.01, "μ at 256x256, for size and tokens."),
                "max_shift": number(schedule.MAX_SHIFT, -20.0, 20.0, 0.01, "μ at 1024x1024, for size and tokens."),
                "start": number(1.0, 0.001, 1.0, 0.001, "The time before the shift at which steps begin: 1 is noise, "
                                "below it a noised picture."),
            },
            "optional": {"latent": ("LATENT", {"tooltip": "What is sampled: its size is the output's."})},
        }  # fmt: skip

    def run(
        self, *, steps, shift, width, height, tokens, mu, alpha, sigma, base_shift, max_shift, start, latent=None
    ):
        if latent is not None:
            height, width = (8 * side for side in latent["samples"].shape[-2:])
        if shift == "size":
            tokens = schedule.tokens_of_size(width, height)
        if shift in ("size", "tokens"):
            mu = schedule.mu_of_tokens(tokens, base_shift, max_shift)
        elif shift == "alpha":
            mu = schedule.mu_of_alpha(alpha)
        used = None if shift == "none" else mu
        return schedule.sigmas(steps, used, sigma, start), used or 0.0


class KontextContextReuse:
    DESCRIPTION = "Keeps the references' keys and values for some steps instead of computing them anew. Approximate."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["kv cache", "speed", "acceleration", "teacache", "flux kontext"]
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "STRING"), ("model", "info")
    OUTPUT_TOOLTIPS = (
        "For any sampler or guider; Kontext Apply is in it.",
        "How much memory the keys and values take; what they took is in the log.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A FLUX.1, with or without Kontext Apply."}),
                "refresh_every": ("INT", {"default": 2, "min": 0, "max": 1000, "tooltip":
                                  "Computes the references anew every so many steps. 1: always (off). 0: only once."}),
                "threshold": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 10.0, "step": 0.01, "tooltip":
                              "And when the output's latent has moved by more than this part of itself. 0: never."}),
                "store": ([*STORES], {"tooltip":
                          "Where they lie: on the device, in (pinned) memory of the CPU, or on the device in fp8."}),
                "limit_gib": ("FLOAT", {"default": 8.0, "min": 0.01, "max": 1024.0, "step": 0.25, "tooltip":
                                        "The most that they may take; what does not fit is refused."}),
            },
            "optional": {
                "conditioning": ("CONDITIONING", {"tooltip": "For info: whose references are counted."}),
            },
        }  # fmt: skip

    def run(self, *, model, refresh_every, threshold, store, limit_gib, conditioning=None):
        reuse = Reuse(refresh_every, threshold, store, limit_gib)
        return kontext.applied(model, reuse), kontext.told(model, reuse, _latents(conditioning))


def _latents(conditioning) -> list:
    """The reference latents of a conditioning's first entry."""
    return [] if not conditioning else conditioning[0][1].get(NATIVE) or []


NODE_CLASS_MAPPINGS = {
    "EditKitKontextReference": KontextReference,
    "EditKitKontextApply": KontextApply,
    "EditKitKontextSchedule": KontextSchedule,
    "EditKitKontextContextReuse": KontextContextReuse,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitKontextReference": "Kontext Reference",
    "EditKitKontextApply": "Kontext Apply",
    "EditKitKontextSchedule": "Kontext Schedule",
    "EditKitKontextContextReuse": "Kontext Context Reuse",
}
