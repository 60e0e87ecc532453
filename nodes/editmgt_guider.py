"""EditMGT in ComfyUI's own sampler."""

import torch

from ..models.errors import EditError
from .editmgt_options import CATEGORY, COMPAT_INPUT, HOLD, OPTIONS, SPEED_INPUT, chosen
from .host import editmgt, editmgt_run
from .host.devices import in_comfyui


class EditMGTGuider:
    DESCRIPTION = "Lets Sampler Custom Advanced run EditMGT: the sigmas' number gives the steps, the noise the seed."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["guider", "sampler custom"]
    RETURN_TYPES, RETURN_NAMES = ("GUIDER", "SIGMAS"), ("guider", "sigmas")
    OUTPUT_TOOLTIPS = ("For Sampler Custom Advanced.", "As many steps as `steps` says.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "From Load EditMGT."}),
                "positive": ("CONDITIONING", {"tooltip": "The instruction, by EditMGT's CLIP."}),
                **OPTIONS,
            },
            "optional": {
                "negative": ("CONDITIONING", {"tooltip": "What the picture should not be; left open: no guidance."}),
                "reference": ("LATENT", {"tooltip": "The picture to edit, by EditMGT's VAE. Open: the latent that is "
                                         "sampled, if it holds a picture."}),
                "hold": (HOLD, {"tooltip": "λ and a mask; Set Latent Noise Mask's keeps as well."}),
                "large": (["whole", "tiles"], {"tooltip": "Latents larger than the trained square: at once, or in "
                                               "overlapping squares of that size."}),
                "compat": COMPAT_INPUT, "speed": SPEED_INPUT,
            },
        }  # fmt: skip

    def run(
        self, *, model, positive, negative=None, reference=None, hold=None, large="whole", compat=None, speed=None,
        **options,
    ):  # fmt: skip
        if not in_comfyui():
            raise EditError("EditMGT Guider works in ComfyUI's samplers; use EditMGT Sample here.")
        net = editmgt.network(model)
        options = editmgt_run.adjusted(chosen(**options, model=net), compat, speed)
        text, without = (
            editmgt_run.from_conditioning(c, n) for c, n in ((positive, "positive"), (negative, "negative"))
        )
        guider = editmgt_run.Guider(model, text, without, options, reference, hold, tiled=large == "tiles")
        return guider, torch.linspace(1.0, 0.0, options.steps + 1)


NODE_CLASS_MAPPINGS = {"EditKitEditMGTGuider": EditMGTGuider}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitEditMGTGuider": "EditMGT Guider"}
