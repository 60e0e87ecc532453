"""The filters of appendix B.2 against scipy, OpenCV and scikit-image, on square and other maps."""

import numpy as np
import pytest
import torch

from editkit.models.editmgt import smoothing
from editkit.models.errors import EditError

SIZES = [(32, 32), (9, 21), (16, 5), (64, 64)]


def maps(size, seed=0, count=2):
    """Blobs and noise in 0..1, [count, h, w]."""
    noise = torch.rand(count, *size, generator=torch.Generator().manual_seed(seed))
    return smoothing.rescale(smoothing.blur(noise, 1.0) + 0.2 * noise)


def each(function, x):
    """numpy's function on every map of a batch."""
    return torch.stack([torch.from_numpy(np.asarray(function(one.numpy()))) for one in x])


def finished(x, smoothed, peaks):
    """The released code's last steps, in numpy."""
    smoothed = smoothed.copy()
    if peaks:
        above = x > np.percentile(x, 90)
        smoothed[above] = 0.7 * x[above] + 0.3 * smoothed[above]
    smoothed = (smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())
    return smoothed * (x.max() - x.min()) + x.min()


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("size", SIZES)
def test_gaussian_is_scipys(size, strength):
    ndimage, x = pytest.importorskip("scipy.ndimage"), maps(size)
    expected = each(lambda one: ndimage.gaussian_filter(one, strength * 2.0, mode="reflect"), x)
    assert torch.allclose(smoothing.gaussian(x, strength), expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("size", SIZES)
def test_the_local_variance_is_scipys(size):
    ndimage, x = pytest.importorskip("scipy.ndimage"), maps(size)
    expected = each(lambda one: ndimage.generic_filter(one, np.var, size=5), x)
    assert torch.allclose(smoothing.local_variance(x.double()).float(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("peaks", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_adaptive_with_its_last_steps_is_the_papers(size, peaks):
    ndimage, x = pytest.importorskip("scipy.ndimage"), maps(size)

    def reference(one):
        variance = ndimage.generic_filter(one, np.var, size=5)
        weight = 1 - 0.7 * (variance - variance.min()) / (variance.max() - variance.min() + 1e-8)
        return finished(one, weight * ndimage.gaussian_filter(one, 1.5) + (1 - weight) * one, peaks)

    assert torch.allclose(smoothing.smooth(x, preserve_peaks=peaks), each(reference, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("size", SIZES)
def test_bilateral_is_opencvs_to_a_grey(size, strength):
    cv2, x = pytest.importorskip("cv2"), maps(size)
    sigma = strength * 75

    def reference(one):
        return cv2.bilateralFilter((one * 255).astype(np.uint8), int(strength * 9), sigma, sigma)

    greys = smoothing.bilateral(x, strength) * 255
    difference = (greys - each(reference, x)).abs()
    # discs of 3 and 5 tokens have code of their own in OpenCV, which cuts where all else rounds
    most = 0.01 if strength != 0.3 else 1
    assert difference.max() < 1.01 and (difference > 0.01).float().mean() < most


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", SIZES)
def test_morphological_is_scikit_images(size, strength):
    morphology, x = pytest.importorskip("skimage.morphology"), maps(size)
    disc = morphology.disk(max(3, int(strength * 5)))
    expected = each(lambda one: morphology.closing(morphology.opening(one, disc), disc), x)
    assert torch.equal(smoothing.morphological(x, strength), expected)


@pytest.mark.parametrize("method", smoothing.FILTERS)
def test_a_batch_is_its_maps_one_by_one_and_keeps_their_ranges(method):
    x = maps((12, 20), count=3) * torch.tensor([1.0, 0.5, 0.25])[:, None, None] + 0.1
    together = smoothing.smooth(x, method)
    alone = torch.cat([smoothing.smooth(one[None], method) for one in x])
    assert (
        torch.allclose(together, alone, atol=1e-6) and together.shape == x.shape and together.dtype == x.dtype
    )
    assert torch.allclose(together.amin((1, 2)), x.amin((1, 2)), atol=1e-6)
    assert torch.allclose(together.amax((1, 2)), x.amax((1, 2)), atol=1e-6)


@pytest.mark.parametrize("method", smoothing.FILTERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (12, 12)])
def test_a_constant_map_stays_and_tiny_maps_pass(method, size):
    constant = torch.full((2, *size), 0.4)
    made = smoothing.smooth(constant, method, strength=5.0)
    assert torch.allclose(made, constant, atol=1 / 255)
    assert smoothing.smooth(torch.rand(1, *size), method).isfinite().all()


def test_rescaling_is_per_map_and_survives_a_constant_one():
    x = torch.stack([torch.arange(6.0), torch.full((6,), 3.0)])
    made = smoothing.rescale(x)
    assert torch.allclose(made[0], torch.arange(6.0) / 5) and torch.equal(made[1], torch.zeros(6))


def test_peaks_are_seven_tenths_what_they_were():
    x = maps((10, 10), count=1)
    above = x > np.percentile(x.numpy(), 90)
    smoothed = torch.full_like(x, 0.2)
    smoothed[0, 0, :2] = torch.tensor([0.0, 1.0])  # spans the range, so that the last step changes nothing
    x[0, 0, :2] = torch.tensor([0.0, 1.0])
    above = x > np.percentile(x.numpy(), 90)
    made = smoothing.finish(x, smoothed)
    assert torch.allclose(made[above], 0.7 * x[above] + 0.3 * smoothed[above])
    assert torch.equal(made[~above], smoothed[~above])


@pytest.mark.parametrize(
    ("options", "said"), [({"method": "median"}, "'median'"), ({"strength": 0}, "strength 0")]
)
def test_a_wrong_option_is_refused_with_its_value(options, said):
    with pytest.raises(EditError, match=said):
        smoothing.smooth(torch.rand(1, 4, 4), **options)
