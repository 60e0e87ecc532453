import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import turn


@pytest.mark.parametrize("pixel", [(0, 0), (7, 7), (8, 15), (39, 63)])
def test_a_latent_is_edited_when_a_single_pixel_of_it_is(pixel):
    mask = torch.zeros(40, 64)
    mask[pixel] = 0.6
    found = turn.latent_mask(mask, (5, 8), 2)
    assert found.shape == (1, 1, 5, 8) and int((found > 0).sum()) == 1
    assert float(found[0, 0, pixel[0] // 8, pixel[1] // 8]) == pytest.approx(0.6)


def test_the_strongest_value_in_a_latent_counts():
    mask = torch.rand(2, 40, 64, generator=torch.Generator().manual_seed(0))
    expected = mask.reshape(2, 5, 8, 8, 8).amax((2, 4))
    assert torch.equal(turn.latent_mask(mask, (5, 8), 2)[:, 0], expected)
    assert float(turn.latent_mask(7 * mask, (5, 8), 2).max()) == 1


@pytest.mark.parametrize("size", [(100, 90), (3, 5), (41, 63), (1, 1)])
def test_a_mask_of_another_shape_is_stretched_and_loses_nothing(size):
    mask, (row, column) = torch.zeros(1, *size), (size[0] // 2, size[1] // 2)
    mask[:, row, column] = 1
    for i, found in enumerate(turn.latent_mask(mask, (5, 8))[0, 0]):
        for j, value in enumerate(found):  # a latent's span [i / 5, (i + 1) / 5) overlaps the pixel's
            down = i * size[0] < (row + 1) * 5 and row * 5 < (i + 1) * size[0]
            across = j * size[1] < (column + 1) * 8 and column * 8 < (j + 1) * size[1]
            assert float(value) == (down and across)
    assert float(turn.latent_mask(torch.ones(1, *size), (5, 8)).min()) == 1
    assert float(turn.latent_mask(torch.zeros(1, *size), (5, 8)).max()) == 0


def test_held_values_come_back_to_the_bit_and_edited_ones_stay():
    random = torch.Generator().manual_seed(0)
    made, before = torch.randn(2, 2, 16, 6, 8, generator=random)
    mask = (torch.rand(1, 1, 6, 8, generator=random) > 0.5).float() * 0.3
    kept = made.clone()
    out = turn.restored(made, before, mask)
    held = (mask == 0).expand_as(out)
    assert torch.equal(out[held], before[held]) and torch.equal(out[~held], made[~held])
    assert torch.equal(made, kept)


def test_whole_latents_are_shown_in_pixels():
    shown = turn.in_pixels(torch.tensor([[[0.0, 1.0]]]))
    assert shown.shape == (1, 8, 16) and float(shown[:, :, :8].max()) == 0 and float(shown[:, :, 8:].min()) == 1


@pytest.mark.parametrize(("latent", "said"), [
    ({"samples": torch.zeros(1, 4, 8, 8)}, "has 4 channels and the MODEL's have 16"),
    ({"samples": torch.full((1, 16, 8, 8), float("nan"))}, "holds NaN"),
    ({"samples": torch.zeros(1, 16, 2, 8, 8)}, "not a latent of"),
    ({}, "is None, not a latent"),
])  # fmt: skip
def test_bad_latents_are_named(latent, said):
    with pytest.raises(EditError, match=f"The anchor.*{said}|The anchor {said}"):
        turn.checked(latent, "anchor", 16)


def test_masks_that_do_not_fit_are_named():
    with pytest.raises(EditError, match="3 masks do not fit 2 latents"):
        turn.latent_mask(torch.ones(3, 8, 8), (4, 4), 2)


def test_an_anchor_that_is_the_picture_is_known():
    a = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    assert turn.same(a, a.clone()) and not turn.same(a, a + 1) and not turn.same(a, a[..., :2])
