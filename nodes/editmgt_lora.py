"""LoRA files on EditMGT."""

from ..models.errors import EditError
from .editmgt import CATEGORY
from .host import editmgt_lora, folders


class EditMGTLora:
    DESCRIPTION = "Lets EditMGT wear a LoRA, of the official trainer or of this pack's; several may follow each other."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora", "adapter", "peft", "meissonic lora"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS = ("MODEL",), ("model",), ("The same weights, with the LoRA.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "From Load EditMGT, or from another EditMGT LoRA."}),
                "lora": ([*folders.loras()] or [""], {"tooltip": "A .safetensors file below models/loras."}),
                "strength": ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05, "tooltip":
                                       "0 leaves it out, 1 is as trained."}),
                "part": ([*editmgt_lora.PARTS], {"tooltip":
                         "On what it acts. as trained: as the lora_config.json beside it says, else on all tokens."}),
            }
        }  # fmt: skip

    @classmethod
    def VALIDATE_INPUTS(cls, lora):
        if lora is None:  # a linked name is known only when it runs
            return True
        try:
            folders.lora(lora)
        except EditError as problem:
            return str(problem)
        return True

    @classmethod
    def IS_CHANGED(cls, lora, **_):
        return editmgt_lora.fingerprint(lora)

    def run(self, *, model, lora, strength, part):
        return (editmgt_lora.add(model, lora, strength, part),)


NODE_CLASS_MAPPINGS = {"EditKitEditMGTLora": EditMGTLora}
NODE_DISPLAY_NAME_MAPPINGS = {"EditKitEditMGTLora": "EditMGT LoRA"}
