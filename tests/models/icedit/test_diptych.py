"""The diptych: sizes, where Fill paints, and the way back into the picture."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.icedit.diptych import diptych, panel_size, panels, uncropped


def photo(height=90, width=120, count=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=random)


def box(height=90, width=120, count=1):
    mask = torch.zeros(count, height, width)
    mask[:, 20:60, 30:90] = 1
    return mask


@pytest.mark.parametrize(
    ("size", "wanted", "panel"),
    [((512, 512), 512, (512, 512)), ((768, 512), 512, (768, 512)), ((1000, 1500), 512, (336, 512)),
     ((301, 200), 0, (320, 208)), ((5, 4000), 512, (16, 512)), ((4000, 5), 64, (51200, 64)),
     ((100, 100), 500, (496, 496))],
)  # fmt: skip
def test_a_panel_has_whole_tokens_and_the_pictures_shape(size, wanted, panel):
    assert panel_size(*size, wanted) == panel


def test_a_panel_narrower_than_a_token_is_refused():
    with pytest.raises(EditError, match="cannot be 8 px wide"):
        panel_size(100, 100, 8)


def test_the_picture_stands_on_both_sides_and_fill_paints_on_the_right():
    record = diptych(photo(), None, None, 64)
    made, where = record.pair(), record.edited()
    assert made.shape == (1, 3, 48, 128) and torch.equal(made[..., :64], made[..., 64:])
    assert where.shape == (1, 48, 128) and not where[..., :64].any() and bool((where[..., 64:] == 1).all())


def test_a_mask_stands_in_the_right_panel_where_it_was_in_the_picture():
    record = diptych(photo(96, 128), None, box(96, 128), 128)
    where = record.edited()
    assert torch.equal(where[..., 128:], box(96, 128)) and not where[..., :128].any()


def test_a_picture_that_fits_is_not_touched():
    record = diptych(photo(64, 64), None, None, 64)
    assert torch.equal(record.panel, photo(64, 64))


def test_outside_the_mask_the_picture_comes_back_bit_for_bit():
    rgb, mask = photo(count=2), box()
    out, alpha, changed = uncropped(torch.rand(2, 3, 48, 128), diptych(rgb, torch.rand(2, 90, 120), mask, 64), 5)
    outside = (mask == 0).expand(2, -1, -1)[:, None].expand_as(rgb)
    assert torch.equal(out[outside], rgb[outside]) and alpha.shape == (2, 90, 120)
    assert torch.equal(changed > 0, (mask > 0).expand(2, -1, -1)) and float(changed.max()) == 1
    assert 0 < float(changed[0, 20, 60]) < 1  # the edge blends, inside


def test_without_a_mask_the_right_panel_is_the_picture():
    made = torch.rand(1, 3, 96, 256)
    out, _, changed = uncropped(made, diptych(photo(96, 128), None, None, 128))
    assert torch.equal(out, made[..., 128:]) and bool((changed == 1).all())


def test_several_edits_and_larger_ones_come_back():
    record = diptych(photo(count=2), None, box(), 64)
    out, _, changed = uncropped(torch.rand(6, 3, 48, 128), record)
    assert out.shape == (6, 3, 90, 120) and changed.shape == (6, 90, 120)
    assert torch.equal(out[4][:, :20], photo(count=2)[0][:, :20])  # the pictures' order repeats
    assert uncropped(torch.rand(2, 3, 192, 512), record)[0].shape == (2, 3, 90, 120)


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 3, 96, 128), (1, 3, 64, 200)])
def test_another_picture_is_no_diptych_of_this_one(shape):
    with pytest.raises(EditError, match="is not this diptych of 128x48"):
        uncropped(torch.rand(shape), diptych(photo(), None, None, 64))


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(EditError, match="3 diptychs do not fit 2 pictures"):
        uncropped(torch.rand(3, 3, 48, 128), diptych(photo(count=2), None, None, 64))
    with pytest.raises(EditError, match="2 masks do not fit 3 pictures"):
        diptych(photo(count=3), None, box(count=2), 64)


def test_masks_that_are_too_large_or_black_are_refused():
    with pytest.raises(EditError, match="121x90 px, larger than the picture of 120x90"):
        diptych(photo(), None, torch.ones(1, 90, 121))
    with pytest.raises(EditError, match="The mask is empty"):
        diptych(photo(), None, torch.zeros(1, 90, 120))


def test_tokens_of_the_panels_alternate_row_by_row():
    left, right = panels(12, 2)
    assert left.tolist() == [0, 1, 4, 5, 8, 9] and right.tolist() == [2, 3, 6, 7, 10, 11]
