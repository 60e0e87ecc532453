"""Pixel metrics against formulas in numpy and against scikit-image."""

import math

import numpy as np
import pytest
from PIL import Image

from editkit.benchmarks.evaluation.metrics import pixels, views
from editkit.benchmarks.evaluation.samples import Picture, Sample
from editkit.tests.benchmarks.evaluation import layouts

DRAW = np.random.default_rng(4)
A, B = (DRAW.random((30, 41, 3)).astype(np.float32) for _ in range(2))
REGION = np.zeros((30, 41), bool)
REGION[5:20, 8:30] = True


def test_known_answers():
    black, grey = np.zeros((20, 20, 3), np.float32), np.full((20, 20, 3), 0.1, np.float32)
    assert pixels.l1(grey, black) == pytest.approx(0.1)
    assert pixels.l2(grey, black) == pytest.approx(0.01)
    assert pixels.psnr(grey, black) == pytest.approx(20, abs=1e-4)
    assert pixels.psnr(grey, grey) == pixels.CEILING and pixels.ssim(grey, grey) == pytest.approx(1)


def test_l1_and_l2_are_numpys_means():
    assert pixels.l1(A, B) == pytest.approx(np.abs(A.astype(float) - B).mean())
    assert pixels.l2(A, B) == pytest.approx(((A.astype(float) - B) ** 2).mean())
    assert pixels.l1(A, B, REGION) == pytest.approx(np.abs(A.astype(float) - B)[REGION].mean())
    assert math.isnan(pixels.l1(A, B, np.zeros_like(REGION)))


def test_outside_blackens_the_region_and_counts_all_pixels():
    a, b = pixels.outside(A, B, REGION)
    squares = ((A.astype(float) - B) ** 2).mean(2)
    assert pixels.mse(a, b) == pytest.approx(squares[~REGION].sum() / REGION.size)
    assert pixels.psnr(a, b) == pytest.approx(-10 * np.log10(squares[~REGION].sum() / REGION.size), abs=1e-4)
    assert pixels.outside(A, B, np.ones_like(REGION)) is None


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy = np.clip(A + 0.2 * B, 0, 1).astype(np.float32)
    expected = metrics.structural_similarity(
        A, noisy, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    assert pixels.ssim(noisy, A) == pytest.approx(expected, abs=1e-5)
    assert pixels.psnr(noisy, A) == pytest.approx(metrics.peak_signal_noise_ratio(A, noisy, data_range=1), abs=1e-4)


def test_pictures_that_are_too_small_have_no_ssim():
    assert math.isnan(pixels.ssim(A[:10], B[:10]))


def sample(source, **more) -> Sample:
    return Sample("x", Picture("source", lambda: source), **more)


def test_the_result_is_compared_at_the_size_of_what_it_is_compared_with():
    photo = layouts.photographs()[0]
    target = photo.resize((36, 32))
    seen = views.Views(sample(photo, target=Picture("target", lambda: target)), photo, photo.resize((144, 128)))
    assert seen.result.shape == seen.source.shape == (64, 72, 3)
    assert seen.result_as_target.shape == seen.target.shape == (32, 36, 3)
    assert np.array_equal(seen.result_as_target, views.values(photo.resize((144, 128)).resize((36, 32))))


def test_large_pictures_are_measured_smaller():
    photo = Image.new("RGB", (views.SIDE * 2, 100), (9, 8, 7))
    seen = views.Views(sample(photo), photo, photo)
    assert seen.source.shape == (50, views.SIDE, 3)


def test_the_region_comes_to_the_pictures_size_without_grey():
    photo, half = layouts.photographs()[0], layouts.mask().resize((36, 32))
    seen = views.Views(sample(photo, mask=Picture("mask", lambda: half)), photo, photo)
    left, top, right, bottom = layouts.BOX
    assert seen.region.sum() == (right - left) * (bottom - top) and seen.region[top, left]


@pytest.mark.parametrize("size", [(72, 64), (64, 72), (50, 50)])
def test_preprocessing_is_that_of_transformers(size):
    processors = pytest.importorskip("transformers")
    photo = layouts.photographs()[1].resize(size)
    own = views.prepared(photo, 32, 28, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    made = processors.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, resample=3,
        image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4],
    )(photo, return_tensors="np")["pixel_values"][0]  # fmt: skip
    assert own.shape == (3, 28, 28)
    # the processor rounds no value but may cut the square out one pixel further
    assert np.abs(own - made).max() < 1e-5
