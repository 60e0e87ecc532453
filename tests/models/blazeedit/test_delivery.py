import torch

from editkit.models.blazeedit import delivery
from editkit.models.blazeedit.cutout import die_cut, margin


def picture(h=40, w=50, seed=0):
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(seed))


def test_a_quadratic_colour_map_is_recovered():
    g = torch.Generator().manual_seed(1)
    true = torch.zeros(1, 10, 3)
    true[0, 1:4] = torch.eye(3)
    true += 0.1 * torch.randn(1, 10, 3, generator=g)
    x = picture(80, 80)
    target = delivery.apply_colour_map(x, true)
    fitted = delivery.fit_colour_map(x, target)
    assert float((delivery.apply_colour_map(x, fitted) - target).abs().max()) < 0.02


def test_fitting_nothing_gives_the_identity():
    x = picture()
    assert torch.allclose(delivery.apply_colour_map(x, delivery.fit_colour_map(x, x)), x, atol=1e-5)


def test_strips_are_the_whole(monkeypatch):
    x, gain = picture(70, 30), 0.4 * picture(70, 30, 2)
    small = 0.3 * picture(12, 12, 3)
    coefficients = delivery.fit_colour_map(x, x**1.2)
    whole = (
        delivery.apply_colour_map(x, coefficients),
        delivery.apply_gain(x, gain),
        delivery.upsample_gain(small, x),
    )
    monkeypatch.setattr(delivery, "STRIP", 16)
    parts = (
        delivery.apply_colour_map(x, coefficients),
        delivery.apply_gain(x, gain),
        delivery.upsample_gain(small, x),
    )
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_gain_of_exactly_0_leaves_pixels_bit_identical():
    x, gain = picture(), torch.zeros(1, 3, 40, 50)
    gain[..., 25:] = 0.5
    out = delivery.apply_gain(x, gain)
    assert torch.equal(out[..., :25], x[..., :25]) and bool((out[..., 25:] >= x[..., 25:]).all())


def test_small_gains_fade_to_exactly_0_and_large_ones_stay():
    gain = torch.tensor([0.0, 0.05, 0.2, 1.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert delivery.fade_gain(gain)[0, 0, 0].tolist()[:2] == [0.0, 0.0]
    assert torch.equal(delivery.fade_gain(gain)[..., 2:], gain[..., 2:])


def test_a_constant_gain_survives_upsampling():
    assert torch.allclose(
        delivery.upsample_gain(torch.full((1, 3, 8, 8), 0.7), picture()),
        torch.full((1, 3, 40, 50), 0.7),
        atol=1e-4,
    )


def test_seam_correction_takes_a_constant_error_away():
    x = picture()
    hole = torch.zeros(1, 40, 50)
    hole[:, 10:30, 10:40] = 1
    corrected = delivery.seam_correction(x + 0.1, x, hole)
    assert torch.allclose(corrected, x, atol=2e-3)


def test_border_and_shadow_depend_on_the_mask_alone():
    mask = torch.zeros(1, 40, 50)
    mask[:, 12:28, 15:35] = 1
    a, b = die_cut(picture(seed=0), mask, 4), die_cut(picture(seed=9), mask, 4)
    m = margin(4, True)
    assert a.shape == (1, 4, 40 + 2 * m, 50 + 2 * m)
    assert torch.equal(a[:, 3], b[:, 3])
    subject = torch.nn.functional.pad(mask, (m, m, m, m))[:, None] > 0
    assert torch.equal(a.where(~subject, torch.zeros(())), b.where(~subject, torch.zeros(())))
    ring = a[0, :, m + 10, m + 25]  # 2 px above the subject: white border
    assert bool((ring > 0.99).all())
