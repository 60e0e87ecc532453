"""Fitting pictures of any size and shape, and undoing it."""

import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.kontext import fit

SIDES = [(1, 1), (7, 5), (64, 64), (1000, 1500), (1500, 1000), (1023, 1025), (300, 3000), (3000, 40)]


def picture(height, width, channels=3, count=1):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(height + width))


@pytest.mark.parametrize(("height", "width"), SIDES)
@pytest.mark.parametrize("size", [fit.MEGAPIXEL, fit.NEAREST, fit.OWN, "832 x 1248"])
def test_at_most_15_pixels_are_added_and_the_shape_stays(height, width, size):
    pixels, fitted = fit.fit(picture(height, width), None, size)
    h, w = pixels.shape[-2:]
    assert h % 16 == 0 and w % 16 == 0 and (h, w) == fitted.size
    assert 0 <= h - fitted.inner[0] <= 15 and 0 <= w - fitted.inner[1] <= 15
    factor = (fitted.inner[0] * fitted.inner[1] / (height * width)) ** 0.5
    for inner, side in zip(fitted.inner, (height, width)):  # neither cropped nor squashed, but for whole pixels
        assert abs(inner - side * factor) <= 1.0 + 0.01 * side * factor
    assert torch.equal(pixels[..., fitted.inner[0] :, :], pixels[..., fitted.inner[0] - 1 : fitted.inner[0], :].expand(
        -1, -1, h - fitted.inner[0], -1))  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(1000, 1500), (3000, 4000), (200, 300), (500, 1700)])
def test_a_megapixel_is_a_megapixel(height, width):
    _, fitted = fit.fit(picture(height, width), None)
    assert fitted.inner[0] * fitted.inner[1] == pytest.approx(1024**2, rel=0.002)
    assert fitted.inner[1] / fitted.inner[0] == pytest.approx(width / height, rel=0.002)


@pytest.mark.parametrize("size", fit.TRAINED)
def test_a_picture_of_a_trained_shape_gets_the_trained_size(size):
    width, height = size
    assert len(fit.TRAINED) == 17 and fit.nearest(2 * height, 2 * width) == size
    for name in (fit.NEAREST, f"{width} x {height}"):
        pixels, fitted = fit.fit(picture(height // 16, width // 16), None, name)
        assert pixels.shape[-2:] == (height, width) == fitted.inner


def test_a_trained_size_holds_the_whole_picture():
    _, fitted = fit.fit(picture(1000, 1000), None, "1568 x 672")
    assert fitted.inner == (672, 672)
    _, fitted = fit.fit(picture(1000, 1100), None, fit.NEAREST)
    assert fitted.size[0] <= 944 and fitted.size[1] <= 1104 and fitted.inner[0] / fitted.inner[1] == pytest.approx(
        1000 / 1100, rel=0.002)  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(50, 70), (48, 64), (1, 33)])
def test_padding_alone_is_undone_to_the_bit(height, width):
    rgb = picture(height, width, count=2)
    pixels, fitted = fit.fit(rgb, None, fit.OWN)
    assert torch.equal(fit.unfit(pixels, fitted)[0], rgb)


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_outside_the_mask_the_original_is_bit_identical(height, width):
    rgb, mask = picture(height, width), torch.zeros(1, height, width)
    mask[:, : max(1, height // 2), : max(1, width // 2)] = 1
    pixels, fitted = fit.fit(rgb, picture(height, width, 1)[:, 0])
    kept = rgb.clone(), mask.clone()
    out, alpha, changed = fit.unfit(1 - pixels, fitted, mask, feather=4)
    held = (mask == 0)[:, None].expand_as(rgb)
    assert out.shape == rgb.shape and torch.equal(out[held], rgb[held]) and bool((changed[mask == 0] == 0).all())
    assert torch.equal(alpha, fitted.alpha)
    assert torch.equal(rgb, kept[0]) and torch.equal(mask, kept[1])
    if min(height, width) > 64:
        assert float(changed[:, : height // 4, : width // 4].min()) == 1 and not torch.equal(out, rgb)


def test_an_enlarged_edit_comes_back_sharp():
    rgb = picture(80, 100)
    pixels, fitted = fit.fit(rgb, None, fit.OWN)
    larger = pixels.repeat_interleave(3, -1).repeat_interleave(3, -2)
    assert float((fit.unfit(larger, fitted)[0] - rgb).abs().mean()) < 0.2
    with pytest.raises(EditError, match="112x79 px is not the fitted one: that is 112x80"):
        fit.unfit(pixels[..., :-1, :], fitted)


def test_a_mask_goes_in_and_out_with_its_picture():
    rgb, mask = picture(600, 900), torch.zeros(1, 600, 900)
    mask[:, 200:400, 300:500] = 1
    _, fitted = fit.fit(rgb, None)
    inside = fitted.mask_in(mask)
    assert inside.shape[-2:] == fitted.size
    factor = fitted.inner[0] / 600
    assert float(inside.sum()) == pytest.approx(200 * 200 * factor**2, rel=0.01)
    back = fitted.mask_out(inside, 1)
    assert back.shape == mask.shape and float((back - mask).abs().mean()) < 0.003
    # a mask of the fitted size loses its padding, it is not squashed into the picture
    lower = torch.zeros(1, *fitted.size)
    lower[:, fitted.inner[0] // 2 :] = 1
    assert fitted.mask_out(lower, 1)[0, :295].max() < 1e-6 < 0.999 < fitted.mask_out(lower, 1)[0, 305:].min()


def test_one_picture_serves_many_edits_and_others_are_refused():
    rgb = picture(40, 40)
    pixels, fitted = fit.fit(rgb, None, fit.OWN)
    assert fit.unfit(pixels.repeat(3, 1, 1, 1), fitted)[0].shape[0] == 3
    both, fitted = fit.fit(picture(40, 40, count=2), None, fit.OWN)
    with pytest.raises(EditError, match="3 edited pictures do not fit 2"):
        fit.unfit(both[:1].repeat(3, 1, 1, 1), fitted)
    with pytest.raises(EditError, match="'huge' is unknown"):
        fit.fit(rgb, None, "huge")
