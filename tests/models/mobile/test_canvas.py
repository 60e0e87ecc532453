import numpy as np
import pytest
import torch

from editkit.models.errors import EditError
from editkit.models.mobile.canvas import mirror, mirrored


def test_the_indices_run_forth_and_back_and_forth():
    assert mirror(3, 8).tolist() == [0, 1, 2, 2, 1, 0, 0, 1]
    assert mirror(1, 4).tolist() == [0, 0, 0, 0]
    assert mirror(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert mirror(5, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("height", "width"), [(24, 40), (1, 64), (64, 5), (7, 9)])
def test_a_picture_is_continued_as_numpys_symmetric_padding_continues_it(height, width):
    x = torch.rand(2, 3, height, width)
    wanted = np.pad(x.numpy(), [(0, 0), (0, 0), (0, 64 - height), (0, 64 - width)], mode="symmetric")
    made = mirrored(x, 64, 64)
    assert np.array_equal(made.numpy(), wanted) and torch.equal(made[..., :height, :width], x)


def test_a_picture_of_the_canvas_size_stays_the_same_tensor():
    x = torch.rand(1, 3, 64, 64)
    assert mirrored(x, 64, 64) is x


@pytest.mark.parametrize("shape", [(1, 3, 65, 64), (1, 3, 64, 65), (1, 72, 8)])
def test_a_larger_picture_is_refused_with_both_sizes(shape):
    with pytest.raises(EditError, match=rf"{shape[-1]}x{shape[-2]} px does not fit .* 64x64.*--sizes"):
        mirrored(torch.zeros(shape), 64, 64)
