import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.swiftedit.picture import fit


@pytest.mark.parametrize(("height", "width"), [(64, 64), (333, 127), (1000, 3000), (20, 700)])
def test_a_picture_keeps_its_shape_within_the_area_asked_for(height, width):
    fitted = fit(torch.rand(1, 3, height, width), 256)
    inner, cells = fitted.inner, fitted.cells
    assert inner[0] * inner[1] == pytest.approx(256**2, rel=0.05)
    assert inner[1] / inner[0] == pytest.approx(width / height, rel=0.05)
    assert (cells[0] * 8, cells[1] * 8) == tuple(fitted.pixels.shape[-2:])
    assert fitted.padding.right < 8 and fitted.padding.bottom < 8


def test_side_0_keeps_every_pixel():
    picture = torch.rand(2, 3, 61, 83)
    fitted = fit(picture, 0)
    assert torch.equal(fitted.pixels[..., :61, :83], picture)
    assert torch.equal(fitted.restored(fitted.pixels), picture)


def test_a_decoded_picture_comes_back_at_the_original_size():
    fitted = fit(torch.rand(1, 3, 301, 199), 128)
    assert tuple(fitted.restored(fitted.pixels).shape) == (1, 3, 301, 199)


def test_a_mask_of_another_size_follows_the_picture():
    fitted = fit(torch.rand(1, 3, 300, 200), 128)
    mask = torch.zeros(1, 30, 20)
    mask[:, :15] = 1
    inside = fitted.mask_in(mask)
    height, width = fitted.pixels.shape[-2:]
    assert tuple(inside.shape) == (1, height, width)
    assert inside[:, : height // 2 - 8].min() > 0.99 and inside[:, height // 2 + 8 :].max() < 0.01


def test_a_thin_stroke_is_not_lost_on_the_way_down():
    fitted = fit(torch.rand(1, 3, 1024, 1024), 64)
    mask = torch.zeros(1, 1024, 1024)
    mask[:, :, 500:504] = 1
    assert float(fitted.mask_in(mask).sum()) == pytest.approx(4 * 1024 / 256, rel=0.01)


def test_cells_of_a_mask_come_out_as_they_are_or_smooth():
    fitted = fit(torch.rand(1, 3, 64, 64), 0)
    cells = (torch.rand(1, *fitted.cells) > 0.5).float()
    hard, smooth = fitted.mask_out(cells), fitted.mask_out(cells, smooth=True)
    assert torch.equal(torch.nn.functional.avg_pool2d(hard, 8), cells)
    assert 0 < ((smooth > 0.1) & (smooth < 0.9)).float().mean()


def test_a_side_too_small_for_the_networks_is_refused_with_its_value():
    with pytest.raises(EditError, match="32"):
        fit(torch.rand(1, 3, 64, 64), 32)
