"""The painter's mask in memory, its history and its PNG, in Node alone."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def found(root, tmp_path_factory):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed; it runs the painter's modules")
    folder = tmp_path_factory.mktemp("painter")
    for file in (root / "web" / "painter").glob("*.js"):
        shutil.copy(file, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    command = [node, str(Path(__file__).with_name("strength.mjs")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_history_goes_back_and_forth_to_the_byte(found):
    assert found["steps"] > 30 and found["back"] and found["forth"] and found["resized"]


def test_a_stroke_beside_the_picture_is_no_step(found):
    assert found["outside"] is False


def test_the_history_is_bounded(found):
    assert 0 < found["bytes"] <= 64 * 2**20 and 1 < found["kept"] < 8


def test_the_png_is_grey_and_exact_and_its_name_its_own(found):
    with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as image:
        image.verify()
    with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as image:
        assert image.mode == "L" and image.size == (7, 3)
        assert np.array_equal(np.asarray(image).ravel(), np.arange(21) * 12)
    assert found["names"] == 3 and found["again"]
