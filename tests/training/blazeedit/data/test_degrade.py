"""Degradations: how strong, in which direction, and the same for one picture and for a batch."""

import numpy as np
import pytest
import torch

from editkit.training.blazeedit.data import degrade

NAMES = ("china", "motorcycle_left")


def _generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def crops(bank):
    rng = np.random.default_rng(1)
    pictures = [bank.crop(rng, 64, NAMES) for _ in range(240)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _psnr(x, y):
    return -10 * (x - y).square().mean((1, 2, 3)).clamp_min(1e-9).log10()


@pytest.mark.parametrize(("spoil", "low", "high"), [("tone_batch", 16, 20.5), ("relight_batch", 18, 24)])
def test_the_input_is_as_far_from_the_truth_as_meant(crops, spoil, low, high):
    x = getattr(degrade, spoil)(crops, _generator(0))
    assert x.shape == crops.shape and x.min() >= 0 and x.max() <= 1
    assert low < _psnr(x, crops).mean() < high


def test_tone_errs_in_both_directions_and_on_colour(crops):
    x = degrade.tone_batch(crops, _generator(0))
    brighter = (x.mean((1, 2, 3)) > crops.mean((1, 2, 3))).float().mean()
    assert 0.35 < brighter < 0.65
    assert (x - crops).mean((2, 3)).std(1).mean() > 0.01


def test_relighting_only_takes_light_away_unevenly(crops):
    x = degrade.relight_batch(crops, _generator(0))
    assert (x - crops).max() < 2e-3
    ratio = (x.mean(1) + 0.01) / (crops.mean(1) + 0.01)
    assert ratio.flatten(1).std(1).median() > 0.05


def test_shade_is_darkness_between_0_and_1_with_soft_and_sharp_borders():
    shade = degrade.shade_field(60, 48, 48, _generator(2))
    assert shade.shape == (60, 48, 48) and shade.min() >= 0 and shade.max() <= 1
    steepest = shade.diff(dim=2).abs().flatten(1).amax(1)
    assert steepest.min() < 0.1 and steepest.max() > 0.3


@pytest.mark.parametrize("name", ["tone", "relight"])
def test_one_picture_gets_the_very_same_degradation_as_a_batch(crops, name):
    picture = crops[0].permute(1, 2, 0).numpy()
    x = getattr(degrade, name)(picture, np.random.default_rng(9))
    seed = int(np.random.default_rng(9).integers(2**62))
    batch = getattr(degrade, f"{name}_batch")(crops[:1], _generator(seed))
    assert x.shape == picture.shape and (x == batch[0].permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("name", ["tone_batch", "relight_batch"])
def test_a_seed_decides_and_the_picture_is_not_changed(crops, name):
    spoil, before = getattr(degrade, name), crops[:8].clone()
    first, second, other = (spoil(crops[:8], _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(before, crops[:8])


def test_any_picture_size_is_taken():
    y = torch.rand(2, 3, 37, 51, generator=_generator(0))
    assert (
        degrade.relight_batch(y, _generator(1)).shape == degrade.tone_batch(y, _generator(1)).shape == y.shape
    )
