"""Measurements in a process of their own: what this one already holds would hide what they need."""

import json
import subprocess
import sys
from pathlib import Path

from ..models.errors import EditError

ROOT = Path(__file__).resolve().parent.parent
OF_PACK = """
import importlib, importlib.util, sys
root, module = sys.argv[1:3]
spec = importlib.util.spec_from_file_location("editkit", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["editkit"] = importlib.util.module_from_spec(spec)
importlib.import_module("editkit.benchmarks." + module).child(*sys.argv[3:])
"""
ALONE = """
import runpy, sys
runpy.run_path(sys.argv[1])["child"](*sys.argv[2:])
"""


def of_pack(module: str, arguments, what: str) -> dict:
    """Runs `child(*arguments)` of a module of this folder, and returns the JSON of its last printed line.

    what: names the work in the EditError, which gives the child's last line when it fails.
    """
    return _result(["-c", OF_PACK, str(ROOT), module, *map(str, arguments)], what)


def alone(module: str, arguments, what: str) -> dict:
    """The same for a module that imports nothing of the pack: the child loads that one file."""
    return _result(["-c", ALONE, str(ROOT / "benchmarks" / f"{module}.py"), *map(str, arguments)], what)


def _result(command: list[str], what: str) -> dict:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EditError(f"{what} failed: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])
