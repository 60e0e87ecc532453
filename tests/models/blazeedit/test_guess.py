import torch

from editkit.models.blazeedit import guess


def hole(h, w, box):
    mask = torch.zeros(1, h, w)
    mask[:, box[0] : box[1], box[2] : box[3]] = 1
    return mask


def test_the_membrane_recovers_a_harmonic_function():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    truth = (0.5 + 0.2 * x * y + 0.1 * x)[None, None].expand(1, 3, -1, -1)  # Δ = 0
    mask = hole(64, 64, (20, 44, 24, 40))
    filled = guess.membrane(torch.where(mask[:, None] > 0, torch.zeros_like(truth), truth), mask)
    assert float((filled - truth).abs().max()) < 0.01


def test_the_membrane_leaves_known_pixels_bit_identical_and_ignores_the_hole():
    g = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 3, 50, 70, generator=g), hole(50, 70, (10, 30, 20, 50)).expand(2, -1, -1)
    filled = guess.membrane(image, mask)
    keep = (mask == 0)[:, None].expand_as(image)
    assert torch.equal(filled[keep], image[keep])
    other = torch.where(mask[:, None] > 0, torch.rand(2, 3, 50, 70, generator=g), image)
    assert torch.equal(guess.membrane(other, mask), filled)


def test_an_all_hole_picture_and_one_pixel_come_out_finite():
    assert torch.allclose(
        guess.membrane(torch.zeros(1, 3, 20, 20), torch.ones(1, 20, 20)), torch.full((1, 3, 20, 20), 0.5)
    )
    assert guess.membrane(torch.rand(1, 3, 1, 1), torch.zeros(1, 1, 1)).isfinite().all()


def test_a_stretch_takes_a_flat_picture_to_the_full_range():
    ramp = torch.linspace(0.3, 0.6, 10000).view(1, 1, 100, 100).expand(1, 3, -1, -1)
    out = guess.luminance_stretch(ramp)
    assert float(out.min()) == 0 and float(out.max()) == 1
    limited = guess.luminance_stretch(ramp, limit=2.0)
    assert float(limited.max()) < 0.62  # the factor is 2, not 3.3


def test_a_partial_stretch_lies_between_and_pictures_do_not_mix_in_a_batch():
    g = torch.Generator().manual_seed(0)
    a, b = 0.2 + 0.3 * torch.rand(1, 3, 40, 40, generator=g), torch.rand(1, 3, 40, 40, generator=g)
    both = guess.partial_stretch(torch.cat([a, b]), 0.5)
    assert torch.allclose(both[:1], 0.5 * (a + guess.luminance_stretch(a)))
    assert torch.allclose(both[1:], guess.partial_stretch(b, 0.5))


def test_a_sticker_guess_is_more_colourful():
    x = torch.full((1, 3, 32, 32), 0.4)
    x[:, 0] = 0.6
    out = guess.sticker_guess(x)
    assert float(out[0, 0].mean() - out[0, 1].mean()) > 0.22
