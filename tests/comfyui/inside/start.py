"""Starts ComfyUI's Python on the CPU without a server, and loads the pack into it. Runs in a child process."""

import importlib.util
import logging
import os
import sys
from pathlib import Path


def start(comfyui: Path, pack: Path, base: Path):
    """Returns the loaded pack as a module; ComfyUI's own modules can be imported afterwards.

    base: holds models/, so that nothing of the user's is read or written.
    """
    os.chdir(comfyui)
    sys.path.insert(0, str(comfyui))
    logging.disable(logging.WARNING)
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, str(base)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import folder_paths

    folder_paths.models_dir = str(base / "models")
    import nodes  # noqa: F401 - ComfyUI's own, which registers what the pack builds on

    spec = importlib.util.spec_from_file_location(
        "my_x_pack", pack / "__init__.py", submodule_search_locations=[str(pack)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_x_pack"] = module
    spec.loader.exec_module(module)
    return module
