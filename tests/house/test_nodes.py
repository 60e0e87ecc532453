"""Every node explains itself, and each check bites on a bad example."""

import pytest

import editkit
from editkit.tests.house import node_checks, pack, pages

DOCS = pack.ROOT / "web" / "docs"
NODES = sorted(editkit.NODE_CLASS_MAPPINGS)


class Good:
    """What a node looks like."""

    DESCRIPTION, CATEGORY, SEARCH_ALIASES = "Grows a mask.", "EditKit/region", ["dilate"]
    RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS, FUNCTION = ("MASK",), ("mask",), ("The mask.",), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK", {"tooltip": "White is the region to edit."})}}

    def run(self, *, mask):
        return (mask,)


@pytest.mark.parametrize("name", NODES)
def test_a_node_explains_itself(name):
    assert node_checks.node_problems(name, editkit.NODE_CLASS_MAPPINGS[name], pack.names()) == []


@pytest.mark.parametrize("name", NODES)
def test_a_node_has_a_help_page_with_a_picture(name):
    assert node_checks.page_problems(name, DOCS) == []


@pytest.mark.parametrize("name", NODES)
def test_a_help_page_says_what_the_node_says(name):
    assert pages.table_problems(name, editkit.NODE_CLASS_MAPPINGS[name], DOCS) == []


@pytest.mark.parametrize("other", ["The mask to grow.", None])
def test_a_help_page_that_fell_behind_is_found(tmp_path, other):
    text = pages.tables(Good).replace("White is the region to edit.", other) if other else "# Good\n"
    (tmp_path / "EditKitGood.md").write_text(text, encoding="utf-8")
    assert "make pages" in pages.table_problems("EditKitGood", Good, tmp_path)[0]


def test_a_help_page_need_not_repeat_what_depends_on_the_machine(tmp_path):
    listed = {"INPUT_TYPES": classmethod(lambda cls: {"required": {"release": (["a"], {"tooltip": "A folder."})}})}
    text = pages.tables(type("Listed", (Good,), listed)).replace("`a`", "")
    (tmp_path / "EditKitGood.md").write_text("# Good\n\n" + text, encoding="utf-8")
    assert pages.table_problems("EditKitGood", type("Listed", (Good,), listed), tmp_path) == []


def test_no_help_page_is_left_over():
    assert node_checks.stray_pages(DOCS, set(NODES)) == []


def test_every_display_name_belongs_to_a_node():
    assert set(pack.names()) == set(NODES)


def test_a_good_node_passes():
    assert node_checks.node_problems("EditKitGood", Good, {"EditKitGood": "Good"}) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"DESCRIPTION": ""},
        {"CATEGORY": "region"},
        {"SEARCH_ALIASES": []},
        {"OUTPUT_TOOLTIPS": ()},
        {"OUTPUT_TOOLTIPS": ("",)},
        {"OUTPUT_TOOLTIPS": "m"},
        {"RETURN_NAMES": ("mask", "more")},
        {"FUNCTION": "walk"},
        {"INPUT_TYPES": classmethod(lambda cls: {"required": {"mask": ("MASK",)}})},
        {"INPUT_TYPES": classmethod(lambda cls: {"optional": {"mask": ("MASK", {"tooltip": ""})}})},
        {"INPUT_TYPES": classmethod(lambda cls: {"required": {"way": ("COMBO", {"tooltip": "A way."})}})},
    ],
)
def test_each_lack_of_a_node_is_found(changed):
    bad = type("Bad", (Good,), changed)
    assert len(node_checks.node_problems("EditKitBad", bad, {"EditKitBad": "Bad"})) == 1


def test_a_foreign_id_and_a_missing_display_name_are_found():
    assert len(node_checks.node_problems("GrowMask", Good, {})) == 2


def test_each_lack_of_a_help_page_is_found(tmp_path):
    page = tmp_path / "EditKitGood.md"
    assert node_checks.page_problems("EditKitGood", tmp_path)
    page.write_text("# Good\n", encoding="utf-8")
    assert "no picture" in node_checks.page_problems("EditKitGood", tmp_path)[0]
    page.write_text("# Good\n![before and after](good.jpg)\n", encoding="utf-8")
    assert "good.jpg" in node_checks.page_problems("EditKitGood", tmp_path)[0]
    (tmp_path / "good.jpg").touch()
    assert node_checks.page_problems("EditKitGood", tmp_path) == []
    assert node_checks.stray_pages(tmp_path, {"EditKitOther"})
