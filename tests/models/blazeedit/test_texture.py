import torch

from editkit.models.blazeedit.guess import membrane
from editkit.models.blazeedit.texture import coherent_copy


def striped(size=128, period=16):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = 0.5 + 0.3 * torch.sin(2 * torch.pi * x / period) * torch.sin(2 * torch.pi * y / period)
    return wave[None, None].expand(1, 3, -1, -1).contiguous()


def centre_hole(size=128):
    hole = torch.zeros(1, size, size)
    hole[:, 48:80, 48:80] = 1
    return hole


def test_a_repeating_texture_is_continued():
    photo, hole = striped(period=8), centre_hole()
    guide = membrane(photo, hole)
    filled = coherent_copy(photo, hole, guide, sigma=3.0, gain=1.0)
    inside = (hole > 0)[:, None].expand_as(photo)
    before = (guide - photo)[inside].square().mean()
    assert float((filled - photo)[inside].square().mean()) < 0.35 * float(before)


def test_outside_the_hole_the_photo_is_bit_identical():
    photo, hole = striped(), centre_hole()
    filled = coherent_copy(photo, hole, membrane(photo, hole))
    outside = (hole == 0)[:, None].expand_as(photo)
    assert torch.equal(filled[outside], photo[outside])


def test_what_lies_in_the_hole_is_never_copied():
    photo, hole = striped(), centre_hole()
    guide = membrane(photo, hole)
    other = torch.where(hole[:, None] > 0, torch.zeros_like(photo), photo)
    assert torch.allclose(coherent_copy(photo, hole, guide), coherent_copy(other, hole, guide), atol=1e-5)


def test_where_nothing_is_known_the_guide_alone_stays():
    photo, hole = striped(64), torch.ones(1, 64, 64)
    guide = torch.full_like(photo, 0.4)
    assert torch.equal(coherent_copy(photo, hole, guide), guide)


def test_copied_texture_is_no_stronger_than_the_surroundings():
    """A hole in a faint pattern, with the same pattern ten times stronger elsewhere in the picture."""
    photo, hole = striped(period=8), centre_hole()
    strength = torch.full_like(photo[:, :1], 0.1)
    strength[..., :24] = 1.0
    photo = 0.5 + (photo - 0.5) * strength
    filled = coherent_copy(photo, hole, membrane(photo, hole), gain=1.0)
    assert float((filled - 0.5)[:, :, 52:76, 52:76].abs().mean()) < 1.5 * 0.1 * 0.3 * 4 / torch.pi**2


def test_holes_at_the_border_and_holes_that_are_nearly_all_of_the_picture():
    photo = torch.rand(2, 3, 90, 120, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(2, 90, 120)
    hole[0, :40, :30] = 1
    hole[1, :, 8:] = 1
    filled = coherent_copy(photo, hole, membrane(photo, hole))
    outside = (hole == 0)[:, None].expand_as(photo)
    assert bool(filled.isfinite().all()) and torch.equal(filled[outside], photo[outside])
    alone = coherent_copy(photo[:1], hole[:1], membrane(photo, hole)[:1])
    assert torch.equal(filled[:1], alone)


def test_a_large_hole_gets_its_fine_texture_from_the_full_picture():
    """From sigma 8 on the smooth part is worked out on a smaller canvas; what is copied stays as fine and as strong."""
    torch.manual_seed(0)
    photo = (0.5 + 0.2 * torch.randn(1, 1, 320, 320)).clamp(0, 1).expand(1, 3, -1, -1).contiguous()
    hole = torch.zeros(1, 320, 320)
    hole[:, 120:200, 120:200] = 1
    filled = coherent_copy(photo, hole, membrane(photo, hole), sigma=12.0, gain=1.0)
    inside, outside = filled[..., 130:190, 130:190], photo[..., :100, :]
    step = [float(x.diff(dim=-1).abs().mean()) for x in (inside, outside)]
    assert 0.7 * step[1] < step[0] < 1.2 * step[1]
    assert torch.equal(filled[..., :120, :], photo[..., :120, :])


def test_a_thin_hole_that_leaves_no_whole_cell_unknown_is_filled():
    photo = torch.rand(1, 3, 200, 400, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros(1, 200, 400)
    hole[:, :, 397:] = 1
    filled = coherent_copy(photo, hole, torch.full_like(photo, 0.5), sigma=16.0)
    assert bool(filled.isfinite().all()) and torch.equal(filled[..., :397], photo[..., :397])


def test_every_part_of_a_long_strip_is_textured():
    """Three stretches of ground along the strip, the middle one next to something else: no offset explains them all."""
    torch.manual_seed(0)
    ground = torch.full((1, 1, 480, 200), 0.7)
    ground[:, :, 160:320] = 0.4
    photo = (ground + 0.1 * torch.randn(1, 1, 480, 200)).expand(1, 3, -1, -1).clone()
    photo[:, :, 200:280, 60:130] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]  # a red thing at the border
    guide = ground.expand(1, 3, -1, -1).clone()
    hole = torch.zeros(1, 480, 200)
    hole[:, :, 130:] = 1
    filled = coherent_copy(photo, hole, guide, sigma=2.0, gain=1.0)
    for rows in (slice(10, 150), slice(170, 310), slice(330, 470)):
        strength = (filled - guide)[:, :, rows, 140:].abs().mean(1)
        assert float(strength.mean()) > 0.03
        assert (
            float((strength.unfold(1, 20, 20).unfold(2, 20, 20).mean((-1, -2)) > 0.015).float().mean()) > 0.9
        )
