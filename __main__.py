"""The command line's door: `python . --help` in this folder, `python FOLDER --help` from elsewhere.

The pack is loaded under the name `editkit`, whatever its folder is called, and without running its
`__init__.py`: that one is ComfyUI's door, and would import torch before `--help` or `doctor` can say that it
is missing.
"""

import importlib.util
import sys
from pathlib import Path

# Without this, processes that Python spawns (on macOS and Windows always) import this file as part of a
# package and die with "No module named 'editkit'"; so they run it as a file, which loads the pack for them
# too.
__spec__ = None

FOLDER = Path(__file__).resolve().parent


def _load_pack() -> None:
    if "editkit" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "editkit", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        sys.modules["editkit"] = importlib.util.module_from_spec(spec)


_load_pack()

if __name__ == "__main__":
    from editkit.headless.cli import main

    sys.exit(main())
