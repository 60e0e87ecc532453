"""Triplets: the polarity of masks, what must stay untouched, and the layout of batches."""

import numpy as np
import pytest
import torch

from editkit.models.errors import EditError
from editkit.training.blazeedit.data import triplets

TASKS = ("remove", "outpaint", "tone", "relight", "sticker")


@pytest.fixture(scope="module")
def source(bank, things):
    return triplets.TripletSource(bank, things, 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_an_example_is_in_range_binary_and_decided_by_the_generator(source, task):
    first, second = (source.sample(task, np.random.default_rng(2), 48) for _ in range(2))
    assert (
        first.task == task and first.x.shape == first.y.shape == (48, 48, 3) and first.mask.shape == (48, 48)
    )
    assert first.x.dtype == first.y.dtype == first.mask.dtype == np.float32
    assert 0 <= min(first.x.min(), first.y.min()) and max(first.x.max(), first.y.max()) <= 1
    assert set(np.unique(first.mask)) <= {0, 1} and first.mask.max() == 1
    assert (first.x == second.x).all() and (first.y == second.y).all() and (first.mask == second.mask).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_has_the_layout_of_the_models(source, task):
    x, mask, y = source.batch(task, 3, np.random.default_rng(2), 40)
    assert x.shape == y.shape == (3, 3, 40, 40) and mask.shape == (3, 40, 40)
    assert {t.dtype for t in (x, mask, y)} == {torch.float32} and x.is_contiguous()
    again = source.batch(task, 3, np.random.default_rng(2), 40)
    assert all(torch.equal(a, b) for a, b in zip((x, mask, y), again, strict=True))


def test_a_batch_holds_the_very_examples(source):
    x, mask, _ = source.batch("remove", 2, np.random.default_rng(8), 40)
    rng = np.random.default_rng(8)
    for index in range(2):
        example = source.sample("remove", rng, 40)
        assert (x[index].permute(1, 2, 0).numpy() == example.x).all() and (
            mask[index].numpy() == example.mask
        ).all()


def test_outpainting_blanks_the_strip_to_grey_and_nothing_else(source, rng):
    example = source.sample("outpaint", rng, 64)
    assert (example.x[example.mask == 1] == triplets.BLANK).all()
    assert (example.x[example.mask == 0] == example.y[example.mask == 0]).all()


def test_removal_hides_the_target_under_the_mask_and_shadow_only(bank, things, rng):
    source = triplets.TripletSource(bank, things, 0.0, evaluation=True)
    for example in (source.sample("remove", rng, 96) for _ in range(8)):
        changed = np.abs(example.x - example.y).max(2) > 0.04
        assert not (changed & (example.mask == 0) & (example.extra["shadow"] == 0)).any()
        assert changed[example.mask == 1].mean() > 0.2


def test_holes_for_evaluation_cover_5_to_8_percent(bank, things, rng):
    source = triplets.TripletSource(bank, things, 0.0, evaluation=True)
    share = np.mean([source.sample("remove", rng, 256).mask.mean() for _ in range(15)])
    assert 0.05 < share < 0.08


def test_a_sticker_changes_the_subject_alone(source, rng):
    example = source.sample("sticker", rng, 96)
    alpha = example.extra["alpha"]
    assert (example.y[alpha == 0] == example.x[alpha == 0]).all()
    assert ((alpha > 0.5) == (example.mask == 1)).all()
    assert np.abs(example.y - example.x)[example.mask == 1].mean() > 0.02


def test_some_pictures_are_already_good(bank, things):
    source = triplets.TripletSource(bank, things, 0.0, identity={"tone": 0.5})
    x, mask, y = source.batch("tone", 60, np.random.default_rng(0), 24)
    same = (x == y).flatten(1).all(1).float().mean()
    assert 0.3 < same < 0.7 and (mask == 1).all()
    x, _, y = triplets.TripletSource(bank, things, 0.0).batch("relight", 100, np.random.default_rng(0), 24)
    assert 0.22 < (x == y).flatten(1).all(1).float().mean() < 0.5


def test_evaluation_always_changes_the_picture(bank, things):
    source = triplets.TripletSource(bank, things, 0.0, evaluation=True)
    x, _, y = source.batch("relight", 30, np.random.default_rng(0), 24)
    assert not (x == y).flatten(1).all(1).any()


def test_it_works_without_photographs_and_cutouts(rng):
    source = triplets.TripletSource(None)
    assert source.sample("remove", rng, 48).x.shape == (48, 48, 3)


def test_an_unknown_task_is_refused_with_the_known_ones(source, rng):
    with pytest.raises(EditError, match="'sharpen'.*sticker"):
        source.sample("sharpen", rng, 32)
