"""SwiftEdit in one node, and the sheet of scales."""

import torch

from ..models import masks, region, sheet
from ..models.errors import EditError
from ..models.swiftedit import aram as rescaling
from ..models.swiftedit import mask as guided
from ..models.swiftedit.aram import Aram
from .host import prompts, swiftedit
from .host.progress import reporter
from .host.swiftedit_pictures import encoded
from .painting import TakesPaint, paint_input, region_given
from .swiftedit import (
    CATEGORY,
    CLAMP_INPUT,
    FIT,
    GLOBAL_INPUT,
    PRESET_INPUT,
    SCALES,
    SIDE_INPUT,
    THRESHOLD_INPUT,
    chosen,
    told,
)
from .unpacking import packed, packed_mask, picture, repeated
from .unpacking import region as region_of

MODELS = {
    "inversion": ("MODEL", {"tooltip": "The inversion net of Load SwiftEdit."}),
    "generator": ("MODEL", {"tooltip": "The generator of Load SwiftEdit."}),
    "clip": ("CLIP", {"tooltip": "The text encoder of SD2.1 or SD-Turbo (SD1.5's for that family)."}),
    "vae": ("VAE", {"tooltip": "Stable Diffusion's VAE."}),
    "clip_vision": ("CLIP_VISION", {"tooltip": "OpenCLIP ViT-H/14, IP-Adapter's image encoder."}),
    "image": ("IMAGE", {"tooltip": "The picture, any size."}),
}
SOURCE_INPUT = ("STRING", {"default": "", "multiline": True, "tooltip": "What the picture shows; may be empty."})
EDIT_INPUT = ("STRING", {"default": "", "multiline": True, "tooltip": "What it shall show."})
FEATHER_INPUT = ("INT", {"default": 16, "min": 0, "max": 256,
                         "tooltip": "Pixels over which the edit blends into the picture."})  # fmt: skip
PAINT_INPUT = paint_input("it is ARaM's M, grey mixing the scales inside and outside, and what the edit is laid on by.")
GUIDED = {
    "clamp": told(CLAMP_INPUT, f"Without a mask of yours: {CLAMP_INPUT[1]['tooltip']}"),
    "threshold": told(THRESHOLD_INPUT, f"Without a mask of yours: {THRESHOLD_INPUT[1]['tooltip']}"),
}


class SwiftEdit(TakesPaint):
    DESCRIPTION = (
        "Edits a picture by changing its caption, in one inversion and one generation step. Outside the mask the "
        "picture stays bit-identical."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["one-step edit", "text-guided editing", "prompt edit", "swiftbrush"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "IMAGE", "MASK"), ("image", "reconstruction", "mask")
    OUTPUT_TOOLTIPS = (
        "The edited picture at its own size.",
        "What the source prompt gives: how well the inversion worked.",
        "Where the picture was edited.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **MODELS, "source_prompt": SOURCE_INPUT, "edit_prompt": EDIT_INPUT,
                "preset": PRESET_INPUT, **SCALES, "global_scale": GLOBAL_INPUT,
                "side": SIDE_INPUT, **GUIDED,
                "grow": ("INT", {"default": 0, "min": 0, "max": 256, "tooltip": "Pixels by which the mask grows."}),
                "feather": FEATHER_INPUT,
                "composite": ("BOOLEAN", {"default": True,
                                          "tooltip": "Keeps the picture outside the mask, bit by bit."}),
                "one_per_line": ("BOOLEAN", {"default": False,
                                             "tooltip": "Takes each line of the edit prompt as an edit of its own."}),
            },
            "optional": {
                "mask": ("MASK", {
                    "tooltip": "White is edited, grey in part. Left open: SwiftEdit finds the region itself."}),
                "mask_paint": PAINT_INPUT,
            },
        }  # fmt: skip

    def run(
        self, *, inversion, generator, clip, vae, clip_vision, image, source_prompt, edit_prompt, preset, global_scale,
        side, clamp, threshold, grow, feather, composite, one_per_line, mask=None,
        mask_paint="", **scales,
    ):  # fmt: skip
        swiftedit.need_comfyui("SwiftEdit")
        rgb, alpha = picture(image)
        source = prompts.encoded(clip, [source_prompt])
        edits = prompts.encoded(clip, prompts.lines(edit_prompt) if one_per_line else [edit_prompt])
        aram = chosen(preset, global_scale=global_scale, **scales)
        mask = region_of(region_given(mask, mask_paint, image))
        _check_masks(mask, max(len(rgb), len(edits[0][0])))
        scene = encoded(image, vae, None, side)
        # with a mask of the user's, the edit prompt need not be inverted
        noises = swiftedit.invert(inversion, scene.latent, source, edits if mask is None else None)
        cells, changed = _masks(scene, noises, mask, clamp, threshold, grow)
        start = swiftedit.repeated(swiftedit.start(generator, scene.latent, noises.source), edits)
        embedding = swiftedit.encoded_image(clip_vision, image)
        made, again = swiftedit.generate_many(generator, embedding, cells, [aram], start, source, edits)
        again = again[: len(rgb)]
        edited, reconstruction = scene.decoded(vae, made), scene.decoded(vae, again)
        original, alpha, edited = repeated(rgb, alpha, edited.to(rgb))
        soft = masks.feather(masks.fit(changed.to(rgb.device), *rgb.shape[-2:], batch=len(edited)), feather)
        if composite:
            edited = region.composite(original, edited, soft)
        return packed(edited, alpha), packed(reconstruction), packed_mask(soft)


def _check_masks(mask, count: int) -> None:
    """EditError unless there is one mask, or one for each edit."""
    if mask is not None and len(mask) not in (1, count):
        raise EditError(f"{len(mask)} masks do not fit {count} edits; give one, or one each.")


def _masks(scene, noises, mask, clamp, threshold, grow):
    """(M at the latent's size, the mask at the picture's size), the user's or the self-guided one; grown alike."""
    if mask is None:
        cells = guided.self_guided(noises.source, noises.edit, clamp, threshold)
        if not grow:
            return cells, scene.mask_out(cells, smooth=True)
        mask = scene.mask_out(cells)
    mask = masks.grow(masks.fit(mask, *scene.fitted.original), grow)
    return scene.cells_of(mask), mask


class SwiftEditDeliver:
    DESCRIPTION = (
        "Brings an edit of the step-by-step graph to the photograph's own size, and composites it: outside the mask "
        "the photograph stays bit-identical."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["composite", "paste back", "full size"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("IMAGE",), ("image",), ("The photograph with the edit in it.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The photograph that went into SwiftEdit Invert."}),
                "edited": ("IMAGE", {"tooltip": "The decoded edit, or several edits of one photograph."}),
                "fit": (FIT, {"tooltip": "From SwiftEdit Invert."}),
                "feather": FEATHER_INPUT,
            },
            "optional": {"mask": ("MASK", {"tooltip": "Where the edit goes, such as SwiftEdit Invert's. Left open: "
                                           "everywhere."})},
        }  # fmt: skip

    def run(self, *, image, edited, fit, feather, mask=None):
        rgb, alpha = picture(image)
        made, _ = picture(edited)
        if fit is None or tuple(rgb.shape[-2:]) != fit.original or made.shape[-2:] != fit.pixels.shape[-2:]:
            raise EditError(
                "The picture, the edit and the fit do not belong together; wire the image that went into SwiftEdit "
                "Invert, the decoded edit as it comes, and Invert's fit."
            )
        original, alpha, made = repeated(rgb, alpha, fit.restored(made).to(rgb))
        mask = region_of(mask)
        if mask is not None:
            mask = mask.to(rgb.device)
            soft = masks.feather(masks.fit(mask, *fit.original, batch=len(made)), feather)
            made = region.composite(original, made, soft)
        return (packed(made, alpha),)


class SwiftEditScaleSweep(TakesPaint):
    DESCRIPTION = "Draws one edit with many scales as a labelled sheet (s_edit by s_y, Fig. 9), from one inversion."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["xy plot", "grid", "parameter sweep"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "IMAGE"), ("sheet", "images")
    OUTPUT_TOOLTIPS = ("The labelled sheet.", "Each edit, row by row, at the size that the networks saw.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **MODELS, "source_prompt": SOURCE_INPUT, "edit_prompt": EDIT_INPUT,
                "edit_scales": ("STRING", {"default": "0, 0.2, 0.4, 0.6, 0.8, 1", "tooltip": "s_edit, one a row."}),
                "text_scales": ("STRING", {"default": "0.5, 1, 1.5, 2, 2.5, 3", "tooltip": "s_y, one a column."}),
                "non_edit_scale": told(SCALES["non_edit_scale"], "s_non-edit, the same for all."),
                "side": SIDE_INPUT, **GUIDED,
                "cell": ("INT", {"default": 256, "min": 64, "max": 1024,
                                 "tooltip": "Longest side of a picture on the sheet, in pixels."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "Where to edit. Left open: SwiftEdit finds the region itself."}),
                "mask_paint": PAINT_INPUT,
            },
        }  # fmt: skip

    def run(
        self, *, inversion, generator, clip, vae, clip_vision, image, source_prompt, edit_prompt, edit_scales,
        text_scales, non_edit_scale, side, clamp, threshold, cell, mask=None, mask_paint="",
    ):  # fmt: skip
        swiftedit.need_comfyui("SwiftEdit Scale Sweep")
        if len(image) != 1:
            raise EditError(f"The scale sweep takes one picture, not {len(image)}.")
        down, across = numbers(edit_scales, "edit_scales"), numbers(text_scales, "text_scales")
        source, edit = prompts.encoded(clip, [source_prompt]), prompts.encoded(clip, [edit_prompt])
        scene = encoded(image, vae, None, side)
        mask = region_of(region_given(mask, mask_paint, image))
        _check_masks(mask, 1)
        noises = swiftedit.invert(inversion, scene.latent, source, edit if mask is None else None)
        cells, _ = _masks(scene, noises, mask, clamp, threshold, 0)
        pairs = [(e, t) for e in down for t in across]
        arams = [_settings(pairs[i : i + swiftedit.AT_ONCE], non_edit_scale)
                 for i in range(0, len(pairs), swiftedit.AT_ONCE)]  # fmt: skip
        start = swiftedit.start(generator, scene.latent, noises.source).expand(len(pairs), -1, -1, -1)
        embedding = swiftedit.encoded_image(clip_vision, image)
        latents, _ = swiftedit.generate_many(generator, embedding, cells, arams, start, source, edit)
        made = _decoded(scene, vae, latents)
        rows = [made[i : i + len(across)] for i in range(0, len(made), len(across))]
        labelled = sheet.grid(
            rows, [f"s_y {t:g}" for t in across], [f"s_edit {e:g}" for e in down],
            f"{edit_prompt}   (s_non-edit {non_edit_scale:g})", cell,
        )  # fmt: skip
        return packed(labelled), packed(torch.stack(made))


def _settings(pairs, non_edit_scale: float) -> Aram:
    """One row's scales each."""
    text, edit = (rescaling.scales(*(pair[i] for pair in pairs)) for i in (1, 0))
    return Aram(text, edit, non_edit_scale)


def _decoded(scene, vae, latents) -> list:
    """Each latent as a picture [3, h, w] of the size that the networks saw; told as progress."""
    made, report = [], reporter()
    for latent in latents:
        made.append(scene.fitted.trimmed(vae.decode(latent[None]).movedim(-1, 1).float().clamp(0, 1))[0])
        report(len(made), len(latents))
    return made


def numbers(text: str, name: str) -> list[float]:
    """The numbers of a list such as "0, 0.5, 1". EditError for anything else, for none, and for more than 12."""
    try:
        found = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        found = []
    if not 0 < len(found) <= 12 or any(not 0 <= n <= 10 for n in found):
        raise EditError(f"{name} is {text!r}; write 1 to 12 numbers from 0 to 10, such as 0, 0.5, 1.")
    return found


NODE_CLASS_MAPPINGS = {
    "EditKitSwiftEdit": SwiftEdit,
    "EditKitSwiftEditDeliver": SwiftEditDeliver,
    "EditKitSwiftEditScaleSweep": SwiftEditScaleSweep,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitSwiftEdit": "SwiftEdit",
    "EditKitSwiftEditDeliver": "SwiftEdit Deliver",
    "EditKitSwiftEditScaleSweep": "SwiftEdit Scale Sweep",
}
