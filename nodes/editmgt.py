"""EditMGT: an instruction edits a picture as tokens; what is not edited is held."""

from dataclasses import replace

import torch

from ..models import masks, region
from ..models.editmgt import localise as localisation
from ..models.editmgt.picture import canvas, fit
from ..models.editmgt.schedule import HOLDS
from ..models.errors import EditError
from .editmgt_options import COMPAT_INPUT, HOLD, OPTIONS, SPEED_INPUT, chosen
from .host import editmgt, editmgt_atlas, editmgt_run, folders
from .host.editmgt_run import Holding, Reading
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask, picture, repeated
from .unpacking import region as region_of

CATEGORY = "EditKit/editmgt"
LOCALISE, SQUARE, ATLAS = "EDITKIT_MGT_LOCALISE", "EDITKIT_MGT_SQUARE", "EDITKIT_MGT_ATLAS"
LARGE = {"fit": fit, "tiles": canvas}
SEED_INPUT = ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF, "control_after_generate": True,
                      "tooltip": "The same seed gives the same tokens on every machine."})  # fmt: skip


class LoadEditMGT:
    DESCRIPTION = "Loads EditMGT's release (or base Meissonic's): transformer, text encoders and VQ tokenizer."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["meissonic", "masked generative transformer", "maskgit", "instruction editing"]
    RETURN_TYPES, RETURN_NAMES = ("MODEL", "CLIP", "VAE"), ("model", "clip", "vae")
    OUTPUT_TOOLTIPS = (
        "The masked generative transformer.",
        "Gemma's states and CLIP's pooled vector; Clip Text Encode takes it.",
        "The VQ tokenizer; VAE Encode and VAE Decode take it.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "release": ([*folders.editmgt_folders()] or [""], {
                    "tooltip": "A folder below models/editkit that holds the release."}),
                "weight_dtype": ([*editmgt.DTYPES], {
                    "tooltip": "How the weights are kept. default: bf16 where the GPU computes in it, else fp32."}),
            }
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, release):
        if release is None:  # a linked name is known only when it runs
            return True
        try:
            folders.editmgt_folder(release)
        except EditError as problem:
            return str(problem)
        return True

    def run(self, *, release, weight_dtype):
        return editmgt.load(release, weight_dtype)


class EditMGTLocalise:
    DESCRIPTION = "Chooses whose attention says where the edit acts: blocks, a word, and the smoothing."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["attention map", "localization", "cross-attention", "daam"]
    RETURN_TYPES, RETURN_NAMES = (LOCALISE,), ("localise",)
    OUTPUT_TOOLTIPS = ("For EditMGT Sample and Region Hold.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "blocks": ("STRING", {"default": localisation.BLOCKS, "tooltip":
                                      "Numbers and ranges of 0 to 41, or double, single, all."}),
                "keyword": ("STRING", {"default": "", "tooltip":
                                       "A word or phrase of the instruction; empty: the whole of it."}),
                "occurrence": ("INT", {"default": 1, "min": 0, "max": 64, "tooltip":
                                       "Which one, where the word is repeated; 0 takes all."}),
                "method": ([*localisation.METHODS], {
                    "default": "adaptive", "tooltip": "How the map is made coherent (appendix B.2)."}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.1, "max": 5.0, "step": 0.1,
                                       "tooltip": "Of the filters."}),
                "factor": ("INT", {"default": 3, "min": 1, "max": 9, "tooltip": "Of the interpolations: 1, 3 or 5."}),
                "preserve_peaks": ("BOOLEAN", {"default": True, "tooltip": "Keeps the brightest tenth as it is."}),
            }
        }  # fmt: skip

    def run(self, *, blocks, keyword, occurrence, method, strength, factor, preserve_peaks):
        smoothing = localisation.Smoothing(method, strength, factor, preserve_peaks)
        return (Reading(blocks, keyword.strip(), occurrence, smoothing),)


class EditMGTRegionHold(TakesPaint):
    DESCRIPTION = "Keeps tokens of the picture: outside your mask, or where the instruction's attention is below λ."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["region hold", "inpaint", "preserve background"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = (HOLD,), ("hold",), ("For EditMGT Sample and Guider.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "threshold": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.01, "step": 0.01, "tooltip":
                                        "λ: tokens whose attention (0 to 1) is below it are kept; 0 keeps none."}),
                "mode": ([*HOLDS], {"tooltip": "official: what is kept may change later. strict: it never does."}),
                "mask_threshold": ("FLOAT", {"default": 0.5, "min": 0.01, "max": 1.0, "step": 0.01, "tooltip":
                                             "From which share of white a token of the mask is edited."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is edited, the rest is kept."}),
                "localise": (LOCALISE, {"tooltip": "Whose attention; open: all words, blocks 28-36."}),
                "mask_paint": paint_input("tokens under mask_threshold are held, the others edited in full."),
            },
        }  # fmt: skip

    def run(self, *, threshold, mode, mask_threshold, mask=None, localise=None, mask_paint=""):
        mask = region_of(region_given(mask, mask_paint))
        return (Holding(threshold, mode, mask, mask_threshold, localise),)


class EditMGTSample:
    DESCRIPTION = "Edits a picture by an instruction, or makes one from text, by filling in tokens step by step."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["instruction edit", "text to image", "meissonic", "masked generation"]
    RETURN_TYPES = ("LATENT", "MASK", SQUARE)
    RETURN_NAMES = ("latent", "changed", "square")
    OUTPUT_TOOLTIPS = (
        "The tokens; EditMGT Decode or VAE Decode makes them a picture.",
        "Where tokens are new: everywhere but where they were held.",
        "How the picture lies on the trained square, for EditMGT Decode.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "From Load EditMGT."}),
                "clip": ("CLIP", {"tooltip": "From Load EditMGT."}),
                "vae": ("VAE", {"tooltip": "From Load EditMGT."}),
                "instruction": ("STRING", {"default": "", "multiline": True, "tooltip": "What to change or show."}),
                "negative": ("STRING", {"default": "", "multiline": True, "tooltip": "What it should not be."}),
                **OPTIONS, "seed": SEED_INPUT,
                "side": ("INT", {"default": 0, "min": 0, "max": 2048, "step": 32,
                                 "tooltip": "Side of the square in pixels; 0 is what the model was trained on."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "The picture to edit, any size. Left open: text to image."}),
                "hold": (HOLD, {"tooltip": "What of the picture is kept."}),
                "localise": (LOCALISE, {"tooltip": "Reads where the instruction acts, for EditMGT Localisation Map."}),
                "large": ([*LARGE], {"tooltip": "Pictures larger than the square: fit scales them to it, tiles edits "
                                     "them at full size in overlapping squares, each a run's time."}),
                "compat": COMPAT_INPUT, "speed": SPEED_INPUT,
                "atlas": (ATLAS, {"tooltip": "Reads what attends to what, for EditMGT Atlas Sheet."}),
            },
        }  # fmt: skip

    def run(
        self, *, model, clip, vae, instruction, negative, seed, side, image=None, hold=None, localise=None,
        large="fit", compat=None, speed=None, atlas=None, **options,
    ):  # fmt: skip
        net = editmgt.network(model)
        options = editmgt_run.adjusted(chosen(**options, model=net), compat, speed)
        side, hold = side or editmgt.side_of(net), hold or Holding()
        reading = hold.reading or localise or (Reading() if hold.threshold > 0 else None)
        square = None if image is None else LARGE[large](picture(image)[0], side)
        reference = None if square is None else vae.tokens(square.pixels, square.tile)
        mask = _new_tokens(hold, square)
        count = 1 if reference is None else len(reference)
        text = editmgt_run.repeated(clip.encode([instruction]), count, "instructions")
        without = clip.encode([negative]) if options.guidance > 1 else None
        without = editmgt_run.repeated(without, count, "negatives")
        tell = editmgt_run.teller(model, net, options.steps)
        grid = (side // 16, side // 16) if square is None else square.grid
        net = editmgt.network(model)  # the encoders may have taken its place
        rows = editmgt_run.rows(clip, instruction, reading, compat)
        options = replace(options, threshold=hold.threshold, hold=hold.mode, tile=side // 16)
        options = editmgt_run.with_reading(options, net, reading, rows)
        atlas = editmgt_atlas.begun(atlas, net, clip, instruction, options.steps, grid, square)
        result, attention = editmgt_run.run(
            net, text, without, grid, options, seed=seed, reference=reference, mask=mask, reading=reading,
            micro=(side, side, 0, 0, 6), report=tell, atlas=atlas,
        )  # fmt: skip
        changed = (~result.held.cpu()).float()
        changed = square.tokens_out(changed) if square is not None else _enlarged(changed)
        extra = {} if attention is None else {editmgt.ATTENTION: (attention, net.diffusion_model.grid(result.tokens))}
        extra |= {} if atlas is None else {editmgt.ATLAS: atlas.kept()}
        return editmgt.latent(net, result.tokens.cpu(), **extra), packed_mask(changed), square


def _enlarged(values):
    return torch.nn.functional.interpolate(values[:, None], scale_factor=16, mode="nearest")[:, 0]


def _new_tokens(hold: Holding, square):
    """The user's mask at the tokens, or None. EditError without a picture."""
    if hold.mask is None:
        return None
    if square is None:
        raise EditError("A mask needs the picture of which the rest is kept; wire an image.")
    mask = masks.fit(hold.mask, *square.original, batch=len(square.pixels))
    return square.tokens_in(mask, hold.mask_threshold)


class EditMGTDecode:
    DESCRIPTION = (
        "Makes tokens a picture at the photograph's own size; where nothing was changed the photograph stays "
        "bit-identical."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["vq decode", "vae decode", "composite"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("IMAGE",), ("image",), ("The edited picture.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae": ("VAE", {"tooltip": "From Load EditMGT."}),
                "latent": ("LATENT", {"tooltip": "From EditMGT Sample."}),
                "feather": ("INT", {"default": 8, "min": 0, "max": 256,
                                    "tooltip": "Pixels over which the edit blends into the photograph."}),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "The photograph; left open: the decoded square as it is."}),
                "square": (SQUARE, {"tooltip": "From EditMGT Sample."}),
                "changed": ("MASK", {"tooltip": "Where the edit goes. Left open: everywhere."}),
            },
        }  # fmt: skip

    def run(self, *, vae, latent, feather, image=None, square=None, changed=None):
        made = vae.decode(latent["samples"], tile=0 if square is None else square.tile).movedim(-1, 1)
        if image is None or square is None:
            return (packed(made if square is None else square.restored(made)),)
        rgb, alpha = picture(image)
        if tuple(rgb.shape[-2:]) != square.original:
            raise EditError("The photograph is not the one that was sampled from; wire the same image to both nodes.")
        original, alpha, made = repeated(rgb, alpha, square.restored(made).to(rgb))
        changed = region_of(changed)
        if changed is not None:
            kept = masks.invert(masks.fit(changed.to(rgb.device), *square.original, batch=len(made)))
            soft = masks.invert(masks.feather(kept, feather))  # inward, so that what was held stays bit-identical
            made = region.composite(original, made, soft)
        return (packed(made, alpha),)


NODE_CLASS_MAPPINGS = {
    "EditKitLoadEditMGT": LoadEditMGT,
    "EditKitEditMGTLocalise": EditMGTLocalise,
    "EditKitEditMGTRegionHold": EditMGTRegionHold,
    "EditKitEditMGTSample": EditMGTSample,
    "EditKitEditMGTDecode": EditMGTDecode,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitLoadEditMGT": "Load EditMGT",
    "EditKitEditMGTLocalise": "EditMGT Localise",
    "EditKitEditMGTRegionHold": "EditMGT Region Hold",
    "EditKitEditMGTSample": "EditMGT Sample",
    "EditKitEditMGTDecode": "EditMGT Decode",
}
