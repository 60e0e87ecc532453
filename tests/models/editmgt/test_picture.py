"""Photographs of any size on the trained square, and back."""

import pytest
import torch

from editkit.models.editmgt.picture import fit
from editkit.models.errors import EditError


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 64), (64, 10), (1, 64), (33, 64)])
def test_a_picture_of_the_squares_length_comes_back_exactly(height, width):
    picture = torch.rand(2, 3, height, width)
    square = fit(picture, 64)
    assert square.pixels.shape == (2, 3, 64, 64) and square.grid == (4, 4)
    assert torch.equal(square.restored(square.pixels), picture)


@pytest.mark.parametrize(("height", "width"), [(100, 50), (17, 33), (300, 301)])
def test_any_size_keeps_its_shape_and_comes_back_at_its_own(height, width):
    picture = torch.rand(1, 3, height, width)
    square = fit(picture, 64)
    assert max(square.inner) == 64
    assert abs(square.inner[0] / square.inner[1] - height / width) < 0.05 * height / width
    assert square.restored(square.pixels).shape == picture.shape


def test_the_rest_of_the_square_is_mirrored():
    picture = torch.rand(1, 3, 24, 64)
    pixels = fit(picture, 64).pixels
    assert torch.equal(pixels[..., 24:48, :], picture.flip(-2))
    assert torch.equal(pixels[..., 48:, :], picture[..., :16, :])


def test_a_mask_counts_by_its_share_of_a_token_and_of_the_picture_alone():
    square = fit(torch.rand(1, 3, 40, 64), 64)
    mask = torch.zeros(1, 40, 64)
    mask[:, 32:40, :16] = 1  # all that the picture has of its third row of tokens
    mask[:, :6, 16:32] = 1  # 6 of 16 rows
    assert square.tokens_in(mask).nonzero().tolist() == [[0, 2, 0]]
    assert square.tokens_in(mask, 0.3).nonzero().tolist() == [[0, 0, 1], [0, 2, 0]]
    assert not square.tokens_in(torch.ones(1, 40, 64))[:, 3].any()  # mirrored only


def test_tokens_cover_their_own_pixels():
    square = fit(torch.rand(1, 3, 40, 64), 64)
    values = torch.zeros(1, 4, 4)
    values[:, 1, 2] = 1
    out = square.tokens_out(values)
    expected = torch.zeros(1, 40, 64)
    expected[:, 16:32, 32:48] = 1
    assert torch.equal(out, expected)


@pytest.mark.parametrize("side", [0, 16, 100])
def test_a_side_that_is_no_even_number_of_tokens_is_said(side):
    with pytest.raises(EditError, match=str(side)):
        fit(torch.rand(1, 3, 8, 8), side)
