import numpy as np
import pytest
import torch
from skimage import metrics

from editkit.models import measures
from editkit.models.errors import EditError
from editkit.models.kontext import roundtrip


def pair(size=(67, 91), noise=0.1):
    random = torch.Generator().manual_seed(0)
    one = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9, generator=random), size, mode="bicubic").clamp(0, 1)
    return one, (one + noise * (torch.rand(one.shape, generator=random) - 0.5)).clamp(0, 1)


def test_the_numbers_are_scikit_images():
    one, other = pair()
    for row, a, b in zip(roundtrip.measured(one, other), one, other, strict=True):
        a, b = (x.movedim(0, -1).numpy() for x in (a, b))
        assert row[0] == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=1), abs=1e-3)
        grey = [(x.astype(np.float64) @ measures.LUMA.astype(np.float64)) for x in (a, b)]
        reference, full = metrics.structural_similarity(
            *grey, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)  # fmt: skip
        assert row[1] == pytest.approx(full.mean(), abs=2e-3)  # it mirrors the border with its outermost pixel doubled
        inner = np.zeros(full.shape, bool)
        inner[5:-5, 5:-5] = True
        assert measures.ssim(a, b, inner) == pytest.approx(reference, abs=1e-5)


def test_the_difference_is_shown_as_many_times_as_asked():
    one, other = pair()
    shown = roundtrip.difference(one, other, 4.0)
    assert torch.allclose(shown, (4 * (one - other).abs()).clamp(max=1)) and float(shown.max()) > 0.15
    assert float(roundtrip.difference(one, one, 100.0).max()) == 0


def test_the_report_has_a_line_for_each_picture_and_the_mean():
    text = roundtrip.report([(30.0, 0.9), (20.0, 0.8)], (10, 20))
    assert text.splitlines()[0] == "VAE round-trip at 20x10 px: PSNR 25.00 dB, SSIM 0.8500"
    assert text.splitlines()[2] == "picture 2: PSNR 20.00 dB, SSIM 0.8000"
    assert len(roundtrip.report([(30.0, 0.9)], (10, 20)).splitlines()) == 1


def test_a_vae_that_gives_nan_is_named():
    one, other = pair()
    other[0, 0, 0, 0] = float("nan")
    with pytest.raises(EditError, match="fp32 or bf16"):
        roundtrip.measured(one, other)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (4, 4)])
def test_small_pictures_are_measured_too(size):
    one, other = pair(size)
    assert all(np.isfinite(row).all() and row[1] <= 1 + 1e-5 for row in roundtrip.measured(one, other))
