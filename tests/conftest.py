"""Loads the pack once under the name `editkit`, whatever its folder is called."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _load_pack() -> None:
    if "editkit" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "editkit", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["editkit"] = module
    spec.loader.exec_module(module)


_load_pack()
