"""What the panel says of bad input, in every front end: the same sentence that the log and the client get."""

import base64
import copy

import pytest

from editkit.tests.browser.comfy.front_ends import newest
from editkit.tests.browser.comfy.test_templates import STEPS, TEMPLATES
from editkit.tests.comfyui.server import FOLDER_NAME


@pytest.fixture
def removal(page):
    """The template remove_object without its mask's link, ready to be spoilt."""
    page.run(STEPS, "clear")
    page.run(STEPS, "open", pack=FOLDER_NAME, name="remove_object")
    page.run(STEPS, "unlink", title="Remove Object", input="mask")
    return page


@pytest.mark.parametrize(
    ("painted", "sentence"),
    [
        ("editkit/gone.png [input]", "The painted mask 'editkit/gone.png [input]' is not in "),
        ("../../secret.png", "The painted mask '../../secret.png' lies outside of the input folder; paint it again"),
        ("", "Paint a mask on the node, or wire one; white is the region to edit."),
    ],
)
def test_a_mask_that_vanished_or_lies_elsewhere_is_named(removal, painted, sentence):
    removal.run(STEPS, "set", title="Remove Object", values={"mask_paint": painted})
    assert sentence in removal.run(STEPS, "refused", words=sentence)


@newest
def test_a_corrupt_mask_is_named(removal):
    folder = removal.server.base / "input" / "editkit"
    folder.mkdir(exist_ok=True)
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"torn" * 9)
    removal.run(STEPS, "set", title="Remove Object", values={"mask_paint": "editkit/torn.png [input]"})
    sentence = "The painted mask 'editkit/torn.png [input]' is damaged or no picture; paint it again, or wire a mask."
    assert sentence in removal.run(STEPS, "refused", words=sentence)
    removal.screenshot("refused-corrupt-mask")


@newest
def test_a_corrupt_photo_is_refused(page):
    page.run(STEPS, "clear")
    page.run(STEPS, "open", pack=FOLDER_NAME, name="tone")
    data = base64.b64encode(b"this is no picture").decode()
    page.run(STEPS, "drop", name="torn photo.png", type="image/png", base64=data, at="image")
    page.run(STEPS, "named", title="image", words="torn photo")
    assert "torn photo" in page.run(STEPS, "refused", words="cannot identify image file")


@newest
def test_an_unknown_node_is_named_when_the_workflow_is_opened(page):
    page.run(STEPS, "clear")
    workflow = copy.deepcopy(TEMPLATES["tone"])
    workflow["nodes"][1]["type"] = "EditKitFromTheFuture"
    assert page.run(STEPS, "loaded", workflow=workflow, words="EditKitFromTheFuture")
    page.screenshot("refused-unknown-node")


@newest
def test_a_link_of_the_wrong_type_is_named_when_it_is_queued(page):
    """A MASK in the place of the photo: what a workflow edited by hand may hold."""
    page.run(STEPS, "clear")
    workflow = copy.deepcopy(TEMPLATES["tone"])
    link = next(link for link in workflow["links"] if link[3] == 2)
    link[2], link[5] = 1, "MASK"
    workflow["nodes"][0]["outputs"][0]["links"], workflow["nodes"][0]["outputs"][1]["links"] = None, [link[0]]
    page.run(STEPS, "loaded", workflow=workflow)
    found = page.run(STEPS, "refused", words="IMAGE")
    assert "MASK" in found or "Required input" in found
    page.screenshot("refused-wrong-link")
