"""Masks and regions: what every masked edit of the pack shares, as nodes of their own."""

from dataclasses import dataclass

from torch import Tensor

from ..models import image as images
from ..models import masks, region
from ..models.errors import EditError
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask, picture, repeated

CROP, PADDING = "EDITKIT_CROP", "EDITKIT_PADDING"
MASK_INPUT = ("MASK", {"tooltip": "White is the region to edit."})
RADIUS = {"default": 8, "min": 0, "max": 512}


def fitted(mask, image):
    """The mask resized to the picture and repeated for its batch."""
    return masks.fit(mask, *image.shape[-2:], batch=len(image))


@dataclass(frozen=True)
class Padded:
    """What Pad to Multiple did, and to which (height, width) it led."""

    padding: images.Padding
    size: tuple[int, int]

    def scale(self, image: Tensor) -> int:
        """How many times larger than the padded picture an image is. EditError unless a whole number."""
        height, width = image.shape[-2:]
        scale = height // self.size[0]
        if scale < 1 or (height, width) != (scale * self.size[0], scale * self.size[1]):
            raise EditError(
                f"A picture of {width}x{height} px cannot be unpadded: it was padded to {self.size[1]}x"
                f"{self.size[0]}; bring it to that size, or a whole multiple of it."
            )
        return scale


def pad(x, multiple, fill):
    """`images.pad_to_multiple`. EditError when a mirror would need more pixels than the picture has."""
    short = next((side for side in x.shape[-2:] if -side % multiple >= side), None)
    if fill == "reflect" and short is not None:
        raise EditError(
            f"A side of {short} px cannot be mirrored by {-short % multiple} px; choose the fill replicate."
        )
    return images.pad_to_multiple(x, multiple, fill)


class GrowMask:
    DESCRIPTION = "Grows a mask by a number of pixels; soft edges stay soft."
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["dilate", "expand mask"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MASK",), ("mask",), ("The grown mask.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"mask": MASK_INPUT, "radius": ("INT", {**RADIUS, "tooltip": "Pixels to grow by."})}
        }

    def run(self, *, mask, radius):
        return (packed_mask(masks.grow(masks.checked(mask), radius)),)


class ShrinkMask:
    DESCRIPTION = "Shrinks a mask by a number of pixels; soft edges stay soft."
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["erode", "contract mask"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MASK",), ("mask",), ("The shrunken mask.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"mask": MASK_INPUT, "radius": ("INT", {**RADIUS, "tooltip": "Pixels to shrink by."})}
        }

    def run(self, *, mask, radius):
        return (packed_mask(masks.shrink(masks.checked(mask), radius)),)


class FeatherMask:
    DESCRIPTION = "Softens a mask's edge outward; inside it keeps its value."
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["blur mask", "soft edge"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MASK",), ("mask",), ("The mask with a soft edge.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        tip = "Pixels over which the mask falls to black."
        return {"required": {"mask": MASK_INPUT, "radius": ("INT", {**RADIUS, "tooltip": tip})}}

    def run(self, *, mask, radius):
        return (packed_mask(masks.feather(masks.checked(mask), radius)),)


class MaskStrength:
    DESCRIPTION = (
        "Scales a mask's grey value, which EditKit's edits take as strength; or makes it black and white."
    )
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["mask opacity", "threshold", "binarize"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MASK",), ("mask",), ("The mask with its new strength.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "mask": MASK_INPUT,
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05,
                                       "tooltip": "Factor for the mask's values."}),
                "binarise": ("BOOLEAN", {"default": False, "tooltip": "First makes every value above 0 white."}),
            }
        }  # fmt: skip

    def run(self, *, mask, strength, binarise):
        mask = masks.checked(mask)
        return (packed_mask(masks.strength(masks.binarise(mask) if binarise else mask, strength)),)


class PadToMultiple:
    DESCRIPTION = (
        "Pads a picture on the right and at the bottom to a multiple of pixels. Unpad undoes it exactly."
    )
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["pad image", "divisible"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", PADDING), ("image", "padding")
    OUTPUT_TOOLTIPS = ("The padded picture.", "How much was added, for Unpad.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture to pad."}),
                "multiple": (
                    "INT",
                    {"default": 16, "min": 1, "max": 512, "tooltip": "What the sides must divide by."},
                ),
                "fill": (
                    ["replicate", "reflect"],
                    {"tooltip": "What the new pixels show: the edge, or a mirror of it."},
                ),
            }
        }

    def run(self, *, image, multiple, fill):
        rgb, alpha = picture(image)
        padded, padding = pad(rgb, multiple, fill)
        alpha = None if alpha is None else pad(alpha[:, None], multiple, "replicate")[0][:, 0]
        return packed(padded, alpha), Padded(padding, tuple(padded.shape[-2:]))


class Unpad:
    DESCRIPTION = "Cuts off what Pad to Multiple added."
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["crop padding"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("IMAGE",), ("image",), ("The picture at its own size.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": (
                    "IMAGE",
                    {"tooltip": "The padded picture, edited; also enlarged by a whole number."},
                ),
                "padding": (PADDING, {"tooltip": "From Pad to Multiple."}),
            }
        }

    def run(self, *, image, padding):
        rgb, alpha = picture(image)
        scale = padding.scale(rgb)
        alpha = None if alpha is None else images.unpad(alpha, padding.padding, scale)
        return (packed(images.unpad(rgb, padding.padding, scale), alpha),)


class CropAroundMask(TakesPaint):
    DESCRIPTION = (
        "Cuts out a mask's surroundings, so that a model works on what matters. Stitch puts it back."
    )
    NEEDS_MASK = True
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["inpaint crop", "crop and stitch", "zoom in"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK", CROP), ("image", "mask", "crop")
    OUTPUT_TOOLTIPS = ("The cut-out picture.", "The mask, cut out alike.", "Where it was, for Stitch.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The whole picture."}),
                "context": ("FLOAT", {"default": 2.0, "min": 1.0, "max": 16.0, "step": 0.1,
                                      "tooltip": "Side of the crop over the side of the mask."}),
                "multiple": ("INT", {"default": 8, "min": 1, "max": 128, "tooltip": "What the sides must divide by."}),
                "minimum": ("INT", {"default": 64, "min": 1, "max": 8192, "tooltip": "The least side in pixels."}),
            },
            "optional": {
                "mask": MASK_INPUT,
                "mask_paint": paint_input("all that is not black is cut out; grey goes out as it is.", opens=True),
            },
        }  # fmt: skip

    def run(self, *, image, context, multiple, minimum, mask=None, mask_paint=""):
        rgb, _ = picture(image)
        mask = region_given(mask, mask_paint, image)
        if mask is None:
            raise EditError("Crop Around Mask needs a mask; paint one on the node, or wire one.")
        crop, crop_mask, place = region.crop_around(
            rgb, fitted(mask, rgb), context=context, multiple=multiple, minimum=minimum
        )
        return packed(crop), packed_mask(crop_mask.contiguous()), place


class Stitch:
    DESCRIPTION = (
        "Puts an edited crop back where it was, through the mask; everything outside stays bit-identical."
    )
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["inpaint stitch", "uncrop", "paste back"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (
        ("IMAGE",),
        ("image",),
        ("The whole picture with the edit in it.",),
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The whole picture, as it was cut from."}),
                "edited": ("IMAGE", {"tooltip": "The edited crop, at any size."}),
                "crop": (CROP, {"tooltip": "From Crop Around Mask."}),
                "feather": (
                    "INT",
                    {"default": 8, "min": 0, "max": 256, "tooltip": "Pixels of soft edge around the mask."},
                ),
            },
            "optional": {"mask": ("MASK", {"tooltip": "Where the edit goes; left open: the whole crop."})},
        }

    def run(self, *, image, edited, crop, feather, mask=None):
        rgb, alpha, edited = repeated(*picture(image), picture(edited)[0])
        soft = None if mask is None else masks.feather(masks.checked(mask), feather)
        return (packed(region.stitch(rgb, edited, crop, soft), alpha),)


class Composite:
    DESCRIPTION = (
        "Lays an edited picture over the original by a mask; where it is black nothing changes, to the bit."
    )
    CATEGORY = "EditKit/region"
    SEARCH_ALIASES = ["blend", "mask composite", "paste"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("IMAGE",), ("image",), ("The composited picture.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The original."}),
                "edited": ("IMAGE", {"tooltip": "The edited picture, of the same size."}),
                "mask": ("MASK", {"tooltip": "White takes the edit, black keeps the original, grey mixes."}),
            }
        }

    def run(self, *, image, edited, mask):
        rgb, alpha, edited = repeated(*picture(image), picture(edited)[0])
        return (packed(region.composite(rgb, edited, fitted(mask, rgb)), alpha),)


NODE_CLASS_MAPPINGS = {
    "EditKitGrowMask": GrowMask,
    "EditKitShrinkMask": ShrinkMask,
    "EditKitFeatherMask": FeatherMask,
    "EditKitMaskStrength": MaskStrength,
    "EditKitPadToMultiple": PadToMultiple,
    "EditKitUnpad": Unpad,
    "EditKitCropAroundMask": CropAroundMask,
    "EditKitStitch": Stitch,
    "EditKitComposite": Composite,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitGrowMask": "Grow Mask (EditKit)",
    "EditKitShrinkMask": "Shrink Mask",
    "EditKitFeatherMask": "Feather Mask (EditKit)",
    "EditKitMaskStrength": "Mask Strength",
    "EditKitPadToMultiple": "Pad to Multiple",
    "EditKitUnpad": "Unpad",
    "EditKitCropAroundMask": "Crop Around Mask",
    "EditKitStitch": "Stitch",
    "EditKitComposite": "Composite (Exact)",
}
