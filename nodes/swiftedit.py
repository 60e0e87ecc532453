"""SwiftEdit step by step: load, invert, rescale the attention, sample. On ComfyUI's own types."""

from ..models import masks
from ..models.errors import EditError
from ..models.swiftedit import mask as guided
from ..models.swiftedit.aram import BACKGROUNDS, FOREGROUNDS, LAYERS, PRESETS, TEXT_REGIONS, Aram, latent_mask
from ..models.swiftedit.generators import GENERATORS
from .host import folders, prompts, rows, swiftedit, unets
from .host.swiftedit_pictures import encoded, overlay
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask

CATEGORY = "EditKit/swiftedit"
SIDE_INPUT = ("INT", {"default": 512, "min": 0, "max": 2048, "step": 8, "tooltip":
                      "Scales the picture to this side squared, keeping its shape; 0 keeps its size."})  # fmt: skip
CLAMP_INPUT = ("FLOAT", {"default": guided.CLAMP, "min": 0.1, "max": 20.0, "step": 0.1, "tooltip":
                         "The difference of the noises counts up to this many times its mean."})  # fmt: skip
THRESHOLD_INPUT = ("FLOAT", {"default": guided.THRESHOLD, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip":
                             "Above this share of the clamped difference the mask is white."})  # fmt: skip


def told(spec: tuple, tooltip: str) -> tuple:
    """The same input with another tooltip."""
    return spec[0], {**spec[1], "tooltip": tooltip}


FIT = "EDITKIT_FIT"
SCALES = {
    "text_scale": ("FLOAT", {"default": 2.0, "min": 0.0, "max": 10.0, "step": 0.05,
                             "tooltip": "s_y: how strongly the edit prompt acts. For the preset custom."}),
    "edit_scale": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 4.0, "step": 0.05,
                             "tooltip": "s_edit: how much of the source picture stays inside the mask. For custom."}),
    "non_edit_scale": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.05,
                                 "tooltip": "s_non-edit: how much of it holds outside the mask. For custom."}),
}  # fmt: skip
PRESET_INPUT = ([*PRESETS, "global", "custom"], {
    "default": "official", "tooltip": "official: the released code (1 / 0.2 / 1). paper: 2 / 0 / 1. eq9: 2 / 0 / 1 as "
    "Eq. 9 is printed. global: one scale s_x. custom: the values below."})  # fmt: skip
GLOBAL_INPUT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.05,
                          "tooltip": "s_x of the preset global: the source picture's weight everywhere."})  # fmt: skip


def chosen(preset, *, global_scale=1.0, **custom) -> Aram:
    """The settings of a preset; `custom` counts for the preset of that name only."""
    if preset == "global":
        return Aram(image_scale=global_scale)
    return Aram(**custom) if preset == "custom" else PRESETS[preset]


class LoadSwiftEdit:
    DESCRIPTION = "Loads SwiftEdit's release: the inversion net, and the one-step generator with its image branch."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["swiftbrush", "one-step editing", "inversion", "ip_adapter.bin"]
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "MODEL"), ("inversion", "generator")
    OUTPUT_TOOLTIPS = ("The inversion net, for SwiftEdit Invert.", "The generator with its image branch.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "release": ([*folders.releases()] or [""], {
                    "tooltip": "A folder below models/editkit (or diffusion_models) that holds the release."}),
                "family": (["auto", *GENERATORS], {
                    "tooltip": "Which one-step generator it is. auto: what the folder says, else SwiftBrush v2."}),
                "weight_dtype": ([*unets.DTYPES], {"tooltip": "How the weights are kept in memory."}),
            },
            "optional": {
                "generator": ("MODEL", {"tooltip": "Another loader's MODEL (fp8, GGUF, with LoRA) as the generator."}),
            },
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, release):
        if release is None:  # a linked name is known only when it runs
            return True
        try:
            folders.release_folder(release)
        except EditError as problem:
            return str(problem)
        return True

    def run(self, *, release, family, weight_dtype, generator=None):
        return swiftedit.load(release, family, weight_dtype, generator)


class SwiftEditPrompts:
    DESCRIPTION = "Encodes several edit prompts, one a line, as one batch: one photograph, many edits."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["batch prompts", "multiple prompts", "clip text encode"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("CONDITIONING",), ("edits",), ("One prompt per line, as a batch.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "The generator's text encoder."}),
                "edits": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False,
                                     "tooltip": "One edit prompt a line; empty lines are left out."}),
            }
        }  # fmt: skip

    def run(self, *, clip, edits):
        return (prompts.encoded(clip, prompts.lines(edits)),)


class SwiftEditInvert:
    DESCRIPTION = (
        "Inverts a picture in one step, and finds the region to edit from what two prompts make of it."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["ddim inversion", "image inversion", "self-guided mask"]
    RETURN_TYPES = ("LATENT", "LATENT", "LATENT", "MASK", "MASK", "IMAGE", FIT, "MASK")
    RETURN_NAMES = ("latent", "source_noise", "edit_noise", "mask", "difference", "preview", "fit", "cells")
    OUTPUT_TOOLTIPS = (
        "The inverted latent: sample it with SwiftEdit Guider and no noise.",
        "The noise predicted for the source prompt, as the network gives it; not for decoding.",
        "The noise predicted for the edit prompt, as the network gives it; not for decoding.",
        "The self-guided mask at the picture's size: white where the two differ.",
        "How much they differ at the picture's size, 0 to 1: a soft mask that ARaM takes as well.",
        "The picture with the mask on it.",
        "How the picture was scaled, for SwiftEdit Deliver and ARaM.",
        "The mask at the latent's own cells, 8 px each: what ARaM takes exactly.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The inversion net of Load SwiftEdit."}),
                "source": ("CONDITIONING", {"tooltip": "What the picture shows; an empty prompt works too."}),
                "edit": ("CONDITIONING", {"tooltip": "What it shall show; or a batch from SwiftEdit Prompts."}),
                "side": SIDE_INPUT,
                "clamp": CLAMP_INPUT,
                "threshold": THRESHOLD_INPUT,
                "grow": ("INT", {"default": 0, "min": 0, "max": 256, "tooltip": "Pixels by which the mask grows."}),
                "feather": ("INT", {"default": 0, "min": 0, "max": 256, "tooltip": "Pixels of soft edge around it."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "The picture, any size; needs the VAE. Or wire a latent."}),
                "vae": ("VAE", {"tooltip": "Stable Diffusion's VAE."}),
                "latent": ("LATENT", {"tooltip": "An encoded picture, in place of image and VAE."}),
            },
        }  # fmt: skip

    def run(self, *, model, source, edit, side, clamp, threshold, grow, feather, image=None, vae=None, latent=None):
        scene = encoded(image, vae, latent, side)
        noises = swiftedit.invert(model, scene.latent, source, edit)
        difference = guided.normalised(guided.difference(noises.source, noises.edit), clamp)
        cells = (difference > threshold).float()
        mask = scene.mask_out(cells)
        soft = masks.feather(masks.grow(mask, grow), feather)
        inverted = swiftedit.repeated(swiftedit.start(model, scene.latent, noises.source), edit)
        return (
            {"samples": inverted}, {"samples": noises.source}, {"samples": noises.edit},
            packed_mask(soft), packed_mask(scene.mask_out(difference)), packed(overlay(scene.shown(), soft)),
            scene.fitted, packed_mask(cells if grow == feather == 0 else scene.cells_of(soft)),
        )  # fmt: skip


class SwiftEditARaM(TakesPaint):
    DESCRIPTION = "Puts the source picture into the generator, and rescales its attention inside and outside a mask."
    CATEGORY = CATEGORY
    NEEDS_MASK = True
    SEARCH_ALIASES = ["attention rescaling", "ip-adapter mask", "decoupled cross-attention", "aram"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MODEL",), ("model",), ("For SwiftEdit Guider.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The generator of Load SwiftEdit; LoRAs may come before or after."}),
                "clip_vision": ("CLIP_VISION", {"tooltip": "OpenCLIP ViT-H/14, IP-Adapter's image encoder."}),
                "image": ("IMAGE", {"tooltip": "The source picture."}),
                "preset": PRESET_INPUT,
                **SCALES,
                "global_scale": GLOBAL_INPUT,
                "text_region": ([*TEXT_REGIONS], {
                    "tooltip": "custom: the edit prompt acts everywhere, or inside the mask."}),
                "foreground": ([*FOREGROUNDS], {
                    "tooltip": "custom: inside the mask the picture's tokens count alike, or by attention."}),
                "background": ([*BACKGROUNDS], {
                    "tooltip": "custom: outside the mask the source row's attention, or the edit row's own."}),
                "layers": ([*LAYERS], {"tooltip": "custom: which layers are rescaled."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is edited, grey in part: yours, or SwiftEdit Invert's cells."}),
                "fit": (FIT, {"tooltip": "From SwiftEdit Invert: lays a mask of your own on the latent."}),
                "mask_paint": paint_input("it is M of Eq. 9, grey mixing the scales inside and outside.", opens=True),
            },
        }  # fmt: skip

    def run(self, *, model, clip_vision, image, preset, global_scale, mask=None, fit=None, mask_paint="", **custom):
        aram = chosen(preset, global_scale=global_scale, **custom)
        mask = region_given(mask, mask_paint, image)
        if mask is None:
            raise EditError("SwiftEdit ARaM needs a mask; paint one on the node, or wire SwiftEdit Invert's cells.")
        mask = masks.checked(mask)
        if fit is not None and tuple(mask.shape[-2:]) != fit.cells:
            mask = latent_mask(fit.mask_in(mask), fit.cells)
        return (swiftedit.with_aram(model, swiftedit.encoded_image(clip_vision, image), mask, aram),)


class SwiftEditGuider:
    DESCRIPTION = "Runs the source and the edit prompt side by side, for one step of Sampler Custom Advanced."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["guider", "one-step sampling", "source and edit"]
    RETURN_TYPES, RETURN_NAMES = ("GUIDER", "SIGMAS"), ("guider", "sigmas")
    OUTPUT_TOOLTIPS = ("For Sampler Custom Advanced, with Disable Noise.", "The generator's one step.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "From SwiftEdit ARaM."}),
                "source": ("CONDITIONING", {"tooltip": "The prompt that the picture was inverted with."}),
                "edit": ("CONDITIONING", {
                    "tooltip": "What it shall show; a batch of edits goes with a batch of latents."}),
                "result": (rows.RESULTS, {"tooltip": "edit, or the source prompt's row: the reconstruction."}),
            }
        }

    def run(self, *, model, source, edit, result):
        swiftedit.need_comfyui("SwiftEdit Guider")
        width = unets.text_width(model)
        source, edit = prompts.single(source, "source", width), prompts.single(edit, "edit", width)
        return rows.guider(model, source, edit, result), swiftedit.sigmas(model)


NODE_CLASS_MAPPINGS = {
    "EditKitLoadSwiftEdit": LoadSwiftEdit,
    "EditKitSwiftEditPrompts": SwiftEditPrompts,
    "EditKitSwiftEditInvert": SwiftEditInvert,
    "EditKitSwiftEditARaM": SwiftEditARaM,
    "EditKitSwiftEditGuider": SwiftEditGuider,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitLoadSwiftEdit": "Load SwiftEdit",
    "EditKitSwiftEditPrompts": "SwiftEdit Prompts",
    "EditKitSwiftEditInvert": "SwiftEdit Invert",
    "EditKitSwiftEditARaM": "SwiftEdit ARaM",
    "EditKitSwiftEditGuider": "SwiftEdit Guider",
}
