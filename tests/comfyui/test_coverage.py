"""Every workflow that is shipped is run on a server in exactly one of the files here."""

import importlib
import inspect
from pathlib import Path

from editkit.tests.comfyui.test_workflows import OTHERS, TWINS

HERE = Path(__file__).parent


def run_by() -> dict[str, list[str]]:
    """Workflow -> the files that run it: all that need no download in one, the others where TEMPLATES names them."""
    found = {twin.stem: ["test_workflows"] for twin in TWINS}
    for file in sorted(HERE.glob("test_*_server.py")):
        module = importlib.import_module(f"editkit.tests.comfyui.{file.stem}")
        for name in getattr(module, "TEMPLATES", ()):
            found.setdefault(name, []).append(file.stem)
    return found


def test_each_workflow_is_run_in_one_place_and_none_is_left_out():
    places = run_by()
    assert sorted(places) == sorted(p.stem for p in [*TWINS, *OTHERS])
    assert {name: files for name, files in places.items() if len(files) != 1} == {}


def test_a_file_that_names_a_template_runs_it():
    for file in sorted(HERE.glob("test_*_server.py")):
        module = importlib.import_module(f"editkit.tests.comfyui.{file.stem}")
        source = inspect.getsource(module)
        for name in getattr(module, "TEMPLATES", ()):
            assert source.count(f'"{name}"') > 1, f"{file.name} names {name}, and no test of it does"
