import pytest
import torch

from editkit.models import region
from editkit.models.errors import EditError


def scene(h=60, w=90):
    g = torch.Generator().manual_seed(1)
    mask = torch.zeros(1, h, w)
    mask[:, 20:30, 40:60] = 1
    return torch.rand(1, 3, h, w, generator=g), torch.rand(1, 3, h, w, generator=g), mask


def test_compositing_is_bit_identical_where_the_mask_is_0_and_where_it_is_1():
    image, edited, mask = scene()
    mask[:, 40:50] = 0.5
    out = region.composite(image, edited, mask)
    keep, take = (mask == 0)[:, None].expand_as(image), (mask == 1)[:, None].expand_as(image)
    assert torch.equal(out[keep], image[keep]) and torch.equal(out[take], edited[take])
    assert torch.allclose(out[:, :, 45], 0.5 * (image + edited)[:, :, 45])


def test_compositing_pictures_of_two_sizes_is_refused():
    image, edited, mask = scene()
    with pytest.raises(EditError, match="size"):
        region.composite(image, edited[..., :-1], mask)


@pytest.mark.parametrize("place", [(0, 0), (50, 80), (25, 40)])
def test_a_crop_lies_inside_the_picture_and_holds_the_mask(place):
    image, _, _ = scene()
    mask = torch.zeros(1, 60, 90)
    mask[:, place[0] : place[0] + 10, place[1] : place[1] + 10] = 1
    crop, crop_mask, record = region.crop_around(image, mask, context=2, multiple=8, minimum=16)
    assert crop.shape[-2] % 8 == 0 and crop.shape[-1] % 8 == 0
    assert float(crop_mask.sum()) == float(mask.sum())
    assert torch.equal(crop, image[record.window])


def test_stitching_an_unedited_crop_back_changes_nothing():
    image, _, mask = scene()
    crop, _, record = region.crop_around(image, mask)
    assert torch.equal(region.stitch(image, crop, record, mask), image)


def test_stitching_leaves_everything_outside_the_mask_alone():
    image, _, mask = scene()
    crop, _, record = region.crop_around(image, mask, minimum=16)
    out = region.stitch(image, torch.zeros_like(crop), record, mask)
    assert torch.equal(out[(mask == 0)[:, None].expand_as(out)], image[(mask == 0)[:, None].expand_as(out)])
    assert float(out[(mask == 1)[:, None].expand_as(out)].abs().max()) == 0


def test_a_crop_of_another_picture_is_refused():
    image, _, _ = scene()
    with pytest.raises(EditError, match="inside"):
        region.stitch(image, torch.zeros(1, 3, 8, 8), region.Crop(0, 0, 100, 100))


def test_new_strips_cover_the_hole_once_and_look_at_the_picture_beside_them():
    hole = torch.ones(1, 300, 500)
    hole[:, 40:260, 100:450] = 0
    covered = torch.zeros(300, 500)
    for strip, window in region.new_strips(hole, 2.0):
        covered[strip.window[1:]] += 1
        assert window.top <= strip.top and window.left <= strip.left
        assert window.top + window.height >= strip.top + strip.height
        assert window.left + window.width >= strip.left + strip.width
        assert bool((hole[0][window.window[1:]] == 0).any())
    assert torch.equal(covered, hole[0])


def test_a_hole_that_is_no_frame_is_one_piece():
    hole = torch.zeros(1, 60, 80)
    hole[:, 20:30, 20:30] = 1
    whole = region.Crop(0, 0, 60, 80)
    assert region.new_strips(hole, 2.0) == [(whole, whole)]
    assert region.new_strips(torch.ones(1, 60, 80), 2.0) == [(whole, whole)]
