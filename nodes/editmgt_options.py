"""What EditMGT's samplers have in common: their widgets, and the two nodes of rarely used settings."""

from ..models.editmgt.options import BIASES, ROUNDINGS, TIMES, Compat, Options, Speed
from ..models.editmgt.schedule import SCHEDULES

CATEGORY = "EditKit/editmgt"
HOLD, COMPAT, SPEED = "EDITKIT_MGT_HOLD", "EDITKIT_MGT_COMPAT", "EDITKIT_MGT_SPEED"
COMPAT_INPUT = (COMPAT, {"tooltip": "The released code's mistakes, to repeat its results. Open: none of them."})
SPEED_INPUT = (SPEED, {"tooltip": "Faster and not quite the same. Open: exact."})
OPTIONS = {
    "steps": ("INT", {"default": 16, "min": 1, "max": 256, "tooltip": "The paper's 16, the released code's 36."}),
    "cfg": ("FLOAT", {"default": 6.0, "min": 1.0, "max": 30.0, "step": 0.1,
                      "tooltip": "How strongly the instruction counts against the negative; 1 leaves the latter out."}),
    "gamma": ("FLOAT", {"default": 1.1, "min": 0.0, "max": 4.0, "step": 0.05,
                        "tooltip": "The reference's strength: 1 as trained, more holds on to the picture."}),
    "bias": ([*BIASES], {
        "tooltip": "What gamma joins: the reference and all else (released weights), or the picture (Eq. 2)."}),
    "schedule": (["model", *SCHEDULES], {"tooltip": "How fast tokens settle. model: as its folder says."}),
    "temperature": ("FLOAT", {"default": 2.0, "min": 0.0, "max": 10.0, "step": 0.1,
                              "tooltip": "Chance in what settles first, at the first step."}),
    "final_temperature": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 10.0, "step": 0.1,
                                    "tooltip": "The same at the last step."}),
    "time": ([*TIMES, "model"], {"default": "model", "tooltip":
             "What the network is told: the step's number (released), the masked share, or as its folder says."}),
}  # fmt: skip


def chosen(steps, cfg, gamma, bias, schedule, temperature, final_temperature, time, model) -> Options:
    """The run's options from the widgets."""
    return Options(
        steps=steps, guidance=cfg, gamma=gamma, bias=bias, temperature=(temperature, final_temperature),
        schedule=model.schedule if schedule == "model" else schedule, time=model.time if time == "model" else time,
    )  # fmt: skip


class EditMGTCompatibility:
    DESCRIPTION = "Repeats mistakes of the released code, each by itself, where its results are to be had again."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["official", "released code", "reproduce", "parity"]
    RETURN_TYPES, RETURN_NAMES = (COMPAT,), ("compat",)
    OUTPUT_TOOLTIPS = ("For EditMGT Sample and Guider.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "alias_mask": ("BOOLEAN", {"default": False, "tooltip":
                               "Hides the picture inside the mask from the network too, not only from the result."}),
                "leaked_gamma": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.05, "tooltip":
                                 "The gamma of an earlier run, which a run with gamma 1 then had; 1 is no such run."}),
                "clip_positions": ("BOOLEAN", {"default": False, "tooltip":
                                   "Reads a keyword at its place among CLIP's tokens, where Gemma's has mostly pads."}),
                "time_rounding": ([*ROUNDINGS], {"tooltip":
                                  "Multiplies the step's number in this precision, as its bf16 and fp16 runs did."}),
                "released_draws": ("BOOLEAN", {"default": False, "tooltip":
                                   "Draws random numbers in its order: its tokens for its seed on the CPU; slower."}),
            }
        }  # fmt: skip

    def run(self, *, alias_mask, leaked_gamma, clip_positions, time_rounding, released_draws):
        return (Compat(alias_mask, leaked_gamma, clip_positions, time_rounding, released_draws),)


class EditMGTSpeed:
    DESCRIPTION = "Makes sampling faster at the cost of exactness: fewer looks at the picture, guidance for a part."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["approximation", "cache", "faster"]
    RETURN_TYPES, RETURN_NAMES = (SPEED,), ("speed",)
    OUTPUT_TOOLTIPS = ("For EditMGT Sample and Guider.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "reference_every": ("INT", {"default": 1, "min": 1, "max": 64, "tooltip":
                                    "At which steps the picture's keys are worked out anew: 1 all, 2 every other, …"}),
                "guidance_until": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05, "tooltip":
                                   "For which share of the steps guidance runs; the others take half the time."}),
            }
        }  # fmt: skip

    def run(self, *, reference_every, guidance_until):
        return (Speed(reference_every, guidance_until),)


NODE_CLASS_MAPPINGS = {
    "EditKitEditMGTCompatibility": EditMGTCompatibility,
    "EditKitEditMGTSpeed": EditMGTSpeed,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EditKitEditMGTCompatibility": "EditMGT Compatibility",
    "EditKitEditMGTSpeed": "EditMGT Speed",
}
