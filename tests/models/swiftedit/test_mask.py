"""The self-guided mask."""

import pytest
import torch

from editkit.models.swiftedit import mask as masks


def noises(seed=0, shape=(3, 4, 16, 12)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_the_difference_is_the_mean_over_channels():
    one, two = noises()
    expected = sum((one[:, c] - two[:, c]).abs() for c in range(4)) / 4
    torch.testing.assert_close(masks.difference(one, two), expected)


def test_with_the_released_numbers_it_is_where_the_difference_exceeds_one_and_a_half_means():
    one, two = noises()
    difference = masks.difference(one, two)
    expected = difference > 1.5 * difference.mean((1, 2), keepdim=True)
    assert torch.equal(masks.self_guided(one, two), expected.float())
    assert 0 < expected.float().mean() < 1


@pytest.mark.parametrize("clamp, threshold", [(2.5, 0.55), (4.0, 0.2)])
def test_clamp_and_threshold_act_by_their_product(clamp, threshold):
    one, two = noises()
    difference = masks.difference(one, two)
    expected = difference > clamp * threshold * difference.mean((1, 2), keepdim=True)
    assert torch.equal(masks.self_guided(one, two, clamp, threshold), expected.float())


def test_a_threshold_of_one_or_more_gives_black():
    assert masks.self_guided(*noises(), threshold=1.0).sum() == 0


def test_a_pixel_at_the_threshold_is_outside():
    zeros, ones = torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 4, 4)  # everywhere half of twice the mean
    assert masks.self_guided(zeros, ones, clamp=2.0, threshold=0.5).sum() == 0
    assert masks.self_guided(zeros, ones, clamp=2.0, threshold=0.49).mean() == 1


def test_equal_noises_give_black():
    one, _ = noises()
    assert masks.self_guided(one, one).sum() == 0
    assert torch.equal(masks.normalised(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_every_picture_has_its_own_scale():
    one, two = noises()
    louder = torch.tensor([1.0, 10.0, 0.1])[:, None, None, None]
    assert torch.equal(masks.self_guided(one * louder, two * louder), masks.self_guided(one, two))


def test_the_normalised_difference_reaches_one_at_the_clamp():
    difference = torch.tensor([[[0.0, 0.0, 1.0, 7.0]]])  # its mean is 2
    torch.testing.assert_close(masks.normalised(difference, 3.0), torch.tensor([[[0.0, 0.0, 1 / 6, 1.0]]]))


def test_a_clamp_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="The clamp is 0; use a value above 0"):
        masks.normalised(torch.ones(1, 2, 2), 0)
