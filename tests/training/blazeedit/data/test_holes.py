"""Masks: binary, white where to edit, of a bounded area."""

import numpy as np
import pytest

from editkit.training.blazeedit.data import holes


@pytest.mark.parametrize("real", [False, True])
def test_a_mask_of_the_zoo_is_binary_and_bounded(rng, things, real):
    masks = [holes.zoo_mask(rng, 64, things if real else None) for _ in range(150)]
    assert all(m.shape == (64, 64) and m.dtype == np.float32 and set(np.unique(m)) == {0, 1} for m in masks)
    areas = [m.mean() for m in masks]
    assert min(areas) >= holes.SMALLEST and max(areas) <= holes.LARGEST and np.std(areas) > 0.08


def test_a_removal_hole_covers_an_eighth_to_two_fifths(rng, things):
    areas = [holes.removal_hole(rng, 128, things).mean() for _ in range(150)]
    assert 0.115 < min(areas) and max(areas) < 0.425 and 0.18 < np.mean(areas) < 0.32


def test_a_strip_lies_at_the_border_and_leaves_one_rectangle(rng):
    for mask in (holes.outpaint_strip(rng, 100) for _ in range(60)):
        assert 0.19 <= mask.mean() <= 0.39
        rows, columns = np.flatnonzero((mask == 0).any(1)), np.flatnonzero((mask == 0).any(0))
        assert (mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert (mask == 0).sum() == len(rows) * len(columns)


def test_strips_come_on_all_sides_and_on_two(rng):
    masks = [holes.outpaint_strip(rng, 64) for _ in range(80)]
    sides = [(m[0].all(), m[-1].all(), m[:, 0].all(), m[:, -1].all()) for m in masks]
    assert np.array(sides).any(0).all() and {1, 2} == {sum(s) for s in sides}


def test_the_same_generator_gives_the_same_mask():
    for draw in (holes.zoo_mask, holes.removal_hole, holes.outpaint_strip):
        first, second = (draw(np.random.default_rng(11), 48) for _ in range(2))
        assert (first == second).all()


def test_dilation_grows_and_a_negative_radius_shrinks():
    mask = np.zeros((21, 21), np.float32)
    mask[7:14, 7:14] = 1
    assert holes.dilate(mask, 3).sum() > mask.sum() > holes.dilate(mask, -2).sum() == 9
