"""Pictures around a Kontext edit: fitted to its size and back, what a VAE costs, and marks that a prompt refers to."""

from ..models.kontext import cue, roundtrip
from ..models.kontext import fit as fitting
from .host.vaes import round_trip
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask, picture, region

CATEGORY = "EditKit/kontext"
FIT = "EDITKIT_KONTEXT_FIT"
PLACE = {"default": 0.25, "min": -16384.0, "max": 16384.0, "step": 0.01}


class KontextFit(TakesPaint):
    DESCRIPTION = (
        "Scales a picture to the size that Kontext was trained on, keeping its shape, and repeats its edge up to whole "
        "tokens. Nothing is cropped or squashed; Kontext Unfit undoes it."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["flux kontext image scale", "resize", "1 megapixel", "preferred resolution"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", FIT, "MASK", "INT", "INT"), ("image", "fit", "mask", "width", "height")
    OUTPUT_TOOLTIPS = (
        "The fitted picture, for VAE Encode.",
        "How it was fitted, for Kontext Unfit; it holds the original.",
        "The mask, fitted alike; white everywhere without one.",
        "The fitted width, for an empty latent.",
        "The fitted height, for an empty latent.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture, any size and shape."}),
                "size": ([*fitting.SIZES], {
                    "tooltip": "1 megapixel: the same area. A trained size (width x height), or the nearest in shape: "
                    "as large as fits inside. own size: only padded."}),
                "multiple": ("INT", {"default": fitting.MULTIPLE, "min": 1, "max": 256, "tooltip":
                                     "What the sides must divide by: 16 for FLUX."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is the region to edit; of the picture, any size."}),
                "mask_paint": paint_input("its grey values go out with the fitted mask, for Kontext Turn and Unfit."),
            },
        }  # fmt: skip

    def run(self, *, image, size, multiple, mask=None, mask_paint=""):
        pixels, fitted = fitting.fit(*picture(image), size, multiple)
        mask = region(region_given(mask, mask_paint, image))
        small = pixels.new_ones(1, *fitted.size) if mask is None else fitted.mask_in(mask)
        return packed(pixels), fitted, packed_mask(small), fitted.size[1], fitted.size[0]


class KontextUnfit:
    DESCRIPTION = (
        "Brings an edit of a fitted picture back to the original size; outside the mask the original stays "
        "bit-identical."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["uncrop", "restore size", "paste back", "composite"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "changed")
    OUTPUT_TOOLTIPS = ("The edit at the original's size.", "What changed: where it is black, not a bit did.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The edit at the fitted size; also enlarged by a whole number."}),
                "fit": (FIT, {"tooltip": "From Kontext Fit."}),
                "feather": ("INT", {"default": 8, "min": 0, "max": 256, "tooltip":
                                    "Pixels over which the edit fades, inward from the mask's rim."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White takes the edit; of the original or the fitted one. Open: all."}),
            },
        }  # fmt: skip

    def run(self, *, image, fit, feather, mask=None):
        rgb, alpha, changed = fitting.unfit(picture(image)[0], fit, region(mask), feather)
        return packed(rgb, alpha), packed_mask(changed)


class VAERoundTrip:
    DESCRIPTION = "Encodes and decodes a picture, and says what that alone costs: the floor under every edit."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["vae test", "reconstruction", "psnr", "ssim", "encode decode"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "FLOAT", "FLOAT", "STRING")
    RETURN_NAMES = ("image", "difference", "psnr", "ssim", "text")
    OUTPUT_TOOLTIPS = (
        "The picture after the VAE.",
        "The absolute difference times the gain.",
        "PSNR in dB, the mean over the batch; 99 for equal pictures.",
        "SSIM of the luminance, the mean over the batch.",
        "The same as text, picture by picture.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae": ("VAE", {"tooltip": "Kontext's, EditMGT's VQ tokenizer, any."}),
                "image": ("IMAGE", {"tooltip": "The picture, any size."}),
                "gain": ("FLOAT", {"default": 8.0, "min": 0.1, "max": 1000.0, "step": 0.1, "tooltip":
                                   "How many times larger the difference is shown."}),
            }
        }  # fmt: skip

    def run(self, *, vae, image, gain):
        rgb, alpha = picture(image)
        made = round_trip(vae, rgb)
        rows = roundtrip.measured(rgb, made)
        text = roundtrip.report(rows, tuple(rgb.shape[-2:]))
        return packed(made, alpha), packed(roundtrip.difference(rgb, made, gain)), *roundtrip.mean(rows), text


class VisualCue:
    DESCRIPTION = "Draws a box, an ellipse or an arrow onto a picture, for prompts such as: remove what is in the box."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["bounding box", "draw rectangle", "ellipse", "arrow", "annotate", "marker"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK", "MASK"), ("image", "drawn", "inside")
    OUTPUT_TOOLTIPS = (
        "The picture with the cue; bit-identical elsewhere.",
        "What was drawn.",
        "The inside of the box or ellipse; an arrow's own shape.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        place = {name: ("FLOAT", {**PLACE, "default": default, "tooltip": tooltip}) for name, default, tooltip in (
            ("x0", 0.25, "Left side, or the arrow's tail, from the left."),
            ("y0", 0.25, "Upper side, or the arrow's tail, from the top."),
            ("x1", 0.75, "Right side, or the arrow's tip, from the left."),
            ("y1", 0.75, "Lower side, or the arrow's tip, from the top."),
        )}  # fmt: skip
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture; chain nodes to draw more."}),
                "shape": ([*cue.SHAPES], {"tooltip": "What is drawn."}),
                **place,
                "units": ([*cue.UNITS], {"tooltip": "Places as shares of width and height, or in pixels."}),
                "colour": ("STRING", {"default": "red", "tooltip": "A name, or #rrggbb."}),
                "width": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 512.0, "step": 0.5, "tooltip":
                                    "Of the line in pixels; 0 takes 0.6 % of the longer side."}),
                "fill": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip":
                                   "Opacity of the inside."}),
                "margin": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 4.0, "step": 0.05, "tooltip":
                                     "With a mask: how far the shape stays off, over the piece's longer side."}),
            },
            "optional": {"mask": ("MASK", {
                "tooltip": "In place of the numbers: one shape around each white piece, or an arrow to it."})},
        }  # fmt: skip

    def run(self, *, image, shape, x0, y0, x1, y1, units, colour, width, fill, margin, mask=None):
        rgb, alpha = picture(image)
        size, mask = tuple(rgb.shape[-2:]), region(mask)
        if mask is None:
            shapes = [[cue.from_numbers(shape, (x0, y0, x1, y1), units, size)]] * len(rgb)
        else:
            shapes = cue.from_masks(shape, mask, margin, size, len(rgb))
        made, drawn, inside = cue.drawn(rgb, shapes, cue.colour(colour), width, fill)
        return packed(made, alpha), packed_mask(drawn), packed_mask(inside)


NODE_CLASS_MAPPINGS = {
    "EditKitKontextFit": KontextFit,
    "EditKitKontextUnfit": KontextUnfit,
    "EditKitVAERoundTrip": VAERoundTrip,
    "EditKitVisualCue": VisualCue,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitKontextFit": "Kontext Fit",
    "EditKitKontextUnfit": "Kontext Unfit",
    "EditKitVAERoundTrip": "VAE Round-trip",
    "EditKitVisualCue": "Visual Cue",
}
