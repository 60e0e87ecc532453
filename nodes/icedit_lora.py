"""ICEdit's LoRA and its mixture of experts, routed as they were trained; and who of them was chosen where."""

from ..models.errors import EditError
from ..models.icedit import lora as files
from ..models.icedit import usage
from .host import folders, icedit_lora, loras
from .icedit import CATEGORY
from .unpacking import packed, picture

EXPERTS = "EDITKIT_EXPERTS"
LORA_TOOLTIP = "A file in models/loras: pytorch_lora_weights (plain) or ICEdit-MoE-LoRA."


def known(lora):
    """VALIDATE_INPUTS of a choice of files: True, or where to put one."""
    if lora is None:  # a linked name is known only when it runs
        return True
    try:
        folders.lora(lora)
    except EditError as problem:
        return str(problem)
    return True


class ICEditLoRA:
    DESCRIPTION = "Loads ICEdit's LoRA for FLUX Fill: the plain one, or the mixture, each token routed to its expert."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["moe lora", "mixture of experts", "lora key not loaded", "LoraLoaderModelOnly", "router"]
    RETURN_TYPES, RETURN_NAMES = ("MODEL", EXPERTS, "STRING"), ("model", "experts", "info")
    OUTPUT_TOOLTIPS = (
        "For any sampler or guider; other LoRAs may come before or after.",
        "For ICEdit Expert Map: which experts were chosen, once it was sampled.",
        "What the file holds.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        strength = {"min": -10.0, "max": 10.0, "step": 0.05}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "FLUX.1 Fill: fp8, GGUF, with other LoRAs."}),
                "lora": ([*folders.loras()] or [""], {"tooltip": LORA_TOOLTIP}),
                "strength": ("FLOAT", {"default": 1.0, **strength, "tooltip":
                                       "Of the plain part, and of the experts where they are tied to it."}),
                "experts": ([*icedit_lora.MODES], {"tooltip": "routed: as trained. mean: their average as plain LoRA, "
                            "lossy, where a backend cannot be hooked. off: the plain part alone."}),
                "tie_experts": ("BOOLEAN", {"default": True, "tooltip":
                                            "The experts take the strength too. Off: they have their own, below."}),
                "expert_strength": ("FLOAT", {"default": 1.0, **strength, "tooltip": "For untied experts; the released "
                                              "code leaves them at 1 whatever the strength."}),
                "experts_per_token": ("INT", {"default": 1, "min": 1, "max": 64, "tooltip":
                                              "The paper's k; ICEdit was trained with 1."}),
            },
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, lora):
        return known(lora)

    def run(self, *, model, lora, strength, experts, tie_experts, expert_strength, experts_per_token):
        found = loras.read(lora, experts_per_token)
        own = strength if tie_experts else expert_strength
        made, recorder = icedit_lora.applied(model, found, strength, own, experts)
        return made, recorder, files.described(found)


class ICEditExpertMap:
    DESCRIPTION = "Shows which expert each token of a sampled diptych got, in a layer and at a step."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["heat map", "router", "moe", "mixture of experts", "expert usage"]
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "IMAGE", "STRING"), ("map", "steps", "info")
    OUTPUT_TOOLTIPS = (
        "A colour for each expert, over the picture if there is one.",
        "The same for every step, as a batch (of the first diptych).",
        "The layer, the noise level, and the share of the tokens that each expert got.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": ("LATENT", {"tooltip": "The sampler's own output, unchanged: it says which run is shown."}),
                "experts": (EXPERTS, {"tooltip": "From ICEdit LoRA."}),
                "layer": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip":
                                  "0 to 18 are the double blocks, 19 to 56 the single ones."}),
                "step": ("INT", {"default": -1, "min": -1000, "max": 1000, "tooltip":
                                 "0 is the first, -1 the last."}),
                "opacity": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip":
                                      "Of the colours over the picture."}),
            },
            "optional": {"image": ("IMAGE", {"tooltip": "The diptych, as made or as decoded, to draw it on."})},
        }  # fmt: skip

    def run(self, *, latent, experts, layer, step, opacity, image=None):
        run = experts.of(latent["samples"])
        name, at = usage.layer_of(run, layer), usage.step_of(run, step)
        below = None if image is None else picture(image)[0]
        if below is not None and len(below) not in (1, len(at.choices(name))):
            raise EditError(f"{len(below)} pictures do not fit {len(at.choices(name))} maps; give one, or one each.")
        maps = usage.picture(at.choices(name), below, opacity)
        info = usage.told(name, at, at.choices(name), run.count[name])
        return packed(maps), packed(usage.film(run, name, below, opacity)), info


class SaveICEditMeanLoRA:
    DESCRIPTION = "Writes a mixture's mean as a plain LoRA file, for backends whose layers cannot be hooked. Lossy."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["average moe lora", "nunchaku", "convert lora", "mean of experts"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("STRING",), ("path",), ("The file that was written.",)
    FUNCTION, OUTPUT_NODE = "run", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"lora": ([*folders.loras()] or [""], {"tooltip": LORA_TOOLTIP})}}

    @classmethod
    def VALIDATE_INPUTS(cls, lora):
        return known(lora)

    def run(self, *, lora):
        path = str(loras.write_mean(lora))
        return {"ui": {"text": [path]}, "result": (path,)}


NODE_CLASS_MAPPINGS = {
    "EditKitICEditLoRA": ICEditLoRA,
    "EditKitICEditExpertMap": ICEditExpertMap,
    "EditKitSaveICEditMeanLoRA": SaveICEditMeanLoRA,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitICEditLoRA": "ICEdit LoRA",
    "EditKitICEditExpertMap": "ICEdit Expert Map",
    "EditKitSaveICEditMeanLoRA": "Save ICEdit Mean LoRA",
}
