"""Cut-outs: what is taken fills its canvas, keeps its colour and is no rectangle."""

import numpy as np
import pytest

from editkit.models.errors import EditError
from editkit.training.blazeedit.data import cutouts


def _disc(colour, size=80):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[...] = (*colour, 0)
    rgba[..., 3] = np.clip((size * 0.3 - np.hypot(rows, columns)) * 255, 0, 255)
    return rgba


def test_an_object_fills_its_canvas_and_keeps_its_colour(rng):
    rgba = cutouts.CutoutBank({"disc": _disc((200, 100, 50))}).take(rng, 64, vary=False)
    assert rgba.shape == (64, 64, 4) and rgba.dtype == np.float32
    solid = rgba[..., 3] > 0.99
    assert abs(rgba[..., 3].mean() - np.pi / 4) < 0.06
    np.testing.assert_allclose(
        rgba[solid][:, :3], np.tile([[200, 100, 50]], (solid.sum(), 1)) / 255, atol=0.012
    )


def test_soft_edges_do_not_darken_the_colour(rng):
    rgba = cutouts.CutoutBank({"disc": _disc((240, 240, 240), 300)}).take(rng, 40, vary=False)
    edge = (rgba[..., 3] > 0.2) & (rgba[..., 3] < 0.8)
    assert edge.any() and rgba[edge][:, :3].min() > 0.9


def test_each_taking_varies_within_range_and_by_seed(things):
    taken = [things.take(np.random.default_rng(seed), 48) for seed in (1, 1, 2)]
    assert (taken[0] == taken[1]).all() and (taken[0] != taken[2]).any()
    assert all(0 <= t.min() and t.max() <= 1 for t in taken)


def test_every_ninth_is_set_aside(things):
    training, validation = things.split()
    assert validation.names == ["thing00", "thing09"]
    assert sorted(training.names + validation.names) == things.names


def test_a_silhouette_is_one_map(things, rng):
    assert things.silhouette(rng, 32).shape == (32, 32)


def test_pictures_without_transparency_are_refused():
    with pytest.raises(EditError, match="transparent"):
        cutouts.CutoutBank({"opaque": np.full((20, 20, 4), 255, np.uint8)})
