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
        assert torch.allclose(seen.maps[0][kind], value, atol=1e-6), kind
    assert torch.allclose(seen.tokens[0], whole[:, TEXT:, :TEXT].mean(1), atol=1e-6)


@pytest.mark.parametrize("place", [0, 6, 11])
def test_a_point_sees_by_its_own_row(place, monkeypatch):
    monkeypatch.setattr(atlas, "CHUNK", 5)
    q, k = queries()
    whole = whole_attention(q, k)[1:].mean(1)
    assert torch.allclose(
        read(q, k, point=place).maps[0]["image_to_image"], whole[:, TEXT + place, TEXT:], atol=1e-6
    )


def test_text_to_image_is_the_localisers_map():
    q, k = queries(batch=4)
    seen = localise.capture([0], [2])
    seen(0, q, k, TEXT, 12)
    assert torch.equal(read(q, k, rows=[2]).maps[0]["text_to_image"], seen.maps[0])


def test_little_is_kept():
    q, k = queries(image=400, reference=0)
    seen = read(q, k, image=400)
    kept = sum(one.numel() for one in seen.maps[0].values()) + seen.tokens[0].numel()
    assert kept == 3 * 400 + TEXT and not seen.text.maps


def test_a_point_by_its_place_in_the_picture():
    assert [atlas.point(*at, GRID) for at in ((0, 0), (1, 1), (0.9, 0.1), (0.3, 0.5))] == [0, 11, 3, 5]
    with pytest.raises(EditError, match="1.2"):
        atlas.point(1.2, 0, GRID)


@pytest.fixture(scope="module")
def filled():
    """An atlas of the tiny network's five blocks in two steps."""
    torch.manual_seed(0)
    network, made = EditMGT(TINY).eval(), atlas.Atlas(TINY, GRID)
    ids = torch.randint(0, 40, (4, *GRID))
    with torch.inference_mode():
        prompt = network.prompt(torch.randn(4, TEXT, 24), torch.randn(4, 8), ids)
        for step in (2, 0):
            seen = atlas.AtlasCapture(localise.chosen_blocks("all", TINY), [3])
            network(ids, prompt, torch.full((4,), step), capture=seen)
            made.add(step, seen)
    return made


def test_the_stacks_are_means_over_their_blocks(filled):
    maps = filled.steps[2]
    found = atlas.stacked(maps, TINY)
    assert list(found) == ["double", "single", "all"]
    for name, blocks in {"double": (0, 1), "single": (2, 3, 4), "all": range(5)}.items():
        for kind in atlas.KINDS:
            mean = torch.stack([maps[b][kind] for b in blocks]).mean(0)
            assert torch.allclose(found[name][kind], mean)
    assert list(atlas.stacked({3: maps[3]}, TINY)) == ["single"]


def test_the_sheet_has_a_row_per_block_and_a_column_per_step_and_map(filled, monkeypatch):
    told = {}
    monkeypatch.setattr(sheet, "grid", lambda *args: told.setdefault("args", args))
    filled.sheet(number=1)
    rows, across, down = told["args"][:3]
    assert down == ["double 0", "double 1", "single 2", "single 3", "single 4",
                    "mean of double", "mean of single", "mean of all"]  # fmt: skip
    assert across[:3] == ["0: text to image", "0: image to text", "0: image to image"]
    assert across[3] == "2: text to image" and {len(row) for row in rows} == {6}
    expected = localise.colours(
        localise.localisation(filled.steps[2][1]["text_to_image"], GRID, localise.Smoothing("none"))
    )
    assert torch.allclose(rows[1][3][:, ::40, ::40], expected[1], atol=1e-6)


def test_the_sheet_is_drawn(filled):
    made = filled.sheet(kinds=("text_to_image",), cell=80)
    assert made.shape[:2] == (1, 3) and made.shape[3] > 2 * 80 and 0 <= made.min() and made.max() <= 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda full: atlas.Atlas(TINY, GRID).sheet(), "No step"),
        (lambda full: full.sheet(kinds=("text_to_text",)), "text_to_text"),
        (lambda full: read(*queries(), point=12), "Point 12"),
    ],
)
def test_what_makes_no_sense_is_said(filled, call, said):
    with pytest.raises(EditError, match=said):
        call(filled)
