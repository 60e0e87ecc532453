import torch

from editkit.models.filters import Enlarged


def test_a_window_of_an_enlarged_map_is_that_part_of_the_whole_enlargement():
    small = torch.rand(1, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(small, (40, 61), mode="bilinear", align_corners=False)
    part = Enlarged(small, (40, 61)).window(slice(11, 29), slice(5, 60))
    assert torch.allclose(part, whole[..., 11:29, 5:60], atol=1e-5)
    assert torch.equal(Enlarged(small, (7, 9)).window(slice(2, 5)), small[..., 2:5, :])
