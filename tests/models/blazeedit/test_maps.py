import torch

from editkit.models.blazeedit import delivering, maps
from editkit.models.region import Crop


def test_only_a_gain_that_touches_the_hole_counts_as_its_shadow():
    gain, hole = torch.zeros(1, 3, 48, 48), torch.zeros(1, 48, 48)
    hole[:, 10:18, 10:18] = 1
    gain[..., 16:30, 12:16] = 0.5  # begins at the hole
    gain[..., 36:44, 36:44] = 0.5  # lies elsewhere
    kept = maps.attached(gain, hole)
    assert float(kept[0, 0, 26, 13]) > 0.9 and float(kept[0, 0, 40, 40]) < 1e-6


def test_white_stays_white_and_middle_tones_keep_their_map():
    image = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    white = torch.full((1, 3, 1, 1), 0.8)  # the map darkens pure white to 0.8
    lift = maps.highlights(image, white)
    assert torch.allclose(lift[..., 0], torch.full((1, 3, 1), 0.2)) and float(lift[..., 1].max()) < 1 / 255
    assert float(maps.highlights(image, torch.full((1, 3, 1, 1), 1.2)).abs().max()) == 0


def test_a_map_that_greys_white_is_weakened_and_a_milder_one_is_not():
    image = torch.linspace(0, 0.8, 5).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    for scale, share in ((0.6, maps.WHITE_DROP / 0.4), (0.95, 1.0)):
        darker = torch.zeros(1, 10, 3)
        darker[0, 1:4] = scale * torch.eye(3)  # every colour times `scale`
        out = delivering._recoloured(image, darker)
        expected = image + share * (scale * image + (1 - scale) * image**maps.HIGHLIGHTS - image)
        assert torch.allclose(out, expected, atol=1e-5)


def test_a_gain_fades_before_the_crop_ends_but_not_at_the_picture_s_own_border():
    crop, image = torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 100, 100)
    taper = maps._taper(crop, Crop(0, 30, 40, 40), image)
    assert (
        float(taper[0, 0, 0, 20]) == 1
        and float(taper[0, 0, -1, 20]) < 0.2
        and float(taper[0, 0, 20, 0]) < 0.2
    )
