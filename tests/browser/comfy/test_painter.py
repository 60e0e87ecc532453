"""The mask painter in a real ComfyUI: what a mouse, a pen, keys and files do, and the PNG that reaches the server."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.tests.browser.comfy.front_ends import newest

STEPS = Path(__file__).with_name("painter.mjs")
NODE = "EditKitRemoveObject"
WIDTH, HEIGHT = 320, 240
FAR = [0.05, 0.95]  # where nothing is painted


class Canvas:
    """The page with one node wired to a photo; each method is a step of painter.mjs."""

    def __init__(self, page):
        self.page, self.id = page, None

    def __getattr__(self, step):
        return lambda **arguments: self.page.run(STEPS, step, **arguments)

    def wired(self, **options):
        self.id = self.page.run(STEPS, "wire", **{"photo": "photo.png", "type": NODE, **options})
        self.slide(name="hardness", value=100)
        self.slide(name="size", value=20)
        return self

    def value(self) -> str:
        """What API JSON says of the mask; asking uploads it."""
        return self.prompt(id=self.id)["inputs"]["mask_paint"]

    def mask(self) -> np.ndarray:
        """The PNG on the server, [h, w] of bytes; it is grey and has the photo's size."""
        with Image.open(self.page.server.base / "input" / self.value()) as image:
            assert image.mode == "L" and image.format == "PNG"
            return np.asarray(image)


@pytest.fixture
def canvas(page, tmp_path_factory):
    """The page, with a photo and masks in the server's input folder."""
    folder = page.server.base / "input"
    if not (folder / "photo.png").exists():
        noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
        Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(folder / "photo.png")
        half = np.zeros((HEIGHT, WIDTH), np.uint8)
        half[:, : WIDTH // 2] = 255
        Image.fromarray(half).save(folder / "half.png")
    page.problems()
    return Canvas(page)


def capsule(start, end, radius) -> np.ndarray:
    """Where a round brush of that radius covers pixels on its way between two points, given as shares."""
    (x0, y0), (x1, y1) = ((u * WIDTH, v * HEIGHT) for u, v in (start, end))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / max(1e-9, (x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
    return np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)) <= radius


def brush(said: str) -> float:
    """The radius of a brush that the slider says is so wide."""
    return int(said.removesuffix(" px")) / 2


@newest
def test_a_long_stroke_soon_after_another_is_not_cut_off_by_the_upload(canvas):
    canvas.wired()
    canvas.drag(points=[[0.2, 0.2], [0.8, 0.2]])
    canvas.interrupted(points=[[0.2, 0.7], [0.5, 0.7], [0.8, 0.7]], pause=1700)
    found = canvas.mask()
    assert (found[int(0.7 * HEIGHT), int(0.2 * WIDTH) : int(0.8 * WIDTH)] == 255).all()
    canvas.press(keys=["Control+z"])
    assert np.array_equal(canvas.mask(), np.where(capsule((0, 0.7), (1, 0.7), HEIGHT / 4), 0, found))  # one step


@newest
def test_keys_in_the_middle_of_a_stroke_end_it_first(canvas):
    canvas.wired()
    canvas.drag(points=[[0.2, 0.2], [0.8, 0.2]])
    first, line = canvas.value(), [[0.2, 0.7], [0.5, 0.7], [0.8, 0.7]]
    canvas.interrupted(points=line, keys=["Control+z"])
    assert canvas.value() == first
    canvas.interrupted(points=line, keys=["i"])
    inverted = canvas.mask()
    canvas.press(keys=["Control+z"])
    half = canvas.mask()
    assert np.array_equal(inverted, 255 - half) and half[int(0.7 * HEIGHT), int(0.4 * WIDTH)] == 255
    assert not half[int(0.7 * HEIGHT), int(0.7 * WIDTH) :].any()
    for wanted in (first, ""):
        canvas.press(keys=["Control+z"])
        assert canvas.value() == wanted


@newest
def test_a_stroke_that_is_torn_off_leaves_the_painter_alive(canvas):
    """Enlarging takes the pointer away, whose release elsewhere is then never told."""
    canvas.wired()
    canvas.interrupted(points=[[0.2, 0.2], [0.5, 0.2], [1.3, 0.2]], keys=["l", "Escape"])
    before = canvas.value()
    canvas.hover(points=[[0.2, 0.5], [0.8, 0.5]])
    assert canvas.value() == before, "it paints without a button"
    canvas.drag(points=[[0.2, 0.8], [0.8, 0.8]])
    assert canvas.mask()[int(0.8 * HEIGHT), WIDTH // 2] == 255


def test_within_a_subgraph_it_shows_the_picture_outside_and_is_queued(canvas):
    canvas.wired()
    found = canvas.subgraph(id=canvas.id)
    assert found["picture"] == [WIDTH, HEIGHT]
    canvas.slide(name="size", value=20)
    canvas.drag(points=[[0.2, 0.5], [0.8, 0.5]])
    canvas.id = found["id"]
    mask = canvas.mask()
    assert mask.shape == (HEIGHT, WIDTH) and mask[HEIGHT // 2, WIDTH // 2] == 255


@pytest.mark.parametrize("scale", [1.5, 0.7])
def test_a_stroke_lands_where_the_mouse_went_at_any_zoom(canvas, scale):
    canvas.wired(scale=scale)
    radius = brush(canvas.slide(name="size", value=35))
    shown = canvas.drag(points=[[0.25, 0.3], [0.75, 0.6]])
    found = canvas.mask()
    assert found.shape == (HEIGHT, WIDTH) and set(np.unique(found[[0, -1]])) == {0}
    slack = 1 + WIDTH / shown["width"]  # a pixel of the screen, and one of the mask
    inner, outer = (capsule((0.25, 0.3), (0.75, 0.6), radius + by) for by in (-slack, slack))
    assert (found[inner] == 255).all() and (found[~outer] == 0).all()
    canvas.page.screenshot(f"painter-zoom-{scale}")


@newest
def test_strength_is_the_value_however_often_one_goes_over_it(canvas):
    canvas.wired()
    size = canvas.slide(name="size", value=30)
    canvas.slide(name="strength", value=50)
    canvas.drag(points=[[0.2, 0.5], [0.8, 0.5], [0.2, 0.5], [0.8, 0.5]])
    canvas.drag(points=[[0.5, 0.2], [0.5, 0.8]])
    found = canvas.mask()
    inside = capsule((0.2, 0.5), (0.8, 0.5), brush(size) - 2) | capsule((0.5, 0.2), (0.5, 0.8), brush(size) - 2)
    assert found.max() == 128 and (found[inside] == 128).all()
    canvas.slide(name="strength", value=20)
    canvas.drag(points=[[0.5, 0.5], [0.55, 0.5]])
    assert canvas.mask()[HEIGHT // 2, WIDTH // 2] == 51  # stronger paint is replaced as well


@newest
def test_a_soft_brush_fades_and_stays_below_its_strength(canvas):
    canvas.wired()
    canvas.slide(name="hardness", value=0)
    canvas.slide(name="strength", value=60)
    radius = brush(canvas.slide(name="size", value=50))
    canvas.drag(points=[[0.2, 0.5], [0.8, 0.5], [0.2, 0.5]])
    column = canvas.mask()[:, WIDTH // 2].astype(int)
    assert column.max() == 153 and column.argmax() in range(HEIGHT // 2 - 2, HEIGHT // 2 + 2)
    middle = HEIGHT // 2
    assert (np.diff(column[middle : middle + int(radius)]) <= 0).all()
    assert 0.3 * 153 < column[middle + int(radius / 2)] < 0.7 * 153


@newest
def test_the_eraser_and_the_right_button_take_paint_away(canvas):
    canvas.wired()
    canvas.tool(name="fill")
    assert (canvas.mask() == 255).all()
    canvas.drag(points=[[0.2, 0.3], [0.8, 0.3]], button="right")
    canvas.tool(name="eraser")
    canvas.drag(points=[[0.2, 0.7], [0.8, 0.7]])
    found = canvas.mask()
    assert found[int(0.3 * HEIGHT), WIDTH // 2] == found[int(0.7 * HEIGHT), WIDTH // 2] == 0
    assert found[HEIGHT // 2, WIDTH // 2] == 255


def test_undo_and_redo_are_the_painters_own_while_it_has_the_focus(canvas):
    canvas.wired()
    before = canvas.prompt(id=canvas.id)
    states = [canvas.value()]
    for height in (0.2, 0.5, 0.8):
        canvas.drag(points=[[0.2, height], [0.8, height]])
        states.append(canvas.value())
    assert states[0] == "" and len(set(states)) == 4
    for wanted in states[2::-1]:
        canvas.press(keys=["Control+z"])
        assert canvas.value() == wanted
    canvas.press(keys=["Control+z", "Delete", "Backspace"])
    after = canvas.prompt(id=canvas.id)
    assert after["nodes"] == before["nodes"] and after["inputs"] == before["inputs"]
    assert after["same"], "the graph was undone as well"
    for wanted in states[1:]:
        canvas.press(keys=["Control+Shift+z"])
        assert canvas.value() == wanted
    canvas.tool(name="undo")
    assert canvas.value() == states[2]


def test_the_graphs_own_undo_takes_a_stroke_back_as_well(canvas):
    canvas.wired()
    canvas.drag(points=[[0.2, 0.3], [0.8, 0.3]])
    canvas.drag(points=[[0.2, 0.7], [0.8, 0.7]])
    canvas.undoGraph()
    found = canvas.mask()
    assert found[int(0.3 * HEIGHT), WIDTH // 2] == 255 and not found[int(0.7 * HEIGHT)].any()


@newest
def test_invert_fill_and_clear(canvas):
    canvas.wired()
    canvas.slide(name="strength", value=40)
    canvas.drag(points=[[0.3, 0.5], [0.7, 0.5]])
    painted = canvas.mask()
    canvas.press(keys=["i"])
    assert np.array_equal(canvas.mask(), 255 - painted)
    canvas.press(keys=["f"])
    assert (canvas.mask() == 102).all()
    canvas.tool(name="clear")
    assert canvas.value() == ""
    canvas.press(keys=["Control+z", "Control+z", "Control+z"])
    assert np.array_equal(canvas.mask(), painted)


@newest
def test_square_brackets_change_the_width_of_the_brush(canvas):
    canvas.wired()
    canvas.slide(name="size", value=30)
    canvas.drag(points=[[0.5, 0.2], [0.5, 0.2]])
    canvas.press(keys=["]", "]"])
    canvas.drag(points=[[0.5, 0.5], [0.5, 0.5]])
    canvas.press(keys=["[", "[", "[", "["])
    canvas.drag(points=[[0.5, 0.8], [0.5, 0.8]])
    found = canvas.mask() > 127
    widths = [int(found[int(share * HEIGHT)].sum()) for share in (0.2, 0.5, 0.8)]
    assert widths[1] > 1.3 * widths[0] and widths[2] < 0.7 * widths[0]
    assert abs(widths[0] - 0.3**2 * WIDTH / 2) <= 3


@newest
def test_keys_alone_paint(canvas):
    canvas.wired()
    canvas.drag(points=[FAR, FAR])  # gives it the focus, as Tab does
    canvas.press(keys=["Control+z"])
    canvas.press(keys=["ArrowRight"] * 10 + ["ArrowUp"] * 5 + [" "])
    found = canvas.mask() > 127
    rows, columns = np.nonzero(found)
    assert abs(columns.mean() / WIDTH - (FAR[0] + 0.2)) < 0.02
    assert abs(rows.mean() / HEIGHT - (FAR[1] - 0.1 * WIDTH / HEIGHT)) < 0.02


@newest
def test_a_pens_pressure_is_the_width_and_a_finger_paints(canvas):
    canvas.wired()
    full = brush(canvas.slide(name="size", value=40)) * 2
    canvas.device(kind="pen", points=[[0.2, 0.3], [0.8, 0.3]], force=0.5)
    canvas.device(kind="pen", points=[[0.2, 0.6], [0.8, 0.6]], force=1)
    canvas.device(kind="touch", points=[[0.2, 0.9], [0.8, 0.9]], force=1)
    found = canvas.mask() > 127
    half, whole, finger = (int(found[int((v - 0.1) * HEIGHT) :, WIDTH // 2][: int(0.2 * HEIGHT)].sum())
                           for v in (0.3, 0.6, 0.9))  # fmt: skip
    assert abs(whole - full) <= 2 and abs(half - full / 2) <= 2 and abs(finger - full) <= 2


def test_a_dropped_file_becomes_the_mask_at_the_photos_size(canvas, tmp_path):
    canvas.wired()
    ramp = np.tile(np.linspace(0, 255, WIDTH // 2).astype(np.uint8), (HEIGHT // 2, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    nodes = canvas.prompt(id=canvas.id)["nodes"]
    canvas.drop(file=str(tmp_path / "ramp.png"), name="ramp.png")
    found = canvas.mask().astype(int)
    assert found.shape == (HEIGHT, WIDTH) and np.abs(found[:, ::2] - ramp[0].astype(int)).max() <= 3
    assert canvas.prompt(id=canvas.id)["nodes"] == nodes  # it did not become a node
    canvas.drop(file=str(STEPS), name="broken.png")
    assert "broken.png is no picture" in canvas.shown(points=[])["note"]
    canvas.press(keys=["Control+z"])


def test_a_reloaded_workflow_shows_its_mask_and_goes_on_from_it(canvas):
    canvas.wired()
    canvas.drag(points=[[0.2, 0.3], [0.8, 0.3]])
    first = canvas.prompt(id=canvas.id)
    name, before = first["inputs"]["mask_paint"], canvas.mask()
    assert name.startswith("editkit/photo_mask_") and name.endswith(".png")
    stored = next(n for n in first["workflow"]["nodes"] if n["type"] == NODE)["widgets_values"]
    assert stored[-1] == name and len(stored) == 8
    canvas.wired()
    shown = canvas.load(workflow=first["workflow"], points=[[0.5, 0.3], FAR])
    assert shown["alphas"][0] > 100 and shown["alphas"][1] == 0 and shown["open"]
    assert canvas.value() == name
    canvas.slide(name="size", value=20)
    canvas.drag(points=[[0.2, 0.7], [0.8, 0.7]])
    after = canvas.mask()
    assert after[int(0.7 * HEIGHT), WIDTH // 2] == 255 and np.array_equal(after[: HEIGHT // 2], before[: HEIGHT // 2])


def test_a_workflow_from_before_the_painter_loads_as_it_was(canvas, root):
    stored = json.loads((root / "workflows" / "remove_object.json").read_text())
    edit = next(n for n in stored["nodes"] if n["type"] == NODE)
    edit["widgets_values"] = [False, True, 3, 9, 5, "fixed", "torch"]
    edit["inputs"] = [{"name": n, "type": t, "link": k} for n, t, k in (
        ("image", "IMAGE", 1), ("mask", "MASK", 2), ("model", "EDITKIT_BLAZEEDIT", None))]  # fmt: skip
    stored["links"] = [[1, 1, 0, edit["id"], 0, "IMAGE"], [2, 2, 0, edit["id"], 1, "MASK"], *stored["links"][2:]]
    canvas.load(workflow=stored)
    found = canvas.node(id=edit["id"])
    assert found["links"].keys() == {"image", "mask"}
    wanted = {"shadow": False, "texture": True, "grow": 3, "feather": 9, "seed": 5, "engine": "torch", "mask_paint": ""}
    assert found["values"].items() >= wanted.items()
    sent = canvas.prompt(id=edit["id"])["inputs"]
    assert sent["image"] == ["1", 0] and sent["mask"] == ["2", 0] and sent.items() >= wanted.items()
    assert not canvas.shown(points=[])["open"]  # the mask is linked: the painter is folded


def test_a_folded_painter_is_as_high_as_its_head_in_a_node_with_more_room(canvas, root):
    shown = canvas.load(workflow=json.loads((root / "workflows" / "tone.json").read_text()))
    assert not shown["open"] and 30 <= shown["height"] <= 36


def test_what_is_painted_is_what_is_edited_and_a_linked_mask_goes_before_it(canvas):
    quick = {"shadow": False, "texture": False, "engine": "torch", "feather": 0}
    canvas.wired(inputs=quick)
    canvas.slide(name="size", value=60)
    canvas.drag(points=[[0.75, 0.5], [0.8, 0.5]])
    painted = canvas.mask() > 0
    assert not painted[:, : WIDTH // 2].any()
    original = np.asarray(Image.open(canvas.page.server.base / "input" / "photo.png"))
    changed = np.abs(result(canvas) - original.astype(int)).max(-1) > 0
    assert changed[painted].mean() > 0.5 and not changed[~painted].any()
    name = canvas.value()
    canvas.wired(inputs={**quick, "mask_paint": name}, mask="half.png")
    assert canvas.value() == name
    shown = canvas.shown(points=[])
    assert "linked mask is used" in shown["status"] and not shown["open"]
    changed = np.abs(result(canvas) - original.astype(int)).max(-1) > 0
    assert changed[:, : WIDTH // 2].mean() > 0.5 and not changed[:, WIDTH // 2 :].any()


def result(canvas) -> np.ndarray:
    """Queues in the page and returns the picture that comes out, [h, w, 3] of bytes."""
    done = canvas.queue(id=canvas.id)
    assert done["how"] == "success", done
    return np.round(255 * canvas.page.server.picture(done["outputs"][0])).astype(int)


@newest
def test_what_cannot_be_uploaded_or_is_gone_is_said_in_one_sentence(canvas):
    canvas.wired()
    canvas.drag(points=[[0.2, 0.4], [0.8, 0.45]])
    failed = canvas.refused(id=canvas.id)
    assert failed["said"] == failed["note"] == (
        "The painted mask could not be uploaded (HTTP 500); see the server's log."
    )
    assert (canvas.page.server.base / "input" / failed["later"]).is_file()  # the next try brings it up
    workflow = canvas.prompt(id=canvas.id)["workflow"]
    next(n for n in workflow["nodes"] if n["type"] == NODE)["widgets_values"][-1] = "editkit/gone.png"
    note = canvas.load(workflow=workflow)["note"]
    assert note == "The painted mask editkit/gone.png is not on the server any more; paint it again."
    assert canvas.value() == "editkit/gone.png"  # the server says so too, rather than editing without a mask


@newest
def test_a_photo_of_12_megapixels_can_be_painted(canvas):
    folder = canvas.page.server.base / "input"
    if not (folder / "large.jpg").exists():
        Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(folder / "large.jpg")
    canvas.wired(photo="large.jpg")
    canvas.slide(name="size", value=30)
    canvas.drag(points=[[0.1, 0.1], [0.9, 0.9]])
    canvas.press(keys=["i", "Control+z"])
    found = canvas.mask()
    assert found.shape == (3000, 4000) and found[1500, 2000] == 255 and 0.01 < (found > 0).mean() < 0.2


def test_the_page_logs_no_error_of_ours(canvas):
    canvas.wired()
    canvas.drag(points=[[0.3, 0.3], [0.6, 0.6]])
    canvas.press(keys=["l"])
    canvas.page.screenshot("painter-large")
    canvas.drag(points=[[0.3, 0.6], [0.6, 0.3]])
    canvas.press(keys=["Escape"])
    assert canvas.mask()[int(0.6 * HEIGHT), int(0.3 * WIDTH)] == 255
    ours = [p for p in canvas.page.problems() if "my.pack" in p or p.startswith("uncaught")]
    assert not ours, ours
