"""ComfyUI-EditKit: five image-editing systems as ComfyUI nodes."""

WEB_DIRECTORY = "./web"

if __package__:  # pytest imports this file without a package; ComfyUI and `python .` always set one
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
