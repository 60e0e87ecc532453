"""The Attention Atlas from nodes, without ComfyUI."""

import pytest
import torch

from editkit.models import sheet
from editkit.models.editmgt import atlas as atlases
from editkit.models.errors import EditError
from editkit.nodes.host import editmgt, editmgt_atlas
from editkit.tests.nodes.test_editmgt import INSTRUCTION, call, localise, photo, sample

CHOICE = {"blocks": "all", "steps": "all", "text_to_image": True, "image_to_text": True, "image_to_image": True,
          "keyword": "", "occurrence": 1, "view": "picture", "point_x": 0.5, "point_y": 0.5}  # fmt: skip
GRID = (2, 2)  # of a square of 64 px


def asked(**more):
    return call("EditMGTAttentionAtlas", **CHOICE | more)[0]


def read(loaded, image, square=True, **more):
    """(maps by step, block and kind; the sheet)"""
    latent, _, on = sample(loaded, image, atlas=asked(**more))
    return latent[editmgt.ATLAS].steps, draw(latent, on if square else None)


def draw(latent, square=None, cell=64):
    return call("EditMGTAtlasSheet", latent=latent, cell=cell, square=square)[0]


def test_reading_changes_no_token_and_goes_beside_a_localisation(loaded):
    plain, reading = sample(loaded, photo()), localise("red cat")
    both = sample(loaded, photo(), atlas=asked(keyword="red cat"), localise=reading)
    assert torch.equal(plain[0][editmgt.TOKENS], both[0][editmgt.TOKENS])
    attention = both[0][editmgt.ATTENTION][0]
    steps = both[0][editmgt.ATLAS].steps
    for step in range(3):  # Eq. 3: the localisation is the mean over the blocks of these very maps
        mean = torch.stack([steps[step][block, "text_to_image"] for block in range(3)]).mean(0)
        torch.testing.assert_close(attention[step], mean, rtol=0, atol=1e-6)


def test_what_was_chosen_is_read_and_no_more(loaded):
    maps, _ = read(loaded, photo(count=2), blocks="0, 2", steps="2-3", image_to_text=False)
    assert sorted(maps) == [1, 2]
    for one in maps.values():
        assert list(one) == [(b, kind) for b in (0, 2) for kind in ("text_to_image", "image_to_image")]
        assert all(values.shape == (2, 4) and values.device.type == "cpu" for values in one.values())


def test_another_word_and_another_point_give_other_maps(loaded):
    def kind(name, **more):
        return read(loaded, photo(), **more)[0][0][2, name]

    words = [kind("image_to_text", keyword=word) for word in ("", "cat", "dog")]
    assert not torch.equal(words[0], words[1]) and not torch.equal(words[1], words[2])
    views = [kind("image_to_image", **more) for more in (
        {}, {"view": "point"}, {"view": "point", "point_x": 0.0, "point_y": 0.0})]  # fmt: skip
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])


def test_a_point_is_one_of_the_photograph_not_of_the_square(loaded):
    """A wide photograph fills the upper half of the square: its lower edge is in the middle."""
    net, seen = editmgt.network(loaded[0]), []
    for place in ((0.99, 0.99), (0.99, 0.0)):
        request = asked(view="point", point_x=place[0], point_y=place[1])
        square = sample(loaded, photo(32, 64))[2]
        made = editmgt_atlas.begun(request, net, loaded[1], INSTRUCTION, 3, (4, 4), square)
        seen.append(made.chosen.point)
    assert made.size == GRID and seen == [1, 1]


def test_the_sheet_has_a_labelled_row_per_block_and_column_per_step_and_kind(loaded, monkeypatch):
    told, grid = {}, sheet.grid
    monkeypatch.setattr(sheet, "grid", lambda *args: told.update(args=args) or grid(*args))
    _, drawn = read(loaded, photo(64, 64), keyword="red cat", steps="first, last")
    rows, across, down, title, cell = told["args"]
    assert down == ["double 0", "single 1", "single 2", "mean of single", "mean of double", "mean of all"] or down == [
        "double 0", "single 1", "single 2", "mean of double", "mean of single", "mean of all"]  # fmt: skip
    assert across == [f"step {step}\n{kind}" for step in (1, 3) for kind in atlases.KINDS.values()]
    assert title == f'Attention of "red cat" in: {INSTRUCTION}' and cell == 64
    assert drawn.shape[0] == 1 and drawn.shape[1] > 6 * 64 and drawn.shape[3] == 3
    assert 0 <= drawn.min() and drawn.max() <= 1 and drawn.std() > 0.05


def test_each_picture_has_its_sheet_and_the_mirrored_part_is_left_out(loaded):
    latent, _, square = sample(loaded, photo(20, 64, count=2), atlas=asked(steps="1", image_to_text=False))
    whole, own = draw(latent), draw(latent, square)
    assert whole.shape[0] == own.shape[0] == 2 and not torch.equal(whole[0], whole[1])
    assert own.shape[1] < whole.shape[1]  # one row of tokens in place of two


def test_text_to_image_has_an_atlas_too(loaded):
    maps, drawn = read(loaded, None, square=False, steps="last")
    assert list(maps) == [2] and drawn.shape[0] == 1


def test_a_large_picture_in_tiles_has_one_atlas(loaded):
    latent, _, square = sample(loaded, photo(64, 96), atlas=asked(steps="1"), large="tiles")
    made = latent[editmgt.ATLAS]
    assert made.size == (2, 3) and all(one.shape == (1, 6) for one in made.steps[0].values())
    assert draw(latent, square).shape[0] == 1
    with pytest.raises(EditError, match="view needs the picture in one square"):
        sample(loaded, photo(64, 96), atlas=asked(view="point"), large="tiles")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"blocks": "28-36"}, "blocks 0 to 2, and '28-36' names none"),
        ({"blocks": "odd"}, "'odd' names no blocks"),
        ({"steps": "9"}, "the steps 1 to 3, and '9' names none"),
        ({"steps": "half"}, "'half' names no steps"),
        ({"keyword": "sky"}, "'sky' is not in the instruction"),
        ({"keyword": "cat", "occurrence": 2}, "once, so there is no occurrence 2"),
        ({"text_to_image": False, "image_to_text": False, "image_to_image": False}, "switch on one or more"),
    ],
)
def test_what_cannot_be_read_is_said(loaded, more, said):
    with pytest.raises(EditError, match=said):
        sample(loaded, photo(), atlas=asked(**more))


def test_a_latent_without_an_atlas_and_a_sheet_too_large_are_said(loaded):
    with pytest.raises(EditError, match="wire EditMGT Attention Atlas"):
        draw(sample(loaded, photo())[0])
    latent = sample(loaded, photo(), atlas=asked())[0]
    with pytest.raises(EditError, match="6 rows and 9 columns would be .* px; choose fewer"):
        draw(latent, cell=4000)
