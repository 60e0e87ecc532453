"""One ComfyUI server for all tests here, servers of their own for those that need more, and ComfyUI's Python."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from editkit.tests.comfyui.server import FOLDER_NAME, Server

INSIDE = Path(__file__).parent / "inside"


@pytest.fixture(scope="session")
def serve(checkout, root, tmp_path_factory):
    """serve(add): a server of one's own for `with`; add(base) puts more into its folders before it starts."""

    def start(add=None, pack=root, name=FOLDER_NAME):
        return Server(checkout, pack, tmp_path_factory.mktemp("comfyui") / "base dir", name, add)

    return start


@pytest.fixture(scope="session")
def server(serve):
    """A ready server with the pack in custom_nodes/my.pack, and folders of its own."""
    with serve() as ready:
        yield ready


@pytest.fixture(scope="session")
def run_inside(checkout, root):
    """run_inside(script, folder, *more, place=""): all checks of a script in inside/, in one child process, which takes
    ComfyUI's start of some seconds once. Returns the results that it wrote into the folder."""

    def run(script: str, folder: Path, *more, place: str = "", **environment) -> dict:
        command = [checkout.python, INSIDE / script, checkout.folder, root, folder, *more, *place.split()]
        environment = os.environ | {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"} | environment
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=900, env=environment
        )
        found = folder / f"results{f'_{place}' if place else ''}.json"
        assert found.is_file(), done.stderr[-3000:]
        return json.loads(found.read_text(encoding="utf-8"))

    return run
