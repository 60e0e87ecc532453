"""A workflow as a function on a real server: the same pictures as in this process, whatever else is saved there."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.headless import shipped
from editkit.headless.editor import Editor
from editkit.headless.errors import EditError

TONE = shipped.WORKFLOWS / "tone.json"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A small photograph whose path leads out of every folder for pictures."""
    path = tmp_path_factory.mktemp("a = b") / "photo.png"
    with Image.open(shipped.WORKFLOWS.parent / "media" / "dandelions.jpg") as picture:
        picture.resize((96, 64)).save(path)
    return path


def test_pictures_are_those_of_this_process_each_time(server, photo, capsys):
    with Editor(TONE) as here, Editor(TONE, server=server.url) as there:
        assert here.workflow_hash == there.workflow_hash
        for sets in ({}, {"Correct Tone.strength": "0.5"}, {}):
            made = [np.array(editor.edit(photo, sets=sets)).astype(int) for editor in (here, there)]
            assert abs(made[0] - made[1]).max() <= 1 and made[0].shape == (64, 96, 3)
    assert capsys.readouterr().out == "", "callers tell of their pictures themselves"


def test_only_the_nodes_that_the_result_needs_are_queued(server, photo, tmp_path):
    prompt = json.loads(TONE.read_text())
    image = next(i for i, n in prompt.items() if n["_meta"]["title"] == "image")
    prompt["90"] = {"class_type": "SaveImage", "inputs": {"images": [image, 0], "filename_prefix": "result"},
                    "_meta": {"title": "another"}}  # fmt: skip
    (tmp_path / "two.json").write_text(json.dumps(prompt))
    (saved,) = Editor(tmp_path / "two.json", server=server.url).save(photo, tmp_path / "out")
    with Image.open(saved) as found, Image.open(photo) as before:
        assert found.size == before.size and not np.array_equal(np.array(found), np.array(before))


def test_what_cannot_be_edited_is_one_sentence(server, photo, tmp_path):
    editor = Editor(TONE, server=server.url)
    with pytest.raises(EditError, match="missing.png"):
        editor.edit(tmp_path / "missing.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(EditError, match="broken.png"):
        editor.edit(broken)
    assert editor.edit(photo).size == (96, 64), "the next one is edited"
    prompt = json.loads(TONE.read_text())
    next(n for n in prompt.values() if n["_meta"]["title"] == "Correct Tone")["class_type"] = "SomebodysTone"
    (tmp_path / "other.json").write_text(json.dumps(prompt))
    with pytest.raises(EditError, match="SomebodysTone is not a node of this server"):
        Editor(tmp_path / "other.json", server=server.url)
    with pytest.raises(EditError, match="There is no ComfyUI server at http://127.0.0.1:9"):
        Editor(TONE, server="http://127.0.0.1:9")
