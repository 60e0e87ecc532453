import pytest
import torch

from editkit.models import masks
from editkit.models.errors import EditError


def point(size=41):
    mask = torch.zeros(1, size, size)
    mask[0, size // 2, size // 2] = 1
    return mask


@pytest.mark.parametrize("radius", [1, 3, 8, 13])
def test_growing_a_point_gives_about_a_disc(radius):
    grown = masks.grow(point(), radius)[0]
    y, x = torch.meshgrid(torch.arange(41) - 20.0, torch.arange(41) - 20.0, indexing="ij")
    distance = (x**2 + y**2).sqrt()
    assert bool((grown[distance <= radius - 0.5] == 1).all())
    assert bool((grown[distance >= radius + 1.0] == 0).all())


def test_growing_keeps_grey_levels_and_its_input():
    mask = 0.4 * point()
    grown = masks.grow(mask, 3)
    assert float(grown.max()) == pytest.approx(0.4)
    assert int((mask > 0).sum()) == 1


def test_shrinking_undoes_growing_away_from_the_border():
    square = torch.zeros(1, 60, 60)
    square[:, 20:40, 20:40] = 1
    assert torch.equal(masks.shrink(masks.grow(square, 5), 5)[:, 21:39, 21:39], square[:, 21:39, 21:39])
    assert float(masks.shrink(square, 5).sum()) == 100


def test_a_negative_radius_is_refused_with_its_value():
    for change in (masks.grow, masks.shrink, masks.feather):
        with pytest.raises(EditError, match="-2"):
            change(point(), -2)


def test_a_feathered_mask_keeps_its_inside_and_ends_at_the_radius():
    square = torch.zeros(1, 80, 80)
    square[:, 30:50, 30:50] = 1
    soft = masks.feather(square, 9)
    assert bool((soft[:, 30:50, 30:50] == 1).all())
    assert bool((soft[:, :20] == 0).all()) and bool((soft[:, :, 60:] == 0).all())
    line = soft[0, 40, 50:60]
    assert bool((line.diff() <= 1e-6).all()) and 0 < float(line[2]) < 1


def test_fitting_repeats_one_mask_for_a_batch_and_refuses_another_count():
    assert masks.fit(torch.ones(10, 10), 20, 30, batch=3).shape == (3, 20, 30)
    with pytest.raises(EditError, match="2 masks do not fit 3 pictures"):
        masks.fit(torch.ones(2, 10, 10), 20, 30, batch=3)


def test_fitting_by_nearest_leaves_only_black_and_white():
    mask = (torch.rand(1, 37, 53, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert set(masks.fit(mask, 64, 100, mode="nearest").unique().tolist()) == {0.0, 1.0}


def test_nan_and_strange_shapes_are_refused():
    with pytest.raises(EditError, match="NaN"):
        masks.checked(torch.full((1, 4, 4), float("nan")))
    with pytest.raises(EditError, match="shape"):
        masks.checked(torch.zeros(1, 1, 4, 4))


def test_the_bounding_box_ends_behind_the_last_pixel():
    mask = torch.zeros(1, 10, 20)
    mask[0, 3:6, 4:9] = 0.1
    assert masks.bounding_box(mask) == (3, 4, 6, 9)
    with pytest.raises(EditError, match="empty"):
        masks.bounding_box(torch.zeros(1, 4, 4))


def test_strength_outside_0_to_1_is_refused():
    assert float(masks.strength(torch.ones(1, 2, 2), 0.25).max()) == 0.25
    with pytest.raises(EditError, match="1.5"):
        masks.strength(torch.ones(1, 2, 2), 1.5)


def test_objects_far_apart_are_separated_and_neighbours_stay_together():
    mask = torch.zeros(1, 400, 600)
    mask[:, 20:60, 20:60] = 1
    mask[:, 30:50, 80:100] = 0.5  # beside the first
    mask[:, 300:360, 500:560] = 1
    parts = masks.separate(mask, context=2.0)
    assert len(parts) == 2 and torch.equal(sum(parts), mask)
    assert float(parts[0][:, :, 300:].sum()) == 0 and float(parts[1][:, :200].sum()) == 0
    assert float(parts[0][:, 30:50, 80:100].mean()) == 0.5


def test_one_object_and_scribbles_stay_one_mask():
    ring = torch.zeros(1, 200, 200)
    ring[:, 20:180, 20:180] = 1
    ring[:, 40:160, 40:160] = 0
    ring[:, 95:105, 95:105] = 1  # inside the ring's box
    assert len(masks.separate(ring, context=2.0)) == 1
    dots = torch.zeros(1, 1000, 1000)
    dots[:, ::90, ::90] = 1
    assert len(masks.separate(dots, context=2.0)) == 1


def test_pieces_are_told_apart_by_their_own_pixels():
    mask = torch.zeros(1, 40, 60)
    mask[:, 3:9, 5:20] = 0.2
    for i in range(8):  # a diagonal is one piece
        mask[:, 20 + i, 30 + i] = 1
    mask[:, 20:25, 44:50] = 1
    assert masks.pieces(mask) == [(3, 5, 9, 20), (20, 30, 28, 38), (20, 44, 25, 50)]
    assert masks.pieces(torch.zeros(1, 9, 9)) == [] and masks.pieces(torch.ones(1, 7, 9)) == [(0, 0, 7, 9)]


def test_pieces_of_a_mask_larger_than_the_canvas_have_exact_rims():
    mask = torch.zeros(1, 101, 173)
    mask[:, 13:51, 7:77], mask[:, 99:101, 170:173] = 1, 1
    assert masks.pieces(mask, grid=32) == [(13, 7, 51, 77), (99, 170, 101, 173)]
