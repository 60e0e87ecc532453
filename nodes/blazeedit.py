"""BlazeEdit in one node per edit: picture and mask in, finished picture out."""

from ..models.blazeedit import pipeline
from .host.bundles import ENGINES
from .host.models import SHIPPED, blazeedit
from .host.progress import reporter
from .painting import TakesPaint, paint_input, region_given
from .unpacking import on_device, packed, packed_mask, picture, region

MODEL = "EDITKIT_BLAZEEDIT"
ASPECTS = ["custom", "16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9"]
ANCHORS = ["center", "left", "right", "top", "bottom"]

IMAGE_INPUT = ("IMAGE", {"tooltip": "The picture to edit, any size; a batch is edited one by one."})
MODEL_INPUT = (
    MODEL,
    {"tooltip": "From Load BlazeEdit. Left open, the weights that ship with the pack are used."},
)
MASK_INPUT = ("MASK", {"tooltip": "White is the region to edit; grey is strength. Resized to the picture."})
OPTIONAL_MASK = (
    "MASK",
    {"tooltip": "Edits only where it is white; grey is strength. Left open: the whole picture."},
)
SEED_INPUT = ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True,
                      "tooltip": "0 copies texture from where it fits best, others from other places."})  # fmt: skip
TEXTURE_INPUT = (
    "BOOLEAN",
    {"default": True, "tooltip": "Copies the picture's own fine texture into the fill."},
)
TONE_TIP = "default: what measured best (network). stretch: a partial stretch, no network."
RELIGHT_TIP = (
    "default: what measured best (head). head: a network for light alone. network: the one of all tasks."
)
STRENGTH_TIP = "How far to go: 0 leaves the picture as it is, 1 is the whole correction."
STRENGTH_INPUT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip": STRENGTH_TIP})
ENGINE_TIP = "What computes when no model is wired: torch, LiteRT (a bundle by `python . export`), or the faster one."
ENGINE_INPUT = (ENGINES, {"default": "auto", "tooltip": ENGINE_TIP})
CHANGED = "Where pixels changed, 0 to 1; everywhere else they are bit-identical to the input."


def network(model, engine="auto"):
    """The module of a linked model, or of the shipped one by that engine, ready to run."""
    return (model or blazeedit(SHIPPED, engine)).ready()


class RemoveObject(TakesPaint):
    DESCRIPTION = (
        "Removes what the mask covers, and the shadow that it casts. The rest of the picture stays exact."
    )
    NEEDS_MASK = True
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["inpaint", "erase", "object removal", "delete object", "clean up"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "changed")
    OUTPUT_TOOLTIPS = ("The picture without the object, at full size.", CHANGED)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": IMAGE_INPUT,
                "shadow": ("BOOLEAN", {"default": True, "tooltip": "Also lifts the shadow that the object casts."}),
                "texture": TEXTURE_INPUT,
                "grow": ("INT", {"default": 0, "min": 0, "max": 128,
                                 "tooltip": "Pixels by which the mask grows first; helps when it is tight."}),
                "feather": ("INT", {"default": 4, "min": 0, "max": 128,
                                    "tooltip": "Pixels over which the fill blends into its surroundings."}),
                "seed": SEED_INPUT,
            },
            "optional": {
                "mask": MASK_INPUT, "model": MODEL_INPUT, "engine": ENGINE_INPUT,
                "mask_paint": paint_input("grey is the opacity of the fill.", opens=True),
            },
        }  # fmt: skip

    def run(
        self, *, image, shadow, texture, grow, feather, seed, mask=None, model=None, engine="auto", mask_paint="",
    ):  # fmt: skip
        rgb, alpha = picture(image)
        mask = region(region_given(mask, mask_paint, image))
        net = network(model, engine)
        rgb, mask = on_device(rgb, mask)
        edit = pipeline.remove(
            net,
            rgb,
            mask,
            shadow=shadow,
            texture=texture,
            grow=grow,
            feather=feather,
            seed=seed,
            callback=reporter(),
        )
        return packed(edit.image, alpha), packed_mask(edit.changed)


class Outpaint:
    DESCRIPTION = (
        "Continues the picture beyond its borders, to a shape or by pixels. Its own pixels stay exact."
    )
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["uncrop", "extend", "expand image", "aspect ratio", "outpainting"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "changed")
    OUTPUT_TOOLTIPS = ("The larger picture.", "White where pixels are new.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 0, "min": 0, "max": 8192}
        return {
            "required": {
                "image": IMAGE_INPUT,
                "aspect": (
                    ASPECTS,
                    {"tooltip": "The smallest canvas of this shape; custom uses the four margins."},
                ),
                "anchor": (ANCHORS, {"tooltip": "Where the picture sits on a canvas of that shape."}),
                "left": ("INT", {**side, "tooltip": "Pixels to add on the left (custom)."}),
                "top": ("INT", {**side, "tooltip": "Pixels to add at the top (custom)."}),
                "right": ("INT", {**side, "tooltip": "Pixels to add on the right (custom)."}),
                "bottom": ("INT", {**side, "tooltip": "Pixels to add at the bottom (custom)."}),
                "texture": TEXTURE_INPUT,
                "seed": SEED_INPUT,
            },
            "optional": {"model": MODEL_INPUT, "engine": ENGINE_INPUT},
        }

    def run(
        self, *, image, aspect, anchor, left, top, right, bottom, texture, seed, model=None, engine="auto"
    ):
        rgb, alpha = picture(image)
        net = network(model, engine)
        margins = (left, top, right, bottom)
        if aspect != "custom":
            margins = pipeline.outpaint_margins(*rgb.shape[-2:], aspect, anchor)
        sides = dict(zip(("left", "top", "right", "bottom"), margins, strict=True))
        (rgb,) = on_device(rgb)
        edit = pipeline.outpaint(net, rgb, **sides, texture=texture, seed=seed, callback=reporter())
        return packed(edit.image, pipeline.extended_alpha(alpha, **sides)), packed_mask(edit.changed)


class Tone(TakesPaint):
    DESCRIPTION = "Corrects exposure, contrast and colour of a photo, at full size."
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["auto levels", "enhance", "exposure", "white balance", "contrast", "tone correction"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("image",)
    OUTPUT_TOOLTIPS = ("The corrected picture.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": IMAGE_INPUT,
                "strength": STRENGTH_INPUT,
                "method": (["default", "network", "stretch"],
                           {"tooltip": TONE_TIP}),
            },
            "optional": {
                "mask": OPTIONAL_MASK, "model": MODEL_INPUT, "engine": ENGINE_INPUT,
                "mask_paint": paint_input("grey is how far the correction goes there."),
            },
        }  # fmt: skip

    def run(self, *, image, strength, method, mask=None, model=None, engine="auto", mask_paint=""):
        rgb, alpha = picture(image)
        mask = region(region_given(mask, mask_paint, image))
        net = network(model, engine)
        rgb, mask = on_device(rgb, mask)
        edit = pipeline.tone(net, rgb, mask, strength=strength, method=method, callback=reporter())
        return (packed(edit.image, alpha),)


class Relight(TakesPaint):
    DESCRIPTION = "Evens out the light: lifts soft shadows and coloured casts, keeps every detail."
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["shadow removal", "lighting", "fill light", "relighting"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("image",)
    OUTPUT_TOOLTIPS = ("The relit picture.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": IMAGE_INPUT,
                "strength": STRENGTH_INPUT,
                "method": (["default", "head", "network"], {"default": "default", "tooltip": RELIGHT_TIP}),
            },
            "optional": {
                "mask": OPTIONAL_MASK, "model": MODEL_INPUT, "engine": ENGINE_INPUT,
                "mask_paint": paint_input("grey is how far the light changes there."),
            },
        }  # fmt: skip

    def run(self, *, image, strength, method, mask=None, model=None, engine="auto", mask_paint=""):
        rgb, alpha = picture(image)
        mask = region(region_given(mask, mask_paint, image))
        net = network(model, engine)
        rgb, mask = on_device(rgb, mask)
        edit = pipeline.relight(net, rgb, mask, strength=strength, method=method, callback=reporter())
        return (packed(edit.image, alpha),)


class Sticker(TakesPaint):
    DESCRIPTION = (
        "Turns what the mask covers into a sticker with a die-cut border, on a transparent background."
    )
    NEEDS_MASK = True
    CATEGORY = "EditKit/blazeedit"
    SEARCH_ALIASES = ["cutout", "die cut", "transparent", "emoji", "sticker generation"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "alpha")
    OUTPUT_TOOLTIPS = (
        "The sticker with its alpha channel; Save Image writes a transparent PNG.",
        "Its opacity.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": IMAGE_INPUT,
                "border": ("FLOAT", {"default": 0.03, "min": 0.0, "max": 0.25, "step": 0.005,
                                     "tooltip": "Width of the white border, as a share of the short side."}),
                "shadow": ("BOOLEAN", {"default": True, "tooltip": "Draws a soft drop shadow."}),
            },
            "optional": {
                "mask": MASK_INPUT, "model": MODEL_INPUT, "engine": ENGINE_INPUT,
                "mask_paint": paint_input("what is white becomes the sticker; a soft rim stays soft.", opens=True),
            },
        }  # fmt: skip

    def run(self, *, image, border, shadow, mask=None, model=None, engine="auto", mask_paint=""):
        rgb, _ = picture(image)
        mask = region(region_given(mask, mask_paint, image))
        net = network(model, engine)
        rgb, mask = on_device(rgb, mask)
        edit = pipeline.sticker(net, rgb, mask, border=border, shadow=shadow, callback=reporter())
        return packed(edit.image), packed_mask(edit.changed)


NODE_CLASS_MAPPINGS = {
    "EditKitRemoveObject": RemoveObject,
    "EditKitOutpaint": Outpaint,
    "EditKitTone": Tone,
    "EditKitRelight": Relight,
    "EditKitSticker": Sticker,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitRemoveObject": "Remove Object",
    "EditKitOutpaint": "Outpaint",
    "EditKitTone": "Correct Tone",
    "EditKitRelight": "Relight",
    "EditKitSticker": "Make Sticker",
}
