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
