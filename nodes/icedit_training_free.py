"""ICEdit without training on a text-to-image FLUX.1 (appendix B.2): the reference is sampled beside the edit."""

from ..models.icedit import values
from .host import icedit_t2i
from .icedit import CATEGORY

INVERSION = "EDITKIT_INVERSION"
ATTENTION = ("isolated", "full")


class ICEditInvert:
    DESCRIPTION = "Turns a reference into the noise that it comes from, and keeps the attention values on the way."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["rf inversion", "rf-solver", "flow inversion", "training-free", "flux dev"]
    RETURN_TYPES, RETURN_NAMES = (INVERSION, "STRING"), ("inversion", "info")
    OUTPUT_TOOLTIPS = ("For ICEdit Training-free.", "How many values are kept, and the memory that they take.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A text-to-image FLUX.1, such as flux1-dev."}),
                "conditioning": ("CONDITIONING", {"tooltip": "A description of the reference, or an empty prompt."}),
                "latent": ("LATENT", {"tooltip": "The reference: the panel of ICEdit Diptych, encoded."}),
                "sigmas": ("SIGMAS", {"tooltip": "The whole schedule, from 1 to 0: gone up here and down later."}),
                "solver": ([*values.SOLVERS], {"tooltip": "rf-solver: second order, two evaluations a step, closer to "
                                               "the reference. euler: one."}),
                "store": ([*values.STORES], {"tooltip": "Where the values lie: in the CPU's (pinned) memory, or on "
                                             "the device."}),
                "injected": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip":
                                       "The part of the steps, from noise on, at which the values are put back."}),
            }
        }  # fmt: skip

    def run(self, *, model, conditioning, latent, sigmas, solver, store, injected):
        return icedit_t2i.inverted(model, conditioning, latent["samples"], sigmas, solver, store, injected)


class ICEditTrainingFree:
    DESCRIPTION = "Samples a diptych on a text-to-image FLUX.1: the inverted reference left, the edit right."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["in-context edit", "training-free", "attention injection", "flux dev", "diptych"]
    RETURN_TYPES = ("MODEL", "NOISE", "SAMPLER", "SIGMAS", "LATENT")
    RETURN_NAMES = ("model", "noise", "sampler", "sigmas", "latent")
    OUTPUT_TOOLTIPS = (
        "For Basic Guider, with ICEdit Diptych's prompt.",
        "The reference's noise on the left, the seed's on the right.",
        "Goes down as the inversion went up.",
        "The inversion's.",
        "An empty diptych, to be sampled.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The one that inverted the reference."}),
                "inversion": (INVERSION, {"tooltip": "From ICEdit Invert."}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True, "tooltip":
                                 "Of the right panel's noise."}),
                "attention": ([*ATTENTION], {"tooltip": "isolated: the left panel sees itself and the prompt, so it is "
                              "exactly the reference's own reconstruction. full: both panels see both."}),
            }
        }  # fmt: skip

    def run(self, *, model, inversion, seed, attention):
        made = icedit_t2i.beside(model, inversion, attention == ATTENTION[0])
        noise = icedit_t2i.Noise(inversion, seed)
        latent = {"samples": icedit_t2i.empty(inversion)}
        return made, noise, icedit_t2i.sampler(inversion.solver), inversion.sigmas, latent


NODE_CLASS_MAPPINGS = {
    "EditKitICEditInvert": ICEditInvert,
    "EditKitICEditTrainingFree": ICEditTrainingFree,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitICEditInvert": "ICEdit Invert (T2I)",
    "EditKitICEditTrainingFree": "ICEdit Training-free (T2I)",
}
