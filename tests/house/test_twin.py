"""The converter from the canvas's format to the prompt's, on small workflows with every kind of slot."""

import copy

import pytest

from editkit.tests.house import pack, twin


class Sampler:
    """A node with a widget of each kind, a hidden slot, an upload button and a widget type of its own."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        seed = {"control_after_generate": True}
        return {
            "required": {
                "image": ("IMAGE",),
                "file": ([], {"image_upload": True}),
                "seed": ("INT", seed),
                "way": (["a", "b"], {}),
                "steps": ("INT", {"default": 2}),
            },
            "optional": {
                "mask": ("MASK",),
                "text": ("STRING", {}),
                "fed": ("FLOAT", {"forceInput": True}),
                "paint": ("STRING", {"widgetType": "EDITKIT_MASK"}),
            },
            "hidden": {"prompt": "PROMPT"},
        }


CLASSES = pack.classes() | {"EditKitSampler": Sampler}
WORKFLOW = {
    "nodes": [
        {
            "id": 1,
            "type": "LoadImage",
            "title": "image",
            "widgets_values": ["dog.jpg", "image"],
            "inputs": [],
            "outputs": [
                {"name": "IMAGE", "type": "IMAGE", "links": [1]},
                {"name": "MASK", "type": "MASK", "links": []},
            ],
        },
        {
            "id": 5,
            "type": "Reroute",
            "inputs": [{"name": "", "type": "*", "link": 1}],
            "outputs": [{"name": "", "type": "IMAGE", "links": [2]}],
        },
        {
            "id": 2,
            "type": "EditKitSampler",
            "widgets_values": ["x.png", 7, "fixed", "b", 3, "image", ["l", 1], "m.png"],
            "inputs": [
                {"name": "image", "type": "IMAGE", "link": 2},
                {"name": "mask", "type": "MASK", "link": None},
            ],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
        },
        {"id": 3, "type": "Note", "widgets_values": ["Drop a photo."]},
    ],
    "links": [[1, 1, 0, 5, 0, "IMAGE"], [2, 5, 0, 2, 0, "IMAGE"]],
}


def changed(**node) -> dict:
    """The workflow with its sampler changed."""
    workflow = copy.deepcopy(WORKFLOW)
    workflow["nodes"][2].update(node)
    return workflow


def test_a_workflow_becomes_its_prompt():
    assert twin.convert(WORKFLOW, CLASSES, {"EditKitSampler": "Sample"}) == {
        "1": {"inputs": {"image": "dog.jpg"}, "class_type": "LoadImage", "_meta": {"title": "image"}},
        "2": {
            "inputs": {
                "file": "x.png",
                "seed": 7,
                "way": "b",
                "steps": 3,
                "text": {"__value__": ["l", 1]},
                "paint": "m.png",
                "image": ["1", 0],
            },
            "class_type": "EditKitSampler",
            "_meta": {"title": "Sample"},
        },
    }


def test_a_link_wins_over_the_widget_it_replaces():
    workflow = changed(inputs=[{"name": "steps", "type": "INT", "link": 2, "widget": {"name": "steps"}}])
    assert twin.convert(workflow, CLASSES)["2"]["inputs"]["steps"] == ["1", 0]


def test_a_seed_has_its_hidden_slot_even_when_undeclared():
    assert twin.slots({"required": {"seed": ("INT", {})}})[1][1] is False
    assert len(twin.slots({"required": {"seed": ("INT", {"control_after_generate": False})}})) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"widgets_values": ["x.png", 7, "b", 3, "image", "t", "m.png"]}, "stores 7 widget values; it has 8"),
        ({"type": "KSomething"}, "neither the pack nor the runner"),
        ({"mode": 4}, "muted or bypassed"),
        ({"inputs": [{"name": "image", "link": 99}]}, "leads nowhere"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_its_node(fault, said):
    with pytest.raises(twin.TwinError, match=f"Node 2.*{said}"):
        twin.convert(changed(**fault), CLASSES)


def test_good_links_have_no_problems():
    assert twin.link_problems(WORKFLOW, CLASSES) == []


@pytest.mark.parametrize(
    "link",
    [
        [2, 5, 3, 2, 0, "IMAGE"],  # no such output
        [2, 1, 0, 2, 1, "IMAGE"],  # the socket holds another link
        [1, 1, 1, 5, 0, "IMAGE"],  # the source gives a mask
        [2, 5, 0, 2, 0, "MASK"],  # the target takes an image
    ],
)
def test_each_broken_link_is_found(link):
    workflow = copy.deepcopy(WORKFLOW)
    workflow["links"] = [link if old[0] == link[0] else old for old in workflow["links"]]
    assert twin.link_problems(workflow, CLASSES)


def test_a_link_into_an_input_that_is_gone_is_found():
    workflow = changed(inputs=[{"name": "photo", "type": "IMAGE", "link": 2}])
    assert "does not have" in twin.link_problems(workflow, CLASSES)[0]
