"""Every function that the page ports gives what the Python pipeline gives; only the order of float sums differs."""

import pytest
import torch
from torch.nn import functional as F

from editkit.models import filters, image, masks, region
from editkit.models.blazeedit import cutout, delivery, guess, maps, offsets, texture, work
from editkit.models.blazeedit.first_guess import TONE_BLEND, TONE_LIMIT
from editkit.tests.browser.conftest import K, disc, rectangle, smooth_picture, worst

CLOSE = 1e-4


@pytest.mark.parametrize("mode", ["bicubic", "area", "nearest", "bilinear"])
@pytest.mark.parametrize("size", [(64, 96), (33, 41), (150, 201)])
def test_resizing(js, mode, size):
    x = smooth_picture(97, 140)
    if mode == "bilinear":
        wanted = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    else:
        wanted = image.resize(x, size, mode=mode)
    assert worst(js("resize.js", "resize", x, *size, mode), wanted) < CLOSE


def test_enlarging(js):
    x = smooth_picture(23, 31)
    wanted = filters.Enlarged(x, (111, 200)).window(slice(0, 111))
    assert worst(js("", "enlarged", x, 111, 200), wanted) < CLOSE


@pytest.mark.parametrize("pad", ["replicate", "constant"])
@pytest.mark.parametrize("sigma", [0.7, 5.0, 29.0])
def test_gaussian_blurs_narrow_and_wide(js, sigma, pad):
    x = smooth_picture(90, 131)
    wanted = filters.gaussian_blur(x, sigma, pad=pad)
    assert worst(js("filters.js", "gaussianBlur", x, sigma, K, pad), wanted) < CLOSE


def test_masked_box_and_guided_blurs(js):
    x, known = smooth_picture(70, 91), 1 - disc(70, 91, 30, 40, 17)
    assert worst(js("filters.js", "maskedBlur", x, known, 3.0, K), filters.masked_blur(x, known[:, None], 3.0)) < CLOSE
    assert worst(js("filters.js", "boxBlur", x, 6), filters.box_blur(x, 6)) < CLOSE
    luma = image.luminance(x)
    found, wanted = js("filters.js", "guidedFilter", luma, x, 4, 0.01), filters.guided_filter(luma, x, 4, 0.01)
    assert worst(found["slope"], wanted[0]) < 10 * CLOSE  # a quotient of differences
    assert worst(found["offset"], wanted[1]) < 10 * CLOSE


@pytest.mark.parametrize("radius", [1, 5, 19, 70])
def test_growing(js, radius):
    mask = disc(200, 260, 90, 120, 30) * 0.7
    assert worst(js("masks.js", "grow", mask, radius, K)[0], masks.grow(mask, radius)) < CLOSE


@pytest.mark.parametrize("box", [(40, 90, 30, 150), (0, 20, 0, 30), (100, 187, 200, 251)])
@pytest.mark.parametrize(("context", "minimum"), [(2.0, 64), (3.6, 96), (1.15, 64)])
def test_windows_around_a_mask(js, box, context, minimum):
    mask = rectangle(187, 251, *box)
    crop = region.crop_around(mask[:, None], mask, context=context, multiple=8, minimum=minimum)[2]
    assert js("region.js", "cropAround", mask, context, minimum, K) == vars(crop)


@pytest.mark.parametrize("margins", [(0, 0, 90, 90), (40, 0, 0, 0), (30, 41, 52, 63)])
def test_new_strips(js, margins):
    left, top, right, bottom = margins
    hole = F.pad(torch.zeros(1, 300, 400), (left, right, top, bottom), value=1.0)
    wanted = [[vars(a), vars(b)] for a, b in region.new_strips(hole, K["strip_context"])]
    canvas = {"height": hole.shape[1], "width": hole.shape[2]}
    place = {"top": top, "left": left, "height": 300, "width": 400}
    assert js("region.js", "newStrips", canvas, place, K) == wanted


@pytest.mark.parametrize("hole", [disc(101, 150, 50, 70, 28), rectangle(101, 150, 0, 60, 100, 150)])
def test_the_membrane(js, hole):
    x = smooth_picture(101, 150)
    assert worst(js("guess.js", "membrane", x, hole, K), guess.membrane(x, hole)) < CLOSE


def test_the_membrane_of_a_picture_that_is_all_hole(js):
    x, hole = smooth_picture(40, 50), torch.ones(1, 40, 50)
    assert worst(js("guess.js", "membrane", x, hole, K), torch.full_like(x, 0.5)) < CLOSE


@pytest.mark.parametrize("box", [(0, 96, 30, 110), (20, 96, 0, 128), (17, 70, 33, 101)])
def test_continued_borders(js, box):
    x, hole = smooth_picture(96, 128), 1 - rectangle(96, 128, *box)
    found = torch.where(hole[:, None] > 0, js("guess.js", "extend", x, hole, K), x)
    assert worst(found, guess.extend(x, hole)) < CLOSE


@pytest.mark.parametrize("picture", [0.3 + 0.3 * smooth_picture(120, 90), smooth_picture(600, 700)])
def test_the_partial_stretch(js, picture):
    points = js("guess.js", "stretchPoints", picture, K)
    wanted = guess.partial_stretch(picture, TONE_BLEND, TONE_LIMIT)
    assert worst(js("guess.js", "partialStretch", picture, points, K), wanted) < CLOSE


@pytest.mark.parametrize("size", [(256, 200), (90, 130), (700, 900)])
def test_the_stickers_guess(js, size):
    x, mask = smooth_picture(*size), disc(*size, size[0] / 2, size[1] / 2, min(size) / 3)
    found, wanted = js("guess.js", "stickerGuess", x, mask, K), guess.sticker_guess(x, mask)
    assert worst(found, wanted) < 20 * CLOSE  # the ink multiplies differences of blurs by 22


def test_seam_correction(js):
    fill, picture, hole = smooth_picture(80, 96, 1), smooth_picture(80, 96, 2), disc(80, 96, 40, 40, 20)
    found = js("guess.js", "seamCorrection", fill, picture, hole, K)
    inside = (hole[:, None] > 0).expand_as(fill)
    wanted = delivery.seam_correction(fill, picture, hole)
    assert float((found - wanted)[inside].abs().max()) < CLOSE


def test_the_colour_map(js):
    source, target = smooth_picture(60, 80), smooth_picture(60, 80) ** 0.8 * 0.9 + 0.03
    target = target + 0.02 * smooth_picture(60, 80, seed=5)
    found = js("maps.js", "fitColourMap", source, target, K)
    wanted = delivery.fit_colour_map(source, target)
    mapped = js("maps.js", "applyColourMap", source, found.tolist())
    assert worst(mapped, delivery.apply_colour_map(source, wanted)) < CLOSE
    strip = js("maps.js", "recoloured", source, found.tolist(), K)
    white = delivery.apply_colour_map(torch.ones(1, 3, 1, 1), wanted)
    lifted = (delivery.apply_colour_map(source, wanted) + maps.highlights(source, white)).clamp(0, 1)
    drop = float((1 - white).max())
    share = min(1.0, maps.WHITE_DROP / drop) if drop > 0 else 1.0
    assert worst(strip, torch.lerp(source, lifted, share)) < CLOSE


def test_gains_reach_the_picture_along_its_edges(js):
    picture, small = smooth_picture(210, 150), 0.8 * (smooth_picture(96, 68, 3) - 0.5)
    found = js("", "upsampleGain", small, picture, 3, 0.02)
    assert worst(found, delivery.upsample_gain(small, picture)) < CLOSE
    lit = js("maps.js", "applyGain", picture, found)
    assert worst(lit, delivery.apply_gain(picture, found)) < CLOSE
    assert worst(js("maps.js", "fadeGain", small, 0.05), delivery.fade_gain(small, 0.05)) < CLOSE


def test_only_gain_that_touches_the_hole_counts(js):
    hole = disc(64, 96, 30, 30, 10)
    gain = 0.3 * torch.stack([torch.maximum(disc(64, 96, 44, 40, 9), disc(64, 96, 20, 80, 9))] * 3, dim=1)
    found = js("maps.js", "attached", gain, hole, K)
    assert worst(found, maps.attached(gain, hole)) < CLOSE
    assert float(found[0, 0, 44, 40]) > 0.9 and float(found[0, 0, 20, 80]) < 0.1


@pytest.mark.parametrize("ends", [(True, False), (False, False), (True, True)])
def test_the_taper(js, ends):
    found = js("maps.js", "taper", 77, *ends, K)
    assert worst(torch.from_numpy(found), maps._ramp(77, *ends, torch.zeros(1))) < CLOSE


def test_known_pixels_are_averaged_over_known_pixels_only(js):
    x, hole = smooth_picture(150, 210), disc(150, 210, 60, 90, 31)
    found = js("work.js", "shrinkKnown", x, 1 - hole, 64, 88)
    wanted = work.shrink_known(x, hole, (64, 88))
    assert worst(found["image"], wanted[0]) < CLOSE and worst(found["hole"][0], wanted[1]) == 0


def test_correlation(js):
    a, b = smooth_picture(21, 34, 1)[:, :1], smooth_picture(21, 34, 2)[:, :1]
    found = js("", "correlate", a.flatten().numpy(), b.flatten().numpy(), 21, 34)
    wanted = offsets._correlate(a, b)
    assert worst(torch.from_numpy(found).view_as(wanted), wanted) < 1e-2  # float32 FFT of sums around 150


@pytest.mark.parametrize(
    ("size", "hole", "sigma"),
    [
        ((160, 200), disc(160, 200, 80, 100, 24), 1.5),
        ((300, 420), rectangle(300, 420, 90, 200, 130, 300), 3.4),
        ((400, 500), disc(400, 500, 210, 260, 90), 9.0),  # worked out on a smaller canvas
        ((200, 420), rectangle(200, 420, 0, 200, 300, 420), 3.1),
    ],
)
def test_copied_texture(js, size, hole, sigma):
    photo = smooth_picture(*size)
    guide = guess.membrane(photo, hole)
    found = js("texture.js", "coherentCopy", photo, hole, guide, {"sigma": sigma, "gain": 0.85}, K)
    wanted = texture.coherent_copy(photo, hole, guide, sigma=sigma, gain=0.85)
    assert float((wanted - guide).abs().max()) > 0.03  # texture was copied
    assert worst(found, wanted) < 5 * CLOSE


def test_stickers_are_cut_out_alike(js):
    x, mask = smooth_picture(150, 120), masks.feather(disc(150, 120, 70, 60, 40), 2)
    for border, shadow in ((0, False), (5, True), (40, True), (6, False)):
        found = js("sticker.js", "dieCut", x, mask, border, shadow, K)
        assert worst(found, cutout.die_cut(x, mask, border, shadow)) < CLOSE


def test_mirrored_canvases(js):
    x = smooth_picture(40, 56)
    positions = [torch.tensor([min(i % (2 * n), 2 * n - 1 - i % (2 * n)) for i in range(128)]) for n in (40, 56)]
    wanted = x[:, :, positions[0]][:, :, :, positions[1]]
    assert worst(js("", "mirrored", x, 128), wanted) == 0
