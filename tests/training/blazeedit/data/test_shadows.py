"""Composites: what is changed, where, and that the stated gain undoes the shadow."""

import numpy as np
import pytest

from editkit.models.errors import EditError
from editkit.training.blazeedit.data import shadows
from editkit.training.blazeedit.data.light import to_linear


def _made(seed, bank, things, size=96, **options):
    rng = np.random.default_rng(seed)
    background = bank.crop(rng, size, ["china"])
    return background, shadows.composite(rng, background, things.take(rng, size // 2), **options)


@pytest.fixture(params=range(6))
def made(request, bank, things):
    return _made(request.param, bank, things, shadow=True, exact=True)


def test_the_background_is_the_target_and_is_not_touched(made, bank, things):
    background, result = made
    assert result.y is background
    untouched = (result.alpha == 0) & (result.gain == 1).all(2)
    assert untouched.mean() > 0.2 and (result.x[untouched] == background[untouched]).all()


def test_the_mask_covers_the_object_and_not_the_shadow(made):
    _, result = made
    assert set(np.unique(result.mask)) == {0, 1}
    assert (result.mask[result.alpha > 0.1] == 1).all()
    assert (result.mask * result.shadow).max() == 0
    assert result.mask.sum() > (result.alpha > 0.5).sum()


def test_the_gain_undoes_the_shadow_in_linear_light(made):
    _, result = made
    outside = result.alpha == 0
    restored = to_linear(result.x)[outside] * result.gain[outside]
    np.testing.assert_allclose(restored, to_linear(result.y)[outside], atol=2e-5)
    assert result.gain.min() >= 1 and result.gain.max() > 1.2


def test_a_shadow_only_darkens_and_is_usually_visible(bank, things):
    shaded = [_made(seed, bank, things, shadow=True)[1] for seed in range(20)]
    assert sum(r.shadow.sum() > 20 for r in shaded) >= 12
    assert all((r.x - r.y)[r.alpha == 0].max() <= 1e-6 for r in shaded)


def test_without_a_shadow_only_the_object_differs(bank, things):
    _, result = _made(0, bank, things, shadow=False)
    assert result.shadow.sum() == 0 and (result.gain == 1).all()
    assert (result.x[result.alpha == 0] == result.y[result.alpha == 0]).all()


def test_about_one_in_five_has_no_shadow(bank, things):
    bare = [(_made(seed, bank, things, 48)[1].gain == 1).all() for seed in range(100)]
    assert 0.08 < np.mean(bare) < 0.34


def test_the_objects_share_of_the_picture_is_kept(bank, things):
    shares = [_made(seed, bank, things, share=0.06)[1].alpha.mean() for seed in range(10)]
    assert max(abs(np.array(shares) - 0.06)) < 0.012


def test_masks_for_training_are_sometimes_loose_and_sometimes_clipped(bank, things):
    results = [_made(seed, bank, things, 96)[1] for seed in range(60)]
    missed = [(r.alpha[r.mask == 0] > 0.5).any() for r in results]
    assert 0.02 < np.mean(missed) < 0.3


def test_the_same_generator_gives_the_same_composite(bank, things):
    first, second = (_made(4, bank, things)[1] for _ in range(2))
    assert (first.x == second.x).all() and (first.mask == second.mask).all()


def test_an_empty_object_is_refused(rng):
    with pytest.raises(EditError, match="empty"):
        shadows.composite(rng, np.zeros((32, 32, 3), np.float32), np.zeros((8, 8, 4), np.float32))
