"""The Attention Atlas: its three maps are parts of the whole attention, read in pieces, and drawn on one sheet."""

import pytest
import torch

from editkit.models import sheet
from editkit.models.editmgt import atlas, localise
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.errors import EditError
from editkit.tests.models.editmgt.test_localise import GRID, TEXT, TINY, queries, whole_attention


def read(q, k, image=12, **options):
    seen = atlas.AtlasCapture([0], **options)
    seen(0, q, k, TEXT, image)
    return seen


@pytest.mark.parametrize("rows", [None, [1, 4]])
@pytest.mark.parametrize("chunk", [5, 12, 256])
def test_the_maps_are_means_of_the_whole_attention(rows, chunk, monkeypatch):
    monkeypatch.setattr(atlas, "CHUNK", chunk)
    q, k = queries()
    seen, whole = read(q, k, rows=rows), whole_attention(q, k)[1:].mean(1)
    picked = slice(0, TEXT) if rows is None else rows
    expected = {
        "text_to_image": whole[:, :TEXT, TEXT:][:, picked].mean(1),
        "image_to_text": whole[:, TEXT:, :TEXT][..., picked].mean(-1),
        "image_to_image": whole[:, TEXT:, TEXT:].mean(1),
    }
    for kind, value in expected.items():
        assert torch.allclose(seen.maps[0, kind], value, atol=1e-6), kind


@pytest.mark.parametrize("rows", [None, [4], [0, 5]])
@pytest.mark.parametrize("point", [None, 7])
def test_the_padding_as_one_token_gives_the_same_maps(rows, point):
    """Three pads, whose queries and keys are the same, as one that counts for them."""
    q, k = (torch.cat([x[:, :, :1], x[:, :, :1], x], 2) for x in queries())
    plain = atlas.AtlasCapture([0], rows, point)
    plain(0, q, k, TEXT + 2, 12)
    merged = None if rows is None else [max(row - 2, 0) for row in rows]
    short = atlas.AtlasCapture([0], merged, point, pads=3)
    short(0, q[:, :, 2:], k[:, :, 2:], TEXT, 12)
    for key, one in plain.maps.items():
        assert torch.allclose(short.maps[key], one, atol=1e-6), key


@pytest.mark.parametrize("kinds", [(kind,) for kind in atlas.KINDS] + [("image_to_image", "text_to_image")])
@pytest.mark.parametrize("place", [None, 6])
def test_only_the_maps_that_are_asked_for_are_read(kinds, place, monkeypatch):
    monkeypatch.setattr(atlas, "CHUNK", 5)
    q, k = queries()
    every, some = read(q, k, point=place).maps, read(q, k, point=place, kinds=kinds).maps
    assert list(some) == [(0, kind) for kind in atlas.KINDS if kind in kinds]  # in the sheet's order
    assert all(torch.equal(one, every[key]) for key, one in some.items())


@pytest.mark.parametrize(
    ("kinds", "place", "pieces"),
    [(("text_to_image",), None, 0), (("image_to_image",), None, 3), (("image_to_image",), 6, 1),
     (("image_to_text", "image_to_image"), 6, 3)],
)  # fmt: skip
def test_no_more_of_the_pictures_attention_exists_than_is_needed(kinds, place, pieces, monkeypatch):
    monkeypatch.setattr(atlas, "CHUNK", 5)
    rows, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: rows.append(x.shape[-2]) or softmax(x, dim))
    q, k = queries()
    read(q, k, point=place, kinds=kinds)
    own = rows[1:] if "text_to_image" in kinds else rows
    assert len(own) == pieces and all(count <= 5 for count in own)


@pytest.mark.parametrize("place", [0, 6, 11])
def test_a_point_sees_by_its_own_row(place, monkeypatch):
    monkeypatch.setattr(atlas, "CHUNK", 5)
    q, k = queries()
    whole = whole_attention(q, k)[1:].mean(1)
    assert torch.allclose(
        read(q, k, point=place).maps[0, "image_to_image"], whole[:, TEXT + place, TEXT:], atol=1e-6
    )


def test_text_to_image_is_the_localisers_map():
    q, k = queries(batch=4)
    seen = localise.capture([0], [2])
    seen(0, q, k, TEXT, 12)
    assert torch.equal(read(q, k, rows=[2]).maps[0, "text_to_image"], seen.maps[0])


def test_little_is_kept():
    q, k = queries(image=400, reference=0)
    seen = read(q, k, image=400)
    assert sum(one.numel() for one in seen.maps.values()) == 3 * 400 and not seen.text.maps


def test_a_point_by_its_place_in_the_picture():
    assert [atlas.point(*at, GRID) for at in ((0, 0), (1, 1), (0.9, 0.1), (0.3, 0.5))] == [0, 11, 3, 5]
    with pytest.raises(EditError, match="1.2"):
        atlas.point(1.2, 0, GRID)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("first, middle, last", (0, 7, 15)), ("all", tuple(range(16))), ("1, 8-10,16", (0, 7, 8, 9, 15)),
     ("3-99, 40", tuple(range(2, 16))), ("Last", (15,)), ("0, 2", (1,))],
)  # fmt: skip
def test_words_for_steps(text, steps):
    assert atlas.chosen_steps(text, 16) == steps


def test_one_step_is_first_middle_and_last():
    assert atlas.chosen_steps("first, middle, last", 1) == (0,)


@pytest.mark.parametrize(("text", "said"), [
    ("", "1 to 16"), ("17", "1 to 16, and '17'"), ("5-3", "names none"), ("half", "'half' names no steps"),
    ("1-2-3", "'1-2-3'"), ("-2", "'-2'"),
])  # fmt: skip
def test_steps_that_are_none_are_refused(text, said):
    with pytest.raises(EditError, match=said):
        atlas.chosen_steps(text, 16)


@pytest.fixture(scope="module")
def filled():
    """An atlas of the tiny network's five blocks in two steps."""
    torch.manual_seed(0)
    network = EditMGT(TINY).eval()
    made = atlas.Atlas(TINY, GRID, atlas.Chosen(localise.chosen_blocks("all", TINY), (0, 2), rows=torch.tensor([3])))
    ids = torch.randint(0, 40, (4, *GRID))
    with torch.inference_mode():
        prompt = network.prompt(torch.randn(4, TEXT, 24), torch.randn(4, 8), ids)
        for step in (2, 1, 0):
            seen = made.capture(step, True)
            network(ids, prompt, torch.full((4,), step), capture=seen)
            if seen is not None:
                made.add(step, seen.maps)
    return made


def test_the_chosen_steps_are_read_and_no_others(filled):
    assert sorted(filled.steps) == [0, 2]
    assert all(sorted({block for block, _ in maps}) == list(range(5)) for maps in filled.steps.values())
    kept = filled.kept()
    assert kept.pictures == 2 and kept.title == filled.title
    for step, maps in filled.steps.items():
        assert all(torch.equal(kept.steps[step][key], one) for key, one in maps.items())
    whole = next(iter(kept.steps[0].values())).untyped_storage()
    assert whole.nbytes() == 2 * 5 * 3 * 2 * 12 * 4  # steps, blocks, kinds, pictures, tokens: one piece of memory


def test_the_stacks_are_means_over_their_blocks(filled):
    maps = filled.steps[2]
    found = atlas.stacked(maps, TINY)
    assert list(found) == [(name, kind) for name in ("double", "single", "all") for kind in atlas.KINDS]
    for name, blocks in {"double": (0, 1), "single": (2, 3, 4), "all": range(5)}.items():
        for kind in atlas.KINDS:
            mean = torch.stack([maps[b, kind] for b in blocks]).mean(0)
            assert torch.allclose(found[name, kind], mean)
    alone = {(3, kind): maps[3, kind] for kind in atlas.KINDS}
    assert list(atlas.stacked(alone, TINY)) == [("single", kind) for kind in atlas.KINDS]


def test_the_sheet_has_a_row_per_block_and_a_column_per_step_and_map(filled, monkeypatch):
    told = {}
    monkeypatch.setattr(sheet, "grid", lambda *args: told.setdefault("args", args))
    filled.sheet(number=1)
    rows, across, down = told["args"][:3]
    assert down == ["double 0", "double 1", "single 2", "single 3", "single 4",
                    "mean of double", "mean of single", "mean of all"]  # fmt: skip
    assert across[:3] == ["step 1\ntext to image", "step 1\nimage to text", "step 1\nimage to image"]
    assert across[3] == "step 3\ntext to image" and {len(row) for row in rows} == {6}
    expected = localise.colours(
        localise.localisation(filled.steps[2][1, "text_to_image"], GRID, localise.Smoothing("none"))
    )
    assert torch.allclose(rows[1][3][:, ::32, ::32], expected[1], atol=1e-6)


def test_the_sheet_shows_the_chosen_part_stretched_to_its_own_range(filled, monkeypatch):
    told = {}
    monkeypatch.setattr(sheet, "grid", lambda *args: told.setdefault("args", args))
    filled.sheet(cell=8, inner=(2, 3))
    shown = told["args"][0][0][0]
    part = filled.steps[0][0, "text_to_image"][:1].unflatten(-1, GRID)[:, :2, :3]
    expected = localise.colours((part - part.min()) / (part.max() - part.min()))[0]
    assert shown.shape == (3, 4, 6) and torch.allclose(shown[:, ::2, ::2], expected, atol=1e-5)


def test_the_sheet_is_drawn(filled):
    made = filled.sheet(cell=80)
    assert made.shape[:2] == (1, 3) and made.shape[3] > 6 * 80 and 0 <= made.min() and made.max() <= 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda full: atlas.Atlas(TINY, GRID, full.chosen).sheet(), "No step"),
        (lambda full: read(*queries(), kinds=("text_to_text",)), "text_to_text"),
        (lambda full: read(*queries(), kinds=()), "switch on one or more"),
        (lambda full: full.sheet(cell=5000), "8 rows and 6 columns would be 30048x40064 px; choose fewer"),
        (lambda full: read(*queries(), point=12), "Point 12"),
    ],
)
def test_what_makes_no_sense_is_said(filled, call, said):
    with pytest.raises(EditError, match=said):
        call(filled)
