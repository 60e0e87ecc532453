"""What an edit changed inside and left outside, on pictures whose answer is known."""

import math

import pytest
import torch

from editkit.models import measures
from editkit.models.race.measuring import measure


@pytest.fixture
def original():
    return torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1)) * 0.5


@pytest.fixture
def mask():
    made = torch.zeros(1, 48, 64)
    made[:, 16:32, 20:44] = 1
    return made


def test_an_edit_inside_the_mask_leaves_the_outside_perfect(original, mask):
    found = measure(original, original + 0.2 * mask[:, None], mask)
    assert found.inside == pytest.approx(0.2, abs=1e-6)
    assert found.psnr == measures.CEILING and found.ssim == pytest.approx(1, abs=1e-9) and found.size is None


def test_a_change_outside_is_measured_there_and_not_inside(original, mask):
    found = measure(original, original + 0.1 * (1 - mask[:, None]), mask)
    assert found.inside == pytest.approx(0, abs=1e-6) and found.psnr == pytest.approx(20, abs=1e-3)
    assert found.ssim < 0.99


def test_grey_in_the_mask_weighs_the_change(original, mask):
    soft = mask.clone()
    soft[:, 16:32, 20:32] = 0.5
    edited = original + 0.3 * (soft == 1)[:, None]
    assert measure(original, edited, soft).inside == pytest.approx(0.3 * 12 / (12 + 6), abs=1e-5)


def test_without_a_mask_all_is_inside_and_nothing_is_said_of_the_outside(original):
    found = measure(original, original + 0.1)
    assert found.inside == pytest.approx(0.1, abs=1e-6) and math.isnan(found.psnr) and math.isnan(found.ssim)


def test_another_size_is_scaled_and_told(original):
    large = torch.nn.functional.interpolate(original, scale_factor=2, mode="nearest")
    found = measure(original, large)
    assert found.size == (128, 96) and found.inside < 0.1


def test_a_batch_has_means(original, mask):
    pair = original.expand(2, -1, -1, -1)
    edited = pair + torch.tensor([0.1, 0.3])[:, None, None, None] * mask[:, None]
    assert measure(pair, edited, mask.expand(2, -1, -1)).inside == pytest.approx(0.2, abs=1e-6)


def test_a_mask_over_everything_has_no_outside(original):
    found = measure(original, original + 0.1, torch.ones(1, 48, 64))
    assert found.inside == pytest.approx(0.1, abs=1e-6) and math.isnan(found.psnr)
