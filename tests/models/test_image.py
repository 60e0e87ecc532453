import pytest
import torch

from editkit.models import image as images
from editkit.models.errors import EditError


def random_image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_to_host_undoes_from_host_with_and_without_alpha():
    for channels in (3, 4):
        x = random_image(2, 5, 7, channels)
        assert torch.equal(images.to_host(*images.from_host(x)), x)


def test_grey_becomes_three_equal_channels():
    rgb, alpha = images.from_host(random_image(1, 4, 4, 1))
    assert alpha is None and torch.equal(rgb[:, 0], rgb[:, 2]) and rgb.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("bad", [torch.zeros(4, 4, 3), torch.zeros(1, 4, 4, 2), torch.zeros(1, 0, 4, 3)])
def test_other_shapes_are_refused(bad):
    with pytest.raises(EditError, match="shape"):
        images.from_host(bad)


def test_nan_is_refused():
    x = torch.zeros(1, 2, 2, 3)
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(EditError, match="NaN"):
        images.from_host(x)


def test_srgb_and_linear_light_are_inverse():
    x = torch.linspace(0, 1, 256)
    assert torch.allclose(images.linear_to_srgb(images.srgb_to_linear(x)), x, atol=1e-6)
    assert float(images.srgb_to_linear(torch.tensor(0.5))) == pytest.approx(0.2140, abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (17, 23), (16, 32)])
def test_padding_is_undone_exactly(size):
    x = random_image(1, 3, *size)
    padded, padding = images.pad_to_multiple(x, 16)
    assert padded.shape[-1] % 16 == 0 and padded.shape[-2] % 16 == 0
    assert torch.equal(images.unpad(padded, padding), x)


def test_resizing_keeps_a_constant_and_the_range():
    flat = torch.full((1, 3, 9, 9), 0.3)
    for mode in ("bicubic", "bilinear", "area", "nearest"):
        assert torch.allclose(images.resize(flat, (20, 5), mode), torch.full((1, 3, 20, 5), 0.3), atol=1e-6)
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    up = images.resize(step, (40, 40))
    assert float(up.min()) >= 0 and float(up.max()) <= 1
