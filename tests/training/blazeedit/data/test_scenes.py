"""Rendered scenes and objects: in range, decided by the generator, with a photograph's statistics."""

import numpy as np
import pytest

from editkit.models.errors import EditError
from editkit.training.blazeedit.data import objects, paint, scenes


@pytest.mark.parametrize("family", [scenes.dead_leaves, scenes.landscape, scenes.portrait, scenes.plain])
def test_each_family_has_the_statistics_of_a_photograph(family):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        image = paint.canon(family(rng, 64), rng)
        assert image.shape == (64, 64, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
        assert 0.25 < image.mean() < 0.6 and image.std() > 0.06


def test_the_same_generator_gives_the_same_scene():
    first, second, other = (scenes.render_scene(np.random.default_rng(seed), 48) for seed in (4, 4, 5))
    assert (first == second).all() and (first != other).any()


def test_photographs_can_serve_as_surfaces(bank):
    assert scenes.render_scene(np.random.default_rng(1), 64, bank).shape == (64, 64, 3)


def test_colours_are_mostly_those_of_earth_leaves_and_sky(rng):
    import cv2

    colours = np.stack([paint.colour(rng) for _ in range(600)])
    assert colours.min() >= 0 and colours.max() <= 1
    hue = cv2.cvtColor(colours[None], cv2.COLOR_RGB2HSV)[0, :, 0]
    assert ((hue > 10) & (hue < 50)).mean() > 0.4
    assert ((hue > 265) & (hue < 345)).mean() < 0.1


def test_an_object_is_soft_edged_and_large_enough(rng):
    for rgba in (objects.render_object(rng, 64) for _ in range(10)):
        assert rgba.shape == (64, 64, 4) and 0 <= rgba.min() and rgba.max() <= 1
        alpha = rgba[..., 3]
        assert alpha.max() == 1 and (alpha > 0.5).mean() > 0.06 and ((alpha > 0) & (alpha < 1)).any()


def test_a_bank_gives_crops_of_its_scenes_and_keeps_them_in_a_file(tmp_path, rng):
    first = scenes.SceneBank(3, 48, seed=1, cache=tmp_path / "scenes.npy")
    again = scenes.SceneBank(3, 48, seed=1, cache=tmp_path / "scenes.npy")
    assert first.scenes.dtype == np.uint8 and (first.scenes == again.scenes).all()
    for size in (24, 48, 64):
        crop = again.crop(rng, size)
        assert (
            crop.shape == (size, size, 3) and crop.dtype == np.float32 and 0 <= crop.min() <= crop.max() <= 1
        )


def test_a_bank_of_another_shape_or_none_is_refused(tmp_path):
    scenes.SceneBank(1, 24, cache=tmp_path / "scenes.npy")
    with pytest.raises(EditError, match="delete it"):
        scenes.SceneBank(2, 24, cache=tmp_path / "scenes.npy")
    with pytest.raises(EditError, match="0 scenes"):
        scenes.SceneBank(0, 24)
