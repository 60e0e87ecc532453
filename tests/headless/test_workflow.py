"""Reading workflows, and --set."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editkit.headless import workflow
from editkit.headless.errors import EditError
from editkit.headless.standins import STANDINS


@pytest.fixture
def prompt():
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "image"}},
        "2": {"class_type": "PrimitiveBoolean", "inputs": {"value": True}, "_meta": {"title": "on/off"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"},
              "_meta": {"title": "result"}},
        "4": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "width": 1, "height": 2},
              "_meta": {"title": "v1.5 size"}},
        "5": {"class_type": "PrimitiveInt", "inputs": {"value": 1}, "_meta": {"title": "twin"}},
        "6": {"class_type": "PrimitiveInt", "inputs": {"value": 2}, "_meta": {"title": "twin"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("assignment", "node", "name", "value"),
    [
        ("image=photo=1.jpg", "1", "image", "photo=1.jpg"),
        (r"image=C:\photos\a.jpg", "1", "image", r"C:\photos\a.jpg"),
        ("on/off=no", "2", "value", False),
        ("on/off=TRUE", "2", "value", True),
        ("result=clean", "3", "filename_prefix", "clean"),
        ("4.width=64", "4", "width", "64"),
        ("v1.5 size.height=8", "4", "height", "8"),
        ("v1.5 size.crop=center", "4", "crop", "center"),
        ("5.value=7", "5", "value", "7"),
        ("4.image=", "4", "image", ""),
    ],
)
def test_set_by_title_or_by_id(prompt, assignment, node, name, value):
    workflow.assign(prompt, assignment, STANDINS)
    assert prompt[node]["inputs"][name] == value


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("image", "write NAME=VALUE"),
        ("=x", "write NAME=VALUE"),
        ("picture=x", "nothing called 'picture'; its titles are image, on/off, result, twin, v1.5 size"),
        ("9.width=1", "nothing called '9.width'"),
        ("4.depth=1", "ImageScale has no input 'depth'; it has image, upscale_method, width, height, crop"),
        ("on/off=maybe", "yes or no, not 'maybe'"),
        ("twin=3", "2 nodes are titled 'twin'; name one by its id: 5, 6"),
        ("v1.5 size=3", "no single main input; set one of its own: v1.5 size.width"),
    ],
)
def test_a_name_that_cannot_be_set_is_one_sentence(prompt, assignment, said):
    with pytest.raises(EditError) as caught:
        workflow.assign(prompt, assignment, STANDINS)
    assert said in str(caught.value)


def test_reading_api_json(tmp_path, prompt):
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(prompt), encoding="utf-8")
    assert workflow.read(tmp_path / "a.json") == (prompt, {})


def test_reading_the_body_of_a_request(tmp_path, prompt):
    body = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {}}}, "client_id": "x"}
    (tmp_path / "a.json").write_text(json.dumps(body))
    assert workflow.read(tmp_path / "a.json") == (prompt, {"extra_pnginfo": {"workflow": {}}})


def test_reading_the_workflow_inside_a_saved_picture(tmp_path, prompt):
    info = PngInfo()
    info.add_text("prompt", json.dumps(prompt))
    info.add_text("workflow", '{"nodes": []}')
    Image.new("L", (1, 1)).save(tmp_path / "a.png", pnginfo=info)
    expected = {"extra_pnginfo": {"workflow": {"nodes": []}}}
    assert workflow.read(tmp_path / "a.png") == (prompt, expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"nodes": [], "links": []}', "UI format"),
        ("{not json", "not a workflow that can be read"),
        ("[1, 2]", "not a workflow in API format"),
        ("{}", "not a workflow in API format"),
        ('{"1": 2}', "not a workflow in API format"),
        ('{"1": {"class_type": "X", "inputs": [1]}}', "not a workflow in API format"),
        ("\x00\xff", "not a workflow that can be read"),
        (None, "There is no workflow"),
    ],
)
def test_what_is_no_workflow_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(EditError, match=said):
        workflow.read(path)


def test_a_picture_without_a_workflow_is_one_sentence(tmp_path):
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    with pytest.raises(EditError, match="carries no workflow"):
        workflow.read(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no")
    with pytest.raises(EditError, match="not a workflow that can be read"):
        workflow.read(tmp_path / "b.png")
