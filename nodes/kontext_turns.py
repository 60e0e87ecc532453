"""An editing session of several turns: each turn on the last one's latent, and how far the session has drifted."""

from ..models.kontext import drift, plot, turn
from ..models.kontext.references import Reference, with_reference
from .host import embeddings, turns
from .host.progress import reporter
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask, picture, region

CATEGORY = "EditKit/kontext"
MEASURES = {
    "psnr": "PSNR in dB outside the mask; 99 for equal pictures.",
    "ssim": "SSIM of the luminance outside the mask.",
    "delta_e": "Mean colour difference (CIEDE2000) outside the mask.",
    "clip": "Cosine of the CLIP vision embeddings; NaN without one.",
    "face": "Cosine of the face embeddings; NaN without one.",
}
AGAINST = {"first": "the first picture", "previous": "the picture before"}


class KontextTurn(TakesPaint):
    DESCRIPTION = (
        "One turn of an editing session: the last turn's latent is the reference, without decoding and encoding in "
        "between; latents outside the mask stay as they are, to the bit."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["multi-turn", "iterative editing", "region hold", "inpaint kontext", "anchor"]
    RETURN_TYPES = ("MODEL", "CONDITIONING", "LATENT", "MASK")
    RETURN_NAMES = ("model", "conditioning", "latent", "changed")
    OUTPUT_TOOLTIPS = (
        "The MODEL with references and hold, for any sampler.",
        "The instruction with the last turn (and the anchor) as references.",
        "What is sampled: the last turn's latent with this turn's mask.",
        "Whole latents that may change, in pixels.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "FLUX.1 Kontext; LoRAs may come before or after."}),
                "conditioning": ("CONDITIONING", {"tooltip": "This turn's instruction (after Flux Guidance)."}),
                "latent": ("LATENT", {"tooltip": "The last turn's result; at first the encoded photo."}),
                "anchor_strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05, "tooltip":
                                              "How much the anchor counts: 1 as a plain reference, 0 not at all."}),
            },
            "optional": {
                "anchor": ("LATENT", {"tooltip": "The first picture, as a second reference against drift."}),
                "mask": ("MASK", {"tooltip": "White is edited, grey in part, black held. Open: everything is edited."}),
                "mask_paint": paint_input("it is the denoise mask, grey changing in part; black is held to the bit."),
            },
        }  # fmt: skip

    def run(self, *, model, conditioning, latent, anchor_strength, anchor=None, mask=None, mask_paint=""):
        channels = turns.channels(model)
        samples, mask = turn.checked(latent, "latent", channels), region(region_given(mask, mask_paint))
        conditioning = with_reference(conditioning, Reference(samples))
        first = None if anchor is None else turn.checked(anchor, "anchor", channels)
        if first is not None and anchor_strength != 0 and not turn.same(first, samples):
            conditioning = with_reference(conditioning, Reference(first, strength=anchor_strength))
        out, changed = {k: v for k, v in latent.items() if k != "noise_mask"}, samples.new_ones(1, *samples.shape[-2:])
        if mask is not None:
            out["noise_mask"] = turn.latent_mask(mask, tuple(samples.shape[-2:]), len(samples))
            changed = (out["noise_mask"][:, 0] > 0).float()
        return turns.with_turn(model), conditioning, out, packed_mask(turn.in_pixels(changed))


class DriftMeter:
    DESCRIPTION = (
        "Measures how far an editing session has moved from its first picture, and each turn from the one before, "
        "outside what was edited."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["psnr", "ssim", "delta e", "consistency", "face similarity", "auraface", "compare images"]
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE", "STRING", *["FLOAT"] * (len(AGAINST) * len(MEASURES)))
    RETURN_NAMES = ("plot", "text", *(f"{name}_{against}" for against in AGAINST for name in MEASURES))
    OUTPUT_TOOLTIPS = (
        "Every measure over the turns.",
        "The same as a table.",
        *(f"Last turn against {words}: {said}" for words in AGAINST.values() for said in MEASURES.values()),
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The turns in order, as a batch or a list."}),
                "face_model": (embeddings.choices(), {
                    "tooltip": "AuraFace's glintr100.onnx, below models/editkit. Needs onnxruntime."}),
                "face_detector": (embeddings.choices(), {
                    "tooltip": "AuraFace's scrfd_10g_bnkps.onnx, to find the face and turn it upright."}),
            },
            "optional": {
                "first": ("IMAGE", {"tooltip": "Where the session began. Open: the first of the images."}),
                "mask": ("MASK", {"tooltip": "White was edited and is not measured; one for all turns, or one each."}),
                "clip_vision": ("CLIP_VISION", {"tooltip": "For the cosine of whole pictures."}),
                "faces": ("MASK", {"tooltip": "White on the face, in place of a detector."}),
            },
        }  # fmt: skip

    def run(self, *, images, face_model, face_detector, first=None, mask=None, clip_vision=None, faces=None):
        began = [] if first is None else [one for item in listed(first) for one in picture(item)[0]][:1]
        pictures = [*began, *(one for item in listed(images) for one in picture(item)[0])]
        mask, faces = (drift.stacked([region(item) for item in listed(given)]) for given in (mask, faces))
        clip = embeddings.by_clip(listed(clip_vision)[0], pictures)
        face, notes = embeddings.by_face(listed(face_model)[0], listed(face_detector)[0], pictures, faces)
        found = drift.measured(pictures, mask, drift.Embeddings(clip, face), reporter())
        last = [getattr(getattr(found[-1], against), name) for against in AGAINST for name in MEASURES]
        return packed(plot.chart(found)), drift.report(found, mask is not None, notes), *last


def listed(value) -> list:
    """What an input of INPUT_IS_LIST holds, also where a script gave the bare value."""
    return value if isinstance(value, list) else [value]


NODE_CLASS_MAPPINGS = {"EditKitKontextTurn": KontextTurn, "EditKitDriftMeter": DriftMeter}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitKontextTurn": "Kontext Turn", "EditKitDriftMeter": "Drift Meter"}
