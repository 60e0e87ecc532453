"""Colours as the eye sees them: CIE L*a*b* and the difference CIEDE2000; and the colours of heat maps."""

import math

import torch
from torch import Tensor

from .image import linear_to_srgb, srgb_to_linear

# linear sRGB to XYZ (IEC 61966-2-1), and its white, D65 for the 2° observer
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)
OKLAB_TO_CONES = (
    (1, 0.3963377774, 0.2158037573), (1, -0.1055613458, -0.0638541728), (1, -0.0894841775, -1.2914855480),
)  # fmt: skip
CONES_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292), (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)  # fmt: skip


def to_lab(rgb: Tensor) -> Tensor:
    """sRGB [..., 3] in 0..1 to CIE L*a*b* of the same shape (L* 0..100), in float64."""
    linear = srgb_to_linear(rgb.double())
    xyz = linear @ torch.tensor(TO_XYZ, dtype=torch.float64, device=rgb.device).T
    t = xyz / torch.tensor(WHITE, dtype=torch.float64, device=rgb.device)
    f = torch.where(t > (6 / 29) ** 3, t.clamp_min(1e-12) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ciede2000(one: Tensor, other: Tensor) -> Tensor:
    """The difference CIEDE2000 of L*a*b* colours [..., 3]: [...]. 1 is about what an eye just sees.

    Sharma, Wu and Dalal 2005, Eqs. 2 to 22, with k_L = k_C = k_H = 1.
    """
    (l1, a1, b1), (l2, a2, b2) = one.unbind(-1), other.unbind(-1)
    mean = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    stretch = 1 + 0.5 * (1 - _seventh(mean))  # 1 + G
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(b, a) % (2 * math.pi) for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0  # a grey has no hue
    turn = (h2 - h1 + math.pi) % (2 * math.pi) - math.pi
    turn = torch.where(grey, 0.0, turn)
    hue = torch.where(grey, h1 + h2, _mean_hue(h1, h2))
    dl, dc, dh = l2 - l1, c2 - c1, 2 * (c1 * c2).sqrt() * torch.sin(turn / 2)
    lightness, chroma = (l1 + l2) / 2 - 50, (c1 + c2) / 2
    s_l = 1 + 0.015 * lightness**2 / (20 + lightness**2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * _hue_weight(hue)
    blue = math.radians(60) * torch.exp(-(((torch.rad2deg(hue) - 275) / 25) ** 2))
    r_t = -torch.sin(blue) * 2 * _seventh(chroma)
    l, c, h = dl / s_l, dc / s_c, dh / s_h
    return (l**2 + c**2 + h**2 + r_t * c * h).clamp_min(0).sqrt()


def _seventh(chroma: Tensor) -> Tensor:
    return (chroma**7 / (chroma**7 + 25.0**7)).sqrt()


def _mean_hue(h1: Tensor, h2: Tensor) -> Tensor:
    """The mean of two angles on the shorter arc."""
    total = h1 + h2
    around = torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi)
    return torch.where((h1 - h2).abs() <= math.pi, total, around) / 2


def _hue_weight(hue: Tensor) -> Tensor:
    """T of Eq. 15."""
    first = 0.17 * torch.cos(hue - math.radians(30)) - 0.24 * torch.cos(2 * hue)
    return 1 - first + 0.32 * torch.cos(3 * hue + math.radians(6)) - 0.20 * torch.cos(4 * hue - math.radians(63))


def colours(maps: Tensor) -> Tensor:
    """Values 0..1 [b, h, w] as colours [b, 3, h, w]: dark violet, red, orange, pale yellow.

    A path through OKLab (Ottosson, 2020), where equal steps look equally large: lightness rises evenly from 0.2 to
    0.95, so the order survives in greyscale print and for colour-blind eyes; the hue turns from 285 to 470 degrees.
    """
    value = maps.clamp(0, 1)
    lightness, hue = 0.2 + 0.75 * value, torch.deg2rad(285 + 185 * value)
    chroma = 0.09 + 0.09 * torch.sin(torch.pi * value)  # sRGB can show it all along the path
    lab = torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()], dim=1)
    cones = torch.einsum("oi,bihw->bohw", lab.new_tensor(OKLAB_TO_CONES), lab) ** 3
    return linear_to_srgb(torch.einsum("oi,bihw->bohw", lab.new_tensor(CONES_TO_RGB), cones)).clamp(0, 1)
