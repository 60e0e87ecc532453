"""Small nodes for the executor to work on, and runners that know them."""

import json

import pytest
import torch
from PIL import Image

from editkit.headless.execute import Runner
from editkit.headless.standins import STANDINS


def make_node(function, required=None, optional=None, hidden=None, returns=("INT",), **attributes):
    """A V1 node class around a plain function of its inputs."""

    def input_types(cls):
        parts = {"required": required or {}, "optional": optional or {}, "hidden": hidden or {}}
        return {name: part for name, part in parts.items() if part}

    body = {"INPUT_TYPES": classmethod(input_types), "RETURN_TYPES": returns, "FUNCTION": "run"}
    body["run"] = lambda self, **inputs: function(**inputs)
    return type("FakeNode", (), body | attributes)


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, **inputs):
        self.calls.append(inputs)
        return self.function(**inputs)


@pytest.fixture
def counted():
    return Counted


@pytest.fixture
def node():
    return make_node


@pytest.fixture
def show():
    """An output node that shows what it is given."""
    return make_node(lambda value: {"ui": {"seen": [value]}}, {"value": ("*",)}, returns=(), OUTPUT_NODE=True)


@pytest.fixture
def runner(show):
    """Makes a Runner that knows the stand-ins, `Show`, and the classes it is given."""
    return lambda **classes: Runner({**STANDINS, "Show": show, **classes})


@pytest.fixture
def graph():
    """graph(a=("Class", {inputs})) as an API-format workflow."""
    return lambda **nodes: {
        key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()
    }


@pytest.fixture
def fake_pack(tmp_path, monkeypatch, node):
    """Five small workflows and nodes in place of the shipped ones; returns the registry."""
    from editkit.headless import folders, shipped

    def edit(image, mask=None, strength=1.0, shadow=True, **sides):
        if mask is not None and not mask.any():
            raise ValueError("The mask is empty; paint what to edit.")
        out = 1 - image * strength
        pad = [sides.get(name, 0) for name in ("left", "right", "top", "bottom")]
        return (torch.nn.functional.pad(out.movedim(-1, 1), pad).movedim(1, -1),)

    image, mask = ("IMAGE",), ("MASK",)
    side = ("INT", {"default": 0, "min": 0})
    strength = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0})
    shadow = ("BOOLEAN", {"default": True})
    sides = {name: side for name in ("left", "top", "right", "bottom")}
    declared = {
        "RemoveObject": ({"image": image, "mask": mask, "shadow": shadow}, {}),
        "Outpaint": ({"image": image, **sides}, {}),
        "Tone": ({"image": image, "strength": strength}, {"mask": mask}),
        "Relight": ({"image": image, "strength": strength}, {"mask": mask}),
        "Sticker": ({"image": image, "mask": mask}, {}),
    }
    defaults = {"shadow": True, "strength": 1.0, **dict.fromkeys(sides, 0)}
    classes = {f"EditKit{k}": node(edit, *parts, returns=("IMAGE",)) for k, parts in declared.items()}
    api, media = tmp_path / "pack" / "api", tmp_path / "pack" / "media"
    api.mkdir(parents=True)
    media.mkdir()
    Image.new("RGB", (8, 6), (255, 0, 255)).save(media / "sample.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).save(media / "white.png")
    for name, (required, _) in declared.items():
        inputs = {n: defaults[n] for n in required if n in defaults} | {"image": ["1", 0]}
        work = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "sample.png"}, "_meta": {"title": "image"}},
            "3": {"class_type": f"EditKit{name}", "inputs": inputs, "_meta": {"title": name}},
            "4": {
                "class_type": "SaveImage",
                "inputs": {"images": ["3", 0], "filename_prefix": "some/x"},
                "_meta": {"title": "result"},
            },
        }
        if "mask" in required:
            inputs["mask"] = ["2", 0]
            work["2"] = {
                "class_type": "LoadImageMask",
                "inputs": {"image": "white.png", "channel": "red"},
                "_meta": {"title": "mask"},
            }
        file = "remove_object" if name == "RemoveObject" else name.lower()
        (api / f"{file}.json").write_text(json.dumps(work))
    monkeypatch.setattr(shipped, "WORKFLOWS", api)
    monkeypatch.setattr(folders, "MEDIA", media)
    import editkit.nodes

    for name, kind in classes.items():
        monkeypatch.setitem(editkit.nodes.NODE_CLASS_MAPPINGS, name, kind)
    return {**STANDINS, **classes}


@pytest.fixture
def fake(tmp_path):
    """A server for `queue`."""
    from editkit.tests.headless.fake_comfyui import Fake

    made = Fake(tmp_path / "server")
    yield made
    if not made.stopped.is_set():
        made.stop()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a workflow, one photo, and a folder of five."""
    from editkit.tests.headless.queued import GRAPH, picture

    folder = tmp_path / "work"
    (folder / "photos").mkdir(parents=True)
    (folder / "w.json").write_text(json.dumps(GRAPH))
    picture(folder / "a.png", 0)
    for number in range(5):
        picture(folder / "photos" / f"p{number}.png", number + 1)
    monkeypatch.chdir(folder)
    return folder
