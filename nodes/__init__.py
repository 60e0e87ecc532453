"""What a user wires on the canvas: one file per system, one small class per node."""

from . import (
    blazeedit,
    blazeedit_steps,
    editmgt,
    export,
    icedit,
    icedit_lora,
    icedit_training_free,
    kontext,
    region,
    swiftedit,
    swiftedit_edit,
)
from .host import folders

MODULES = (
    blazeedit, blazeedit_steps, region, export, swiftedit, swiftedit_edit, editmgt, icedit, icedit_lora,
    icedit_training_free, kontext,
)  # fmt: skip
NODE_CLASS_MAPPINGS = {k: v for module in MODULES for k, v in module.NODE_CLASS_MAPPINGS.items()}
NODE_DISPLAY_NAME_MAPPINGS = {
    k: v for module in MODULES for k, v in module.NODE_DISPLAY_NAME_MAPPINGS.items()
}

folders.register()
