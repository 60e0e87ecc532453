"""ICEdit on FLUX.1 Fill: the diptych, its conditioning and schedule, and the way back into the picture."""

from ..models import masks
from ..models.icedit import diptych as diptychs
from ..models.icedit import prompts
from ..models.kontext import schedule
from .host import icedit
from .painting import TakesPaint, paint_input, region_given
from .unpacking import packed, packed_mask, picture, region

CATEGORY = "EditKit/icedit"
DIPTYCH = "EDITKIT_DIPTYCH"


class ICEditDiptych(TakesPaint):
    DESCRIPTION = "Puts a picture of any size beside its copy, for FLUX Fill to edit, and writes the prompt."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["in-context edit", "instruction editing", "side by side", "flux fill", "moe lora"]
    RETURN_TYPES = ("IMAGE", "MASK", "STRING", DIPTYCH, "IMAGE")
    RETURN_NAMES = ("diptych", "mask", "prompt", "record", "panel")
    OUTPUT_TOOLTIPS = (
        "The picture twice, scaled and not cropped.",
        "Where FLUX Fill paints: the right panel, or your mask in it.",
        "What the text encoders are told.",
        "For ICEdit Uncrop: the picture and what was done to it.",
        "One panel alone, for ICEdit Invert.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture to edit; any size, one or several."}),
                "instruction": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False, "tooltip":
                                           "What to change; for the preset descriptions, the picture as it shall be."}),
                "preset": ([*prompts.PRESETS], {"tooltip": "icedit: the LoRAs' training string. training-free: §3.1's "
                                                "prompt, without a LoRA. direct, descriptions: Fig. 3."}),
                "width": ("INT", {"default": diptychs.TRAINED_WIDTH, "min": 0, "max": 4096, "step": 16, "tooltip":
                                  "Of a panel in pixels; the LoRAs were trained at 512. 0: the picture's own."}),
                "source": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False, "tooltip":
                                      "The picture as it is, for the preset descriptions only."}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "White is edited, and nothing else. Left open: everything."}),
                "mask_paint": paint_input("FLUX Fill paints wherever it is not black; Uncrop lays the edit on by it."),
            },
        }  # fmt: skip

    def run(self, *, image, instruction, preset, width, source, mask=None, mask_paint=""):
        text = prompts.prompt(preset, instruction, source)
        record = diptychs.diptych(*picture(image), region(region_given(mask, mask_paint, image)), width)
        return packed(record.pair()), packed_mask(record.edited()), text, record, packed(record.panel)


class ICEditUncrop:
    DESCRIPTION = "Takes the edited right panel back to the picture's own size; outside your mask the picture is exact."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["crop diptych", "right panel", "composite", "paste back", "original size"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "MASK"), ("image", "changed")
    OUTPUT_TOOLTIPS = (
        "The edit at the picture's size; outside the mask its pixels are bit-identical.",
        "What was changed.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "diptych": ("IMAGE", {"tooltip": "The sampled and decoded diptych, or several; also enlarged."}),
                "record": (DIPTYCH, {"tooltip": "From ICEdit Diptych."}),
                "feather": ("INT", {"default": 8, "min": 0, "max": 256, "tooltip":
                                    "Pixels over which the edit blends in, inside your mask."}),
            }
        }  # fmt: skip

    def run(self, *, diptych, record, feather):
        made, _ = picture(diptych)
        rgb, alpha, changed = diptychs.uncropped(made, record, feather)
        return packed(rgb, alpha), packed_mask(changed)


class ICEditConditioning:
    DESCRIPTION = "Encodes prompt and diptych for FLUX Fill as the released code does."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["InpaintModelConditioning", "flux fill", "flux guidance", "t5 length"]
    RETURN_TYPES, RETURN_NAMES = ("CONDITIONING", "CONDITIONING", "LATENT"), ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "For Basic Guider, or any sampler with cfg 1.",
        "For samplers that ask for one; with cfg 1 it has no part.",
        "The diptych's latent, to be sampled from pure noise.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "FLUX's text encoders, clip_l and t5xxl."}),
                "vae": ("VAE", {"tooltip": "FLUX's."}),
                "diptych": ("IMAGE", {"tooltip": "From ICEdit Diptych."}),
                "mask": ("MASK", {"tooltip": "From ICEdit Diptych."}),
                "prompt": ("STRING", {"default": "", "multiline": True, "forceInput": True, "tooltip":
                                      "From ICEdit Diptych."}),
                "guidance": ("FLOAT", {"default": 50.0, "min": 0.0, "max": 100.0, "step": 0.5, "tooltip":
                                       "FLUX's embedded guidance: 50 for ICEdit; Fill by itself is used with 30."}),
                "lock_left_panel": ("BOOLEAN", {"default": False, "tooltip":
                                    "Sets the left panel back at every step. Off as released: Fill sees it anyway."}),
                "t5_length": ("INT", {"default": 512, "min": 0, "max": 4096, "step": 64, "tooltip":
                                      "Tokens that T5's prompt is padded to: 512 as released, 0 as ComfyUI (256)."}),
                "negative": ("STRING", {"default": "", "multiline": True, "dynamicPrompts": False, "tooltip":
                                        "For samplers with a cfg above 1."}),
            }
        }  # fmt: skip

    def run(self, *, clip, vae, diptych, mask, prompt, guidance, lock_left_panel, t5_length, negative):
        icedit.need_comfyui("ICEdit Conditioning")
        texts = [icedit.encoded(clip, text, t5_length) for text in (prompt, negative)]
        (positive, other), latent = icedit.conditioned(texts, vae, diptych, masks.checked(mask), guidance)
        return positive, other, icedit.locked(latent, mask) if lock_left_panel else latent


class ICEditSchedule:
    DESCRIPTION = "The steps' noise levels, with the shift that belongs to the diptych's size, as released."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["sigmas", "ModelSamplingFlux", "scheduler", "shift", "timesteps"]
    RETURN_TYPES, RETURN_NAMES = ("SIGMAS", "FLOAT", "MODEL"), ("sigmas", "mu", "model")
    OUTPUT_TOOLTIPS = (
        "For Sampler Custom Advanced.",
        "The shift μ that was used.",
        "The MODEL with that shift, for KSampler with the scheduler simple. Nothing where no MODEL is wired.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        def shift(default, tooltip):
            return ("FLOAT", {"default": default, "min": -20.0, "max": 20.0, "step": 0.01, "tooltip": tooltip})

        return {
            "required": {
                "latent": ("LATENT", {"tooltip": "The diptych's: both panels count."}),
                "steps": ("INT", {"default": 28, "min": 1, "max": 1000, "tooltip": "28 as released, 50 in the paper."}),
                "base_shift": shift(schedule.BASE_SHIFT, "μ at 256 tokens (256x256 px)."),
                "max_shift": shift(schedule.MAX_SHIFT, "μ at 4096 tokens (1024x1024 px)."),
            },
            "optional": {"model": ("MODEL", {"tooltip": "Gets the same shift, for samplers without SIGMAS."})},
        }  # fmt: skip

    def run(self, *, latent, steps, base_shift, max_shift, model=None):
        mu = icedit.mu_of(latent, base_shift, max_shift)
        return schedule.sigmas(steps, mu), mu, None if model is None else icedit.with_shift(model, mu)


NODE_CLASS_MAPPINGS = {
    "EditKitICEditDiptych": ICEditDiptych,
    "EditKitICEditUncrop": ICEditUncrop,
    "EditKitICEditConditioning": ICEditConditioning,
    "EditKitICEditSchedule": ICEditSchedule,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitICEditDiptych": "ICEdit Diptych",
    "EditKitICEditUncrop": "ICEdit Uncrop",
    "EditKitICEditConditioning": "ICEdit Conditioning",
    "EditKitICEditSchedule": "ICEdit Schedule",
}
