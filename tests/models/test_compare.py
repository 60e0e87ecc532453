"""Pairs, differences and heat maps on pictures whose values are known."""

import pytest
import torch

from editkit.models import compare


def plain(*values, size=(4, 6)):
    """Pictures [len(values), 3, h, w] of one grey each."""
    return torch.stack([torch.full((3, *size), float(v)) for v in values])


def test_the_shorter_batch_repeats_its_last_picture():
    made = compare.difference(plain(0.5), plain(0.5, 0.2, 0.9))
    assert made.amax((1, 2, 3)).tolist() == pytest.approx([0, 0.3, 0.4])
    made = compare.difference(plain(0.1, 0.2, 0.3), plain(0.1, 0.9))
    assert made.amax((1, 2, 3)).tolist() == pytest.approx([0, 0.7, 0.6])
    assert compare.repeated(plain(1, 2, 3), 2)[:, 0, 0, 0].tolist() == [1, 2]


def test_b_is_scaled_to_a():
    half = torch.cat([torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)], dim=3)
    made = compare.difference(half, half[..., ::2, ::2])
    assert made.shape == half.shape and made[..., :5].max() < 0.01 and made[..., 11:].max() < 0.01


def test_heat_is_transparent_where_nothing_is_and_ordered_where_something_is():
    ramp = torch.linspace(0, 1, 11)[None, None]
    made = compare.heat(ramp)[0, :, 0]
    assert made.shape == (4, 11) and made[3, 0] == 0 and made[3, -1] == 1
    assert (made[3].diff() > 0).all()
    light = (made[:3] * torch.tensor([0.299, 0.587, 0.114])[:, None]).sum(0)
    assert (light.diff() > 0).all()


def test_a_grey_map_is_heat_and_a_coloured_one_keeps_its_colours():
    grey, red = plain(0.5), torch.tensor([1.0, 0, 0])[None, :, None, None].expand(1, 3, 4, 6)
    assert torch.equal(compare.layer(grey, (8, 12)), compare.heat(torch.full((1, 8, 12), 0.5)))
    layer = compare.layer(red, (8, 12))
    assert torch.allclose(layer[:, :3], torch.tensor([1.0, 0, 0])[None, :, None, None].expand(1, 3, 8, 12), atol=1e-6)
    assert (layer[:, 3] == 1).all()


def test_a_mask_is_brought_to_the_pictures_size():
    layer = compare.layer(torch.ones(1, 2, 2), (8, 12))
    assert layer.shape == (1, 4, 8, 12) and (layer[:, 3] == 1).all()
