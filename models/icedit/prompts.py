"""What the text encoders are told: the diptych with the instruction in it, or one of the other forms of Fig. 3."""

from ..errors import EditError

DIPTYCH = "A diptych with two side-by-side images of the same scene. On the right, the scene is "
# The released code's words, without a full stop: the LoRAs were trained on them (the paper's appendix B.3 has one).
TRAINED = DIPTYCH + "exactly the same as on the left but {instruction}"
IN_CONTEXT = DIPTYCH + "identical to the left but {instruction}."  # the IC prompt of §3.1
DESCRIPTIONS = "On the left {source} On the right {target}"  # Fig. 3 (3)
ICEDIT, TRAINING_FREE, DIRECT, DESCRIBED = "icedit", "training-free", "direct", "descriptions"
PRESETS = (ICEDIT, TRAINING_FREE, DIRECT, DESCRIBED)


def prompt(preset: str, instruction: str, source: str = "") -> str:
    """The text for an instruction, such as "the sky is at sunset" or "make it snow".

    preset: icedit (what the LoRAs were trained on), training-free (the IC prompt of §3.1, for FLUX without a LoRA),
    direct (the instruction alone), descriptions (`source` describes the left picture, `instruction` the right one).
    EditError for an empty instruction, a preset that there is not, and descriptions without a source.
    """
    instruction, source = instruction.strip(), source.strip()
    if preset not in PRESETS:
        raise EditError(f"There is no prompt preset {preset!r}; choose {', '.join(PRESETS)}.")
    if not instruction:
        raise EditError("The instruction is empty; write what to change, such as: make the sky a sunset.")
    if preset == DESCRIBED:
        if not source:
            raise EditError("The preset descriptions needs both texts; describe the picture as it is in `source`.")
        return DESCRIPTIONS.format(source=_sentence(source), target=_sentence(instruction))
    forms = {ICEDIT: TRAINED, TRAINING_FREE: IN_CONTEXT, DIRECT: "{instruction}"}
    if preset == TRAINING_FREE:
        instruction = instruction.rstrip(".")
    return forms[preset].replace("{instruction}", instruction)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
