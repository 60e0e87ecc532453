"""The measures on pictures whose values are known."""

import cv2
import numpy as np
import pytest

from editkit.models import measures

SIZE = 128


@pytest.fixture
def picture():
    """Noise of one scale: textured, without any pattern."""
    noise = np.random.default_rng(1).random((SIZE, SIZE, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 0.8)


@pytest.fixture
def hole():
    region = np.zeros((SIZE, SIZE), bool)
    region[30:94, 30:94] = True
    return region


def test_equal_pictures_have_the_ceiling_and_ratio_one(picture, hole):
    assert measures.psnr(picture, picture) == measures.CEILING
    assert measures.ssim(picture, picture) == pytest.approx(1)
    assert measures.gradient_ratio(picture, picture, hole) == pytest.approx(1)


def test_the_similarity_is_that_of_opencvs_window(picture):
    noise = np.random.default_rng(2).random(picture.shape).astype(np.float32)
    other = 0.8 * picture + 0.15 + 0.05 * noise
    blur = lambda v: cv2.GaussianBlur(v, (11, 11), 1.5)  # noqa: E731
    a, b = (p.astype(np.float64) @ measures.LUMA for p in (picture, other))
    (ma, mb), c1, c2 = (blur(a), blur(b)), 0.01**2, 0.03**2
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    full = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    region = np.zeros(a.shape, bool)
    region[:40, 50:] = True
    assert measures.ssim(other, picture) == pytest.approx(full.mean(), abs=1e-7)
    assert measures.ssim(other, picture, region) == pytest.approx(full[region].mean(), abs=1e-7)
    assert np.isnan(measures.ssim(other, picture, np.zeros_like(region)))


def test_psnr_of_a_known_error_and_only_in_its_region(picture, hole):
    other = picture.copy()
    other[hole] += 0.1
    assert measures.psnr(other, picture, hole) == pytest.approx(20, abs=1e-3)
    assert measures.psnr(other, picture, ~hole) == measures.CEILING
    assert np.isnan(measures.psnr(picture, picture, np.zeros_like(hole)))


def test_half_the_contrast_has_half_the_gradients(picture, hole):
    assert measures.gradient_ratio(0.5 * picture + 0.25, picture, hole) == pytest.approx(0.5, abs=1e-3)


def test_a_blurred_fill_is_farther_in_patches_than_its_own_texture(picture, hole):
    blurred = np.where(hole[..., None], cv2.GaussianBlur(picture, (0, 0), 4), picture)
    assert measures.patch_distance(blurred, hole) > 4 * measures.patch_distance(picture, hole)


def test_tiles_at_the_latent_pitch_show_as_lattice(picture, hole):
    tiles = picture.copy()
    steps = (np.arange(SIZE) // 8 % 2 * 0.3).astype(np.float32)
    tiles[hole] = np.broadcast_to(steps[None, :, None], tiles.shape)[hole] + 0.1 * picture[hole]
    assert measures.lattice(tiles, hole) > 1.3
    assert measures.lattice(picture, hole) < 1.15


def test_a_comb_has_a_high_autocorrelation_and_noise_a_low_one(picture, hole):
    comb = picture.copy()
    comb[hole] += 0.4 * np.broadcast_to((np.arange(SIZE) % 6 < 3)[None, :, None], comb.shape)[hole]
    assert measures.autocorrelation(comb, hole) > 0.7
    assert measures.autocorrelation(picture, hole) < 0.3


def test_autocorrelation_equals_the_sum_over_pairs(picture, hole):
    small = np.zeros_like(hole)
    small[40:64, 50:80] = True
    field = measures._high_pass(picture)
    best = -1.0
    for dy in range(-24, 25):
        for dx in range(-24, 25):
            both = small & np.roll(small, (-dy, -dx), (0, 1))
            if not measures.LAGS[0] <= np.hypot(dy, dx) <= measures.LAGS[1] or both.sum() <= small.sum() / 4:
                continue
            a, b = field[both], np.roll(field, (-dy, -dx), (0, 1))[both]
            scale = np.sqrt((a**2).sum() * (b**2).sum()) + both.sum() * measures.FLOOR**2
            best = max(best, float((a * b).sum() / scale))
    assert measures.autocorrelation(picture, small) == pytest.approx(best, abs=1e-3)


def test_a_smooth_fill_is_neither_comb_nor_lattice(picture, hole):
    ramp = picture.copy()
    ramp[hole] = np.broadcast_to(np.linspace(0.2, 0.6, SIZE, dtype=np.float32)[None, :, None], ramp.shape)[
        hole
    ]
    assert measures.lattice(ramp, hole) < 1.05
    assert measures.autocorrelation(np.full_like(ramp, 0.5), hole) < 0.1
