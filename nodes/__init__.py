"""What a user wires on the canvas: one file per system, one small class per node."""

from . import (
    blazeedit,
    blazeedit_steps,
    compare,
    editmgt,
    editmgt_guider,
    editmgt_lora,
    editmgt_maps,
    editmgt_options,
    export,
    icedit,
    icedit_filter,
    icedit_lora,
    icedit_training_free,
    kontext,
    kontext_pictures,
    kontext_turns,
    race,
    region,
    saving,
    swiftedit,
    swiftedit_edit,
)
from .host import folders

MODULES = (
    blazeedit, blazeedit_steps, region, export, swiftedit, swiftedit_edit, editmgt, editmgt_guider, editmgt_lora,
    editmgt_maps, editmgt_options, kontext, kontext_turns, kontext_pictures, icedit,
    icedit_lora, icedit_training_free, icedit_filter, saving, compare, race,
)  # fmt: skip
NODE_CLASS_MAPPINGS = {k: v for module in MODULES for k, v in module.NODE_CLASS_MAPPINGS.items()}
NODE_DISPLAY_NAME_MAPPINGS = {
    k: v for module in MODULES for k, v in module.NODE_DISPLAY_NAME_MAPPINGS.items()
}

folders.register()
