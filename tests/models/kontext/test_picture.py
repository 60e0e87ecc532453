"""A reference's budget: its size, and a mask that goes with it."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import picture


@pytest.mark.parametrize("size", [(1024, 1024), (4000, 900), (333, 2001)])
@pytest.mark.parametrize("megapixels", [0.25, 1.0, 2.0])
def test_a_budget_is_kept_and_the_shape_too(size, megapixels):
    width, height = picture.size_of(*size, megapixels)
    assert width * height <= megapixels * 2**20 and (width, height) <= size
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)


def test_a_small_picture_keeps_its_size_and_none_is_no_budget():
    assert picture.size_of(100, 200, 0.25) == (100, 200) and picture.size_of(9000, 9000, 0) == (9000, 9000)


def test_edges_are_repeated_to_whole_tokens():
    image = torch.rand(1, 3, 30, 50)
    made = picture.within(image, 0)
    assert made.shape == (1, 3, 32, 64) and torch.equal(made[..., :30, :50], image)
    assert torch.equal(made[..., :30, 63], image[..., 49]) and torch.equal(made[..., 31, :50], image[..., 29, :])


def test_a_mask_is_scaled_and_padded_as_its_picture():
    mask = torch.zeros(600, 1000)
    mask[:, 500:] = 1
    made = picture.mask_within(mask, (600, 1000), 0.25)
    assert made.shape == picture.within(torch.zeros(1, 3, 600, 1000), 0.25).shape[-2:]
    assert made[:, -1].eq(1).all() and made[:, 0].eq(0).all() and 0.48 < float(made.mean()) < 0.54


@pytest.mark.parametrize("megapixels", [-1, 3])
def test_an_impossible_budget_is_refused(megapixels):
    with pytest.raises(EditError, match=str(megapixels)):
        picture.size_of(10, 10, megapixels)
