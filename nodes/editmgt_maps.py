"""EditMGT's attention as pictures: where an instruction acts, and the atlas of what attends to what."""

import torch

from ..models.editmgt import localise as localisation
from ..models.errors import EditError
from .editmgt import ATLAS, CATEGORY, LOCALISE, SQUARE
from .host import editmgt, editmgt_atlas
from .unpacking import packed, packed_mask, picture


class EditMGTLocalisationMap:
    DESCRIPTION = "Shows where the instruction's attention lay, step by step and in all, and makes it a mask."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["heat map", "attention map", "localization"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "IMAGE", "MASK"), ("final", "steps", "mask")
    OUTPUT_TOOLTIPS = ("The final map over the picture.", "The map of each step.", "Where the final map is λ or more.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": ("LATENT", {"tooltip": "From EditMGT Sample with EditMGT Localise wired to it."}),
                "localise": (LOCALISE, {"tooltip": "Its smoothing; blocks and keyword count where it was sampled."}),
                "threshold": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": "λ."}),
                "final": (["mean", "last"], {"tooltip": "The final map: of all steps' attention, or of the last."}),
                "opacity": ("FLOAT", {"default": 0.6, "min": 0.0, "max": 1.0, "step": 0.05,
                                      "tooltip": "Of the colours over the picture."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "The photograph."}),
                "square": (SQUARE, {"tooltip": "From EditMGT Sample."}),
            },
        }  # fmt: skip

    def run(self, *, latent, localise, threshold, final, opacity, image=None, square=None):
        if editmgt.ATTENTION not in latent:
            raise EditError("The latent carries no attention; wire EditMGT Localise to EditMGT Sample.")
        attention, grid = latent[editmgt.ATTENTION]
        gathered = localisation.Localiser(grid, localise.smoothing)
        gathered.attention = list(attention)
        steps, whole = gathered.steps(), gathered.final(final)

        def placed(maps):
            if square is not None:
                return square.tokens_out(maps, smooth=True)
            return localisation.enlarged(maps, tuple(16 * s for s in latent["samples"].shape[-2:]))

        shown = None if image is None or square is None else picture(image)[0][:1]
        pictures = [localisation.heat_map(placed(maps[:1]), shown, opacity) for maps in steps]
        large = placed(whole)
        rgb = None if image is None or square is None else picture(image)[0]
        return (packed(localisation.heat_map(large, rgb, opacity)), packed(torch.cat(pictures)),
                packed_mask(localisation.mask(large, threshold)))  # fmt: skip


class EditMGTAttentionAtlas:
    DESCRIPTION = "Chooses what EditMGT Sample reads for the atlas: which attention, of which blocks, at which steps."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["attention map", "attention visualization", "cross-attention", "self-attention"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (ATLAS,), ("atlas",), ("For EditMGT Sample.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        def switch(what):
            return ("BOOLEAN", {"default": True, "tooltip": what})

        return {
            "required": {
                "blocks": ("STRING", {"default": "all", "tooltip":
                                      "Numbers and ranges of 0 to 41, or double, single, all."}),
                "steps": ("STRING", {"default": editmgt_atlas.STEPS, "tooltip":
                                     "Numbers and ranges from 1 on, or first, middle, last, all."}),
                "text_to_image": switch("How much the text looks at each token of the picture."),
                "image_to_text": switch("How much each token of the picture looks at the text."),
                "image_to_image": switch("How much each token of the picture is looked at by the picture."),
                "keyword": ("STRING", {"default": "", "tooltip":
                                       "The text is this word or phrase of the instruction; empty: the whole of it."}),
                "occurrence": ("INT", {"default": 1, "min": 0, "max": 64, "tooltip":
                                       "Which one, where the word is repeated; 0 takes all."}),
                "view": (["picture", "point"], {
                    "tooltip": "Image to image: seen by the whole picture, or by one point of it."}),
                "point_x": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip":
                                      "Where that point lies: 0 is the left edge, 1 the right."}),
                "point_y": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip":
                                      "0 is the upper edge, 1 the lower."}),
            }
        }  # fmt: skip

    def run(self, *, blocks, steps, keyword, occurrence, view, point_x, point_y, **switches):
        kinds = editmgt_atlas.kinds(switches)
        point = (point_x, point_y) if view == "point" else None
        return (editmgt_atlas.Request(blocks, steps, kinds, keyword.strip(), occurrence, point),)


class EditMGTAtlasSheet:
    DESCRIPTION = "Draws the atlas as one labelled sheet: a row per block, a column per step and kind of attention."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["attention map", "attention visualization", "grid", "plot"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("IMAGE",), ("sheet",), ("A sheet for each picture.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": ("LATENT", {"tooltip": "From EditMGT Sample with EditMGT Attention Atlas wired to it."}),
                "cell": ("INT", {"default": 128, "min": 32, "max": 512, "tooltip": "A map's longer side in pixels."}),
            },
            "optional": {
                "square": (SQUARE, {"tooltip": "From EditMGT Sample: shows the picture's part of the square alone."}),
            },
        }  # fmt: skip

    def run(self, *, latent, cell, square=None):
        if editmgt.ATLAS not in latent:
            raise EditError("The latent carries no atlas; wire EditMGT Attention Atlas to EditMGT Sample.")
        return (packed(editmgt_atlas.sheets(latent[editmgt.ATLAS], cell, square)),)


NODE_CLASS_MAPPINGS = {
    "EditKitEditMGTLocalisationMap": EditMGTLocalisationMap,
    "EditKitEditMGTAttentionAtlas": EditMGTAttentionAtlas,
    "EditKitEditMGTAtlasSheet": EditMGTAtlasSheet,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitEditMGTLocalisationMap": "EditMGT Localisation Map",
    "EditKitEditMGTAttentionAtlas": "EditMGT Attention Atlas",
    "EditKitEditMGTAtlasSheet": "EditMGT Atlas Sheet",
}
