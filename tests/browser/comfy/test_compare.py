"""Compare on the canvas: the slider by mouse and by keyboard, pairs of a batch, the heat map, and what is stored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.tests.browser.comfy.front_ends import newest

SCENARIO = Path(__file__).with_name("compare.mjs")
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


class Driven:
    """The node in one front end; `seen` is what the view last showed."""

    def __init__(self, page):
        self.page = page

    def __call__(self, step: str, **arguments):
        return self.page.run(SCENARIO, step, **arguments)

    def colours(self, what: str, *shares: float) -> list[tuple]:
        """The colours on the screen at shares of the frame's width, four fifths down, where nothing else lies."""
        x, y, width, height = self("state")["box"]
        with Image.open(self.page.screenshot(f"compare-{what}")) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return [tuple(int(v) for v in pixels[int(y + 0.8 * height), int(x + share * width)]) for share in shares]


@pytest.fixture(scope="module")
def compare(page):
    """Two queued pairs at zoom 1.5."""
    driven = Driven(page)
    driven("build", zoom=1.5)
    before = driven("state")
    assert before["hint"] == "Queue to compare the two pictures."
    assert not any(before[part] for part in ("pager", "layer", "pictures"))
    driven("queue")
    yield driven
    assert [said for said in page.problems() if said.startswith("uncaught") or "/extensions/" in said] == []


@pytest.fixture(autouse=True)
def at_the_start(compare):
    """Each test begins with the first pair, the slider in the middle and no heat map."""
    compare("choose", index=0)
    compare("heat", shown=False)
    compare("drag", **{"from": 0.5, "to": 0.5})


def test_a_lies_left_of_the_slider_and_b_at_its_size_right_of_it(compare):
    assert compare.colours("pair", 0.1, 0.4, 0.6, 0.9) == [RED, RED, BLUE, BLUE]
    seen = compare("state")
    assert seen["sizes"] == "A 300×200, B 150×100 shown at A's size"
    assert seen["box"][2] / seen["box"][3] == pytest.approx(1.5, rel=0.01)
    assert seen["role"] == "slider" and seen["told"] == "50 % A"
    assert seen["pager"] and seen["layer"] and not seen["heat"]


def test_the_mouse_moves_the_slider_and_not_the_node(compare):
    before = compare("state")
    seen = compare("drag", **{"from": 0.5, "to": 0.25})
    assert seen["now"] == 25 and seen["told"] == "25 % A" and seen["leaked"] == []
    assert all(clip != was for clip, was in zip(seen["clip"], before["clip"], strict=True))
    assert (seen["node"], seen["count"]) == (before["node"], before["count"])
    assert compare.colours("mouse", 0.2, 0.3, 0.9) == [RED, BLUE, BLUE]


@newest
def test_the_slider_stops_at_its_ends(compare):
    assert compare("drag", **{"from": 0.5, "to": -0.2})["now"] == 0
    assert compare("drag", **{"from": 0.5, "to": 1.2})["now"] == 100


def test_the_keyboard_moves_the_slider_and_nothing_else(compare):
    before = compare("state")
    seen = compare("press", keys=["Home"])
    assert seen["focused"] and seen["now"] == 0 and "0%" in seen["clip"][1] and seen["leaked"] == []
    assert compare.colours("home", 0.1) == [BLUE]
    assert compare("press", keys=["End"])["now"] == 100
    assert compare.colours("end", 0.9) == [RED]
    assert compare("press", keys=["ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowDown"])["now"] == 98
    assert compare("press", keys=["Shift+ArrowLeft", "PageDown", "ArrowRight"])["now"] == 79
    seen = compare("press", keys=["Home", "ArrowLeft"])
    assert seen["now"] == 0 and seen["count"] == before["count"] and seen["node"] == before["node"]


@newest
def test_pairs_are_turned_by_the_pager_and_by_the_nodes_own_field(compare):
    assert compare("state")["place"] == "1 / 2"
    seen = compare("click", name="Next pair")
    assert (seen["place"], seen["index"]) == ("2 / 2", 1)
    assert compare.colours("second", 0.1, 0.9) == [RED, GREEN]  # A is one picture, repeated
    assert compare("click", name="Previous pair")["index"] == 0
    assert compare("choose", index=7)["place"] == "2 / 2"
    assert compare.colours("chosen", 0.9) == [GREEN]


@newest
def test_the_heat_map_is_laid_over_both_pictures(compare):
    seen = compare("heat", shown=True, opacity=100)
    assert seen["heat"] and seen["opacity"] == "1"
    full = compare.colours("heat", 0.1, 0.9)
    assert full[0] == full[1] and full[0] not in (RED, BLUE)
    compare("heat", shown=True, opacity=50)
    for got, plain in zip(compare.colours("half", 0.1, 0.9), (RED, BLUE), strict=True):
        assert got == pytest.approx(tuple((a + b) / 2 for a, b in zip(full[0], plain, strict=True)), abs=3)
    assert not compare("heat", shown=False)["heat"]
    assert compare.colours("cold", 0.1, 0.9) == [RED, BLUE]


@newest
def test_the_view_itself_is_neither_saved_nor_sent(compare):
    stored = compare("stored")
    assert sorted(stored["inputs"]) == ["gain", "heat_map", "image_a", "image_b", "index", "map"]
    values = stored["values"]
    assert (list(values.values()) if isinstance(values, dict) else values) == ["auto", 4, 0]


@newest
def test_a_reopened_workflow_waits_for_its_pictures_and_has_them_from_the_cache(compare):
    seen = compare("reopen")
    assert seen["hint"] == "Queue to compare the two pictures." and not seen["pager"] and not seen["pictures"]
    compare("queue")
    assert compare.colours("reopened", 0.1, 0.9) == [RED, BLUE]


@newest
@pytest.mark.parametrize("name", ["light", "dark"])
def test_it_takes_the_colours_of_the_palette(compare, name):
    compare("palette", name=name)
    x, y, width, _ = compare("state")["box"]
    with Image.open(compare.page.screenshot(f"compare-{name}")) as picture:
        ground = np.asarray(picture.convert("L"))[int(y - 6), int(x + width / 2)]
    assert (ground > 128) == (name == "light")


@newest
def test_pictures_that_are_gone_are_said_to_be(compare):
    seen = compare("lose")
    assert seen["hint"] == "The pictures are no longer there; queue again." and not seen["pager"]
    compare("queue")
    assert compare("state")["hint"] == ""
